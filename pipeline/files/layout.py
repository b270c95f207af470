"""Where things lie, relative to the project's folder. Paths stand here and in dvc.yaml; a test compares the two."""

from pathlib import Path

VIDEOS = Path("data/videos")
PHOTOS = Path("data/photos")
CALIBRATION = Path("data/calibration")
STRANGERS = Path("data/strangers")
SPLITS = Path("data/splits.csv")
LABELS = Path("data/labels.csv")
FRAMES = Path("data/frames")
FRAMES_KEYS = Path("build/takes/frames.json")
AUGMENTED = Path("data/augmented")
AUGMENTED_KEYS = Path("build/takes/augmented.json")
STATISTICS = Path("data/statistics")
STATISTICS_KEYS = Path("build/takes/statistics.json")
ARCHITECTURE = Path("models/backbone/architecture.yaml")
CONVERTED_BACKBONE = Path("models/backbone/converted.tflite")
TUNED_BACKBONE = Path("models/backbone/tuned.tflite")
FINETUNE_CURVES = Path("plots/finetune/curves.csv")
CODE = Path("build/code")
CHECKED = Path("build/checked")
GATE = Path("build/gate.json")
DEPLOYED = Path("models/deployed")
PRETRAINED = Path("models/pretrained")
TRAINABLE = Path("models/trainable")
FEDERATED = Path("models/federated")
IMAGENET_CLASSES = Path("data/imagenet_classes.txt")
EVALUATIONS = Path("build/evaluation")
SCHEMES_METRICS = Path("metrics/schemes")
DEPLOYED_METRICS = Path("metrics/deployed.json")
PICTURES = Path("plots/pictures")
INSPECTED = Path("build/inspect.json")
INSPECTION = Path("plots/inspect")
TENSORBOARD = Path(".tensorboard")

REFERENCE_SCHEME = "float32"


def code(stage: str) -> Path:
    """Return what tells DVC which code a stage uses."""
    return CODE / f"{stage}.json"


def bottlenecks(scheme: str) -> Path:
    """Return the folder of a scheme's bottlenecks, which has frames/ and augmented/, each <label>/<take>.parquet."""
    return Path("data/bottlenecks") / scheme


def bottlenecks_keys(scheme: str) -> Path:
    """Return what names the key of each table of bottlenecks."""
    return Path("build/takes/bottlenecks") / f"{scheme}.json"


def backbone(scheme: str) -> Path:
    """Return the quantized backbone."""
    return Path("models/backbone") / f"{scheme}.tflite"


def calibration_record(scheme: str) -> Path:
    """Return the table of the train frames that a scheme was calibrated on, if it was."""
    return Path("build/calibration") / f"{scheme}.csv"


def head(scheme: str) -> Path:
    """Return the trained head."""
    return Path("models/heads") / f"{scheme}.safetensors"


def held_out_head(scheme: str) -> Path:
    """Return a head that has never seen the test takes."""
    return Path("models/heads/held_out") / f"{scheme}.safetensors"


def further_heads(scheme: str) -> Path:
    """Return the folder of the heads beside the first: <head>.safetensors, held_out/ likewise, and index.json."""
    return Path("models/multihead") / scheme


def further_plots(scheme: str) -> Path:
    """Return the folder with a table for each further head, like `crossval_predictions`."""
    return Path("plots/multihead") / scheme


def further_figures(scheme: str) -> Path:
    """Return kind and figures of each further head."""
    return Path("build/multihead") / f"{scheme}.json"


def crossval_probabilities(scheme: str) -> Path:
    """Return the probabilities behind `crossval_predictions`, float32 [num_frames, num_labels], as NumPy's file."""
    return Path("build/crossval") / f"{scheme}.npy"


def crossval_predictions(scheme: str) -> Path:
    """Return the table of what each frame is taken for by a head that was trained without its take."""
    return Path("plots/crossval") / scheme / "predictions.csv"


def learning_curve(scheme: str) -> Path:
    """Return the table of accuracies by the share of takes that heads were trained on."""
    return Path("plots/crossval") / scheme / "learning.csv"


def crossval_unknown(scheme: str) -> Path:
    """Return the table of what heads say about pictures that show none of their labels, beside their own frames."""
    return Path("plots/crossval") / scheme / "unknown.csv"


def crossval_figures(scheme: str) -> Path:
    """Return the figures of cross-validation, with their intervals."""
    return Path("build/crossval") / f"{scheme}.json"


def training_curves(scheme: str) -> Path:
    """Return the table of how the head was trained: by strength of regularization, or by step."""
    return Path("plots/training") / f"{scheme}.csv"


def model(scheme: str) -> Path:
    """Return the classifier: backbone and head in one file."""
    return Path("models/classifiers") / scheme / "model.tflite"


def labels(scheme: str) -> Path:
    """Return the label names, one a line, in the order of the model's output."""
    return Path("models/classifiers") / scheme / "labels.txt"


def metrics(scheme: str) -> Path:
    """Return a scheme's metrics."""
    return SCHEMES_METRICS / f"{scheme}.json"


def evaluation(scheme: str) -> Path:
    """Return what the stage `evaluate` found about a model."""
    return EVALUATIONS / f"{scheme}.json"


def predictions(scheme: str) -> Path:
    """Return the table of predictions for each test frame."""
    return Path("plots/evaluation") / scheme / "predictions.csv"


def confusion(scheme: str) -> Path:
    """Return the confusion matrix as a table of counts."""
    return Path("plots/evaluation") / scheme / "confusion.csv"
