"""One's own feature extractor: a .keras file, or a SavedModel.

A .keras file is data: it is loaded in Keras' safe mode, which refuses Lambda layers and classes that are not Keras'
own. Whole models in the older .h5 format are refused, for Keras has no safe mode for them. A SavedModel is a program of
TensorFlow operators: those that run Python, or touch files or the network, are refused before it is loaded. That is a
list of what is known to be harmful and no proof that the rest is harmless: take SavedModels only from whom you trust.
"""

from pathlib import Path

from pipeline.backbones.applications import normalized
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.backbones.weight_files import checked_path
from pipeline.config.backbone import BackboneConfig
from pipeline.errors import PipelineError

_GRAPH = "saved_model.pb"
_ENDPOINT = "serving_default"
# Operators of TensorFlow that reach outside the graph. Saving and restoring its own variables is what a SavedModel does
# when it is loaded (RestoreV2), and not among them.
_HARMFUL = (
    *("PyFunc", "EagerPyFunc", "PyFuncStateless"),
    *("ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "Save", "SaveSlices", "DebugIdentityV2"),
    *("TextLineReaderV2", "WholeFileReaderV2", "TFRecordReaderV2", "TFRecordDataset", "TextLineDataset"),
    *("FixedLengthRecordDataset", "RpcClient", "RpcCall", "SendTPUEmbeddingGradients", "Send", "Recv"),
)


def build(config: BackboneConfig, batch_size: int | None) -> keras.Model:
    """Build a backbone around a model of one's own.

    Args:
        config: `weights` is the path of the .keras file or of the SavedModel's folder; mean and std say what the model
            wants to be given: [0.0] and [1.0] if it takes pixels 0..255 and normalizes them itself.
        batch_size: Pictures a call; None for any number.

    Returns:
        A model from "image", uint8 [batch_size, input_pixels, input_pixels, 3], RGB 0..255, to "features". An output
        of feature maps is averaged over the picture.

    Raises:
        PipelineError: There is no such model, its hash is another one, it might run code, it is damaged, or it takes or
            gives something else.
    """
    path = checked_path(config)
    pixels = config.input_pixels
    image = keras.Input((pixels, pixels, 3), batch_size=batch_size, dtype="uint8", name="image")
    extractor = _saved_model(path) if path.is_dir() else _keras_file(path)
    try:
        outputs = keras.tree.flatten(extractor(normalized(image, config)))
    except Exception as error:  # whatever a model of somebody else's does when it is called
        raise _unfit(path, f"it does not take a float32 picture [1, {pixels}, {pixels}, 3]: {_line(error)}") from error
    if len(outputs) != 1 or len(outputs[0].shape) not in (2, 4):
        raise _unfit(path, f"its outputs have the shapes {', '.join(str(output.shape) for output in outputs)}")
    is_maps = len(outputs[0].shape) == 4
    last = keras.layers.GlobalAveragePooling2D if is_maps else keras.layers.Identity
    return keras.Model(image, last(name="features")(outputs[0]), name="keras_file")


def _keras_file(path: Path) -> keras.Model:
    if path.suffix != ".keras":
        raise _unfit(path, "it is no .keras file (other files of whole models can run code when they are loaded)")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # garbage raises almost anything
        raise _unfit(path, _line(error)) from error


def _saved_model(path: Path) -> keras.layers.Layer:
    _check_operators(path)
    try:
        return keras.layers.TFSMLayer(str(path), call_endpoint=_ENDPOINT)
    except Exception as error:
        raise _unfit(path, _line(error)) from error


def _check_operators(path: Path) -> None:
    """Refuse a SavedModel with operators that reach outside of it; nothing is loaded or run for that."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415 - not before TensorFlow is silenced

    file = path / _GRAPH
    if not file.is_file():
        raise _unfit(path, f"there is no {_GRAPH} in it")
    try:
        graphs = [meta.graph_def for meta in SavedModel.FromString(file.read_bytes()).meta_graphs]
    except Exception as error:
        raise _unfit(file, _line(error)) from error
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    harmful = sorted({node.op for node in nodes} & set(_HARMFUL))
    if harmful:
        raise _unfit(path, f"it has operators that run Python or reach files or the network: {', '.join(harmful)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _unfit(path: Path, reason: str) -> PipelineError:
    return PipelineError(
        found=f"{path}: {reason}",
        expected="a .keras file or a SavedModel's folder: one picture in, one feature vector (or feature maps) out, "
        "built of Keras' own layers without Lambda",
        remedy='save the feature extractor with `model.save("name.keras")`, or export it with `model.export(folder)`',
    )
