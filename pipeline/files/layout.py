"""Where things lie, relative to the project's folder. Paths stand here and in dvc.yaml; a test compares the two."""

from pathlib import Path

VIDEOS = Path("data/videos")
PHOTOS = Path("data/photos")
CALIBRATION = Path("data/calibration")
SPLITS = Path("data/splits.csv")
FRAMES = Path("data/frames")
AUGMENTED = Path("data/augmented")
ARCHITECTURE = Path("models/backbone/architecture.yaml")
CONVERTED_BACKBONE = Path("models/head/converted.tflite")
FINETUNED = Path("models/finetune")
FINETUNE_CURVES = Path("plots/finetune/curves.csv")
GATE = Path("models/gate.json")
DEPLOYED = Path("models/deployed")
DEPLOYED_METRICS = Path("metrics/deployed.json")
PICTURES = Path("plots/pictures")
TENSORBOARD = Path(".tensorboard")

REFERENCE_SCHEME = "float32"


def converted_backbone(mode: str) -> Path:
    """Return the float backbone that the schemes are made from: as it came (`head`), or fine-tuned (`finetune`)."""
    return Path("models") / mode / "converted.tflite"


def bottlenecks(scheme: str) -> Path:
    """Return the folder of a scheme's bottlenecks, which has frames/ and augmented/, each <label>/<take>.parquet."""
    return Path("data/bottlenecks") / scheme


def backbone(scheme: str) -> Path:
    """Return the quantized backbone."""
    return Path("models/backbone") / f"{scheme}.tflite"


def head(scheme: str) -> Path:
    """Return the trained head."""
    return Path("models/heads") / f"{scheme}.keras"


def training_curves(scheme: str) -> Path:
    """Return the table of losses and accuracies while the head was trained."""
    return Path("plots/training") / f"{scheme}.csv"


def model(scheme: str) -> Path:
    """Return the classifier: backbone and head in one file."""
    return Path("models") / scheme / "model.tflite"


def labels(scheme: str) -> Path:
    """Return the label names, one a line, in the order of the model's output."""
    return Path("models") / scheme / "labels.txt"


def metrics(scheme: str) -> Path:
    """Return a scheme's metrics."""
    return Path("metrics") / f"{scheme}.json"


def predictions(scheme: str) -> Path:
    """Return the table of predictions for each test frame."""
    return Path("plots/evaluation") / scheme / "predictions.csv"


def confusion(scheme: str) -> Path:
    """Return the confusion matrix as a table of counts."""
    return Path("plots/evaluation") / scheme / "confusion.csv"
