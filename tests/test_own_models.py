"""Models of one's own: honest ones pass, and every way out of a model is refused before anything of it runs."""

import json
import pathlib
import zipfile

import numpy as np
import pytest

from bench.architectures import pictures
from pipeline.backbones.build import build_backbone, convert, largest_difference
from pipeline.backbones.operators import ALLOWED, RESTORING, SAVING
from pipeline.backbones.quiet_tensorflow import keras, tensorflow
from pipeline.backbones.saved_model import check_saved_model
from pipeline.errors import ModelError
from tests.test_weights import at

PICTURE = tensorflow.TensorSpec((None, 32, 32, 3))


def own(path, **changes):
    return at(path, "own_model", **{"width": 1.0, "feature_length": 8, **changes})


def refused(config):
    with pytest.raises(ModelError) as caught:
        build_backbone(config)
    return caught.value


def features(image):
    """Stand in for a network."""
    return tensorflow.reduce_mean(image, (1, 2))


def saved(folder, body, **parts):
    """Save a model that does something before it computes features; return its folder."""
    module = tensorflow.Module()
    for name, part in parts.items():
        setattr(module, name, part)

    @tensorflow.function(input_signature=[PICTURE])
    def serve(image):
        with tensorflow.control_dependencies([result for result in [body()] if result is not None]):
            return features(image)

    tensorflow.saved_model.save(module, str(folder), signatures=serve)
    return folder


def refusal(folder):
    """Return what the check alone says: nothing is loaded."""
    with pytest.raises(ModelError) as caught:
        check_saved_model(folder)
    return caught.value


def edited(folder, edit):
    """Change the graph of a SavedModel by hand; return its folder."""
    # not before TensorFlow is silenced
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415

    file = folder / "saved_model.pb"
    content = SavedModel.FromString(file.read_bytes())
    edit(content.meta_graphs[0])
    file.write_bytes(content.SerializeToString())
    return folder


def number(text):
    """Let a model depend on what it has read."""
    return tensorflow.strings.length(text)


def table(path):
    """Look something up in a table that is made from a file."""
    raw = tensorflow.raw_ops
    handle = raw.HashTableV2(key_dtype=tensorflow.string, value_dtype=tensorflow.int64)
    return raw.InitializeTableFromTextFileV2(table_handle=handle, filename=path, key_index=-2, value_index=-1)


def reader(path):
    """Read a file as TensorFlow 1 did."""
    raw = tensorflow.raw_ops
    queue = raw.FIFOQueueV2(component_types=[tensorflow.string], shapes=[()])
    return raw.ReaderReadV2(reader_handle=raw.WholeFileReaderV2(), queue_handle=queue).value


def rows(path):
    """Ask a data base."""
    raw, name = tensorflow.raw_ops, tensorflow.constant
    return raw.SqlDataset(
        driver_name=name("sqlite"),
        data_source_name=name(path),
        query=name("select 1"),
        output_types=[tensorflow.int32],
        output_shapes=[()],
    )


def records(path):
    """Write a file of records."""
    data = tensorflow.raw_ops.TensorSliceDataset(components=[tensorflow.constant(["a"])], output_shapes=[()])
    return tensorflow.raw_ops.DatasetToTFRecord(input_dataset=data, filename=path, compression_type="")


def service(path):
    """Ask another machine for data."""
    data = tensorflow.data.experimental.service.from_dataset_id(
        "parallel_epochs", "grpc://127.0.0.1:9", "1", element_spec=tensorflow.TensorSpec(())
    )
    return data._variant_tensor


def summary(path):
    """Write a log for TensorBoard."""
    writer = tensorflow.raw_ops.SummaryWriter(shared_name="w")
    return tensorflow.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=path, max_queue=1, flush_millis=1, filename_suffix=""
    )


def save(path):
    """Save a checkpoint wherever it likes."""
    return tensorflow.raw_ops.SaveV2(prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[1.0])


def restore(path):
    """Read the checkpoint of another model."""
    return tensorflow.raw_ops.RestoreV2(
        prefix=path, tensor_names=["x"], shape_and_slices=[""], dtypes=[tensorflow.float32]
    )[0]


WAYS_OUT = {
    "ReadFile": lambda path: number(tensorflow.io.read_file(path)),
    "MatchingFiles": tensorflow.io.matching_files,
    "WholeFileReaderV2": reader,
    "InitializeTableFromTextFileV2": table,
    "TextLineDataset": lambda path: tensorflow.data.TextLineDataset(path)._variant_tensor,
    "RestoreV2": restore,
    "WriteFile": lambda path: tensorflow.io.write_file(path, "written"),
    "SaveV2": save,
    "DatasetToTFRecord": records,
    "CreateSummaryFileWriter": summary,
    "PrintV2": lambda path: tensorflow.print("written", output_stream=f"file://{path}"),
    "SqlDataset": rows,
    "EagerPyFunc": lambda path: tensorflow.py_function(lambda: pathlib.Path(path).touch(), [], []),
    "PyFunc": lambda path: tensorflow.numpy_function(lambda: pathlib.Path(path).touch(), [], []),
    "DataServiceDatasetV4": service,
}


@pytest.mark.parametrize("operator", WAYS_OUT)
def test_a_way_out_of_the_serving_function_is_refused(tmp_path, operator):
    error = refusal(saved(tmp_path / "evil", lambda: WAYS_OUT[operator](str(tmp_path / "victim"))))
    assert f"{operator} (in the function __inference_" in error.found
    assert error.found.endswith("nothing of it was run")
    assert "operators in pipeline/backbones/operators.py" in error.expected
    assert "model.export(folder)" in error.remedy
    assert not (tmp_path / "victim").exists()


def test_a_way_out_in_a_nested_function_is_refused(tmp_path):
    @tensorflow.function
    def inner():
        return number(tensorflow.io.read_file("/etc/hostname"))

    def outer():
        return tensorflow.cond(tensorflow.random.uniform(()) > 0.5, inner, lambda: 0)

    assert "ReadFile (in the function __inference_inner_" in refusal(saved(tmp_path / "evil", outer)).found


def test_a_way_out_in_the_initializer_is_refused(tmp_path):
    (tmp_path / "words.txt").write_text("ant\n")
    initializer = tensorflow.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"), tensorflow.string, 0, tensorflow.int64, -1, delimiter=" "
    )
    words = tensorflow.lookup.StaticHashTable(initializer, -1)
    found = refusal(saved(tmp_path / "evil", lambda: words.lookup(tensorflow.constant(["ant"])), words=words)).found
    assert "InitializeTableFromTextFileV2 (in the function __inference__initializer_" in found


def test_a_way_out_in_a_function_that_nobody_calls_is_refused(tmp_path):
    """TensorFlow runs ReadFile when it only loads such a function, to find a shape."""
    folder = saved(tmp_path / "evil", lambda: WAYS_OUT["ReadFile"]("/etc/hostname"))

    def forget(graph):
        for function in graph.graph_def.library.function:
            if any(node.op == "ReadFile" for node in function.node_def):
                function.signature.name = "unused"
        graph.object_graph_def.Clear()
        del graph.graph_def.node[:]

    assert "ReadFile (in the function unused)" in refusal(edited(folder, forget)).found


def test_an_operator_called_like_a_function_is_refused(tmp_path):
    folder = saved(tmp_path / "evil", lambda: None)

    def call(graph):
        graph.graph_def.node.add(name="call", op="PartitionedCall").attr["f"].func.name = "ReadFile"

    assert "a call of ReadFile (in the graph)" in refusal(edited(folder, call)).found


def with_variable(folder):
    return saved(folder, lambda: None, variable=tensorflow.Variable(1.0))


def restoring_function(graph):
    return next(f for f in graph.graph_def.library.function if "traced_restore" in f.signature.name)


def test_variables_from_another_folder_are_refused(tmp_path):
    def redirect(graph):
        function = restoring_function(graph)
        (node,) = [node for node in function.node_def if node.op == "RestoreV2"]
        constant = function.node_def.add(name="elsewhere", op="Const")
        constant.attr["dtype"].type = tensorflow.string.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto("elsewhere/variables"))
        node.input[0] = "elsewhere:output:0"

    assert (
        "RestoreV2 (in the function __inference__traced_restore"
        in refusal(edited(with_variable(tmp_path / "own"), redirect)).found
    )


@pytest.mark.parametrize("what", ["save", "restore"])
def test_the_savers_functions_called_from_elsewhere_are_refused(tmp_path, what):
    def call(graph):
        names = [f.signature.name for f in graph.graph_def.library.function]
        (saver,) = [name for name in names if f"traced_{what}" in name]
        (serve,) = [f for f in graph.graph_def.library.function if "signature_wrapper" in f.signature.name]
        serve.node_def.add(name="call", op="StatefulPartitionedCall").attr["f"].func.name = saver

    operator = "SaveV2" if what == "save" else "RestoreV2"
    assert f"{operator} (in the function" in refusal(edited(with_variable(tmp_path / "own"), call)).found


def test_the_saver_as_a_signature_is_refused(tmp_path):
    def offer(graph):
        graph.signature_def["serving_default"].outputs["x"].name = graph.saver_def.save_tensor_name

    assert "SaveV2 (in the function" in refusal(edited(with_variable(tmp_path / "own"), offer)).found


def test_many_operators_are_counted(tmp_path):
    def add(graph):
        for index in range(12):
            graph.graph_def.node.add(name=f"x{index}", op=f"Strange{index:02d}")

    found = refusal(edited(saved(tmp_path / "own", lambda: None), add)).found
    assert "Strange00 (in the graph), Strange01" in found
    assert " and 4 more; nothing of it was run" in found


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "there is no saved_model.pb in"), (b"\xff", "saved_model.pb cannot be read: "), (b"", "holds no graph")],
)
def test_what_is_no_saved_model_is_refused(tmp_path, content, found):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    error = refusal(tmp_path)
    assert found in error.found
    assert "export it again" in error.remedy


def test_every_allowed_operator_is_one_of_tensorflows():
    assert [name for name in (*ALLOWED, *SAVING, RESTORING) if not hasattr(tensorflow.raw_ops, name)] == []


def mobilenet():
    """An inverted residual, as in MobileNet V2."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, 2, "same", use_bias=False)(image)
    y = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
    y = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, padding="same")(y)))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 1, use_bias=False)(y))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y])))


def with_preprocessing():
    """A model that resizes and normalizes by itself, has feature maps, and drops out when it is trained."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Resizing(24, 24)(keras.layers.Rescaling(1 / 127.5, -1)(image))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, activation="swish")(x))
    return keras.Model(image, keras.layers.Dropout(0.5)(x))


@pytest.mark.parametrize("make", [mobilenet, with_preprocessing])
@pytest.mark.parametrize("how", ["export", "save"])
def test_an_honest_saved_model_passes(tmp_path, make, how):
    model = make()
    model.export(tmp_path, verbose=False) if how == "export" else tensorflow.saved_model.save(model, str(tmp_path))
    check_saved_model(tmp_path)


def test_a_saved_model_of_tensorflow_1_passes_and_its_restoring_is_its_own(tmp_path):
    v1, folder = tensorflow.compat.v1, tmp_path / "v1"
    with tensorflow.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tensorflow.float32, (None, 32, 32, 3))
        # Not random: where training ran before in this process, TensorFlow asks random operators for a seed.
        kernel = v1.get_variable("kernel", initializer=np.ones((3, 3, 3, 8), np.float32), use_resource=True)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(
            session, str(folder), {"image": image}, {"features": tensorflow.nn.conv2d(image, kernel, 2, "SAME")}
        )
    build_backbone(own(folder))

    def redirect(graph):
        (node,) = [node for node in graph.graph_def.node if node.op == "RestoreV2"]
        node.input[0] = "save/RestoreV2/tensor_names"

    assert "RestoreV2 (in the graph)" in refusal(edited(folder, redirect)).found


@keras.saving.register_keras_serializable(package="mine")
class Doubled(keras.layers.Layer):
    """A layer that nobody else has."""

    def call(self, x):
        return x * 2


@keras.saving.register_keras_serializable(package="mine")
def doubled(x, *_):
    return x * 2


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (lambda: keras.layers.Lambda(lambda x: x), "has the layer Lambda, Lambda;"),
        (Doubled, "has mine>Doubled, which is not Keras' own;"),
        (lambda: keras.layers.Conv2D(8, 3, activation=doubled), "has mine>doubled, which is not Keras' own;"),
    ],
)
def test_a_keras_file_with_foreign_code_is_refused(tmp_path, layer, found):
    image = keras.Input((32, 32, 3))
    path = tmp_path / "own.keras"
    keras.Model(image, layer()(image)).save(path)
    with pytest.raises(ModelError) as caught:
        build_backbone(own(path))
    assert f"{path} has " in caught.value.found
    assert found in caught.value.found
    assert "without Lambda" in caught.value.expected
    assert "model.export(folder)" in caught.value.remedy


def test_a_function_of_keras_that_is_no_layer_is_refused(tmp_path):
    """keras.utils.get_file would fetch a file of the model's choice."""
    path = tmp_path / "own.keras"
    config = {"class_name": "function", "module": "keras.utils", "config": "get_file", "registered_name": "get_file"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "module": "keras", "config": [config]}))
    with pytest.raises(ModelError, match=r"has get_file, which is not Keras' own"):
        build_backbone(own(path))


@pytest.mark.parametrize("make", [mobilenet, with_preprocessing])
def test_an_honest_keras_file_passes(tmp_path, make):
    model = make()
    model.compile("adam", loss=doubled)  # of the training; not used
    model.save(tmp_path / "own.keras")
    features_length = model.output.shape[-1]
    built = build_backbone(own(tmp_path / "own.keras", feature_length=features_length))
    expected = np.asarray(model(pictures(1, 32))).reshape(1, -1, features_length).mean(1)
    np.testing.assert_allclose(built(pictures(1, 32)), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def extractor():
    """A model of one's own: float pictures in, feature maps out."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Conv2D(8, 3, 2, activation="relu", padding="same")(image))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["keras", "saved_model"])
def test_a_model_of_ones_own(extractor, tmp_path, form, capfd):
    path = tmp_path / ("own.keras" if form == "keras" else "own")
    extractor.save(path) if form == "keras" else extractor.export(path, verbose=False)
    model = build_backbone(own(path, mean=[10.0, 20.0, 30.0], std=[2.0]))
    x = pictures(2, 32)
    reference = np.asarray(extractor((x - np.array([10.0, 20.0, 30.0])) / 2)).mean((1, 2))
    np.testing.assert_allclose(np.concatenate([model(picture[None]) for picture in x]), reference, rtol=1e-4)
    assert largest_difference(model, convert(model), x) < 1e-4


def test_a_model_with_two_outputs_is_refused(extractor, tmp_path):
    image = extractor.inputs[0]
    keras.Model(image, [extractor(image), keras.layers.Flatten()(image)]).save(tmp_path / "own.keras")
    found = refused(own(tmp_path / "own.keras")).found
    assert found.endswith("its outputs have the shapes (1, 16, 16, 8), (1, 3072)")


def test_a_model_of_another_input_or_file_is_refused(extractor, tmp_path):
    extractor.save(tmp_path / "own.keras")
    assert (
        "does not take a float32 picture [1, 48, 48, 3]" in refused(own(tmp_path / "own.keras", input_pixels=48)).found
    )
    (tmp_path / "own.h5").write_bytes(b"")
    assert "it is no .keras file" in refused(own(tmp_path / "own.h5")).found
    (tmp_path / "broken.keras").write_bytes(b"zip")
    assert "broken.keras is no .keras file: File is not a zip" in refused(own(tmp_path / "broken.keras")).found
    (tmp_path / "empty").mkdir()
    assert f"there is no saved_model.pb in {tmp_path}" in refused(own(tmp_path / "empty")).found
