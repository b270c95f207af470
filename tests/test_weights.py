"""Where weights come from: a download, a file, a model of one's own. What is damaged or foreign is refused."""

import dataclasses
import hashlib
import http.server
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.architectures import pictures
from pipeline.backbones import applications, efficientnet_lite
from pipeline.backbones.build import build_backbone
from pipeline.backbones.imagenet import weights_folder, weights_url
from pipeline.backbones.named_weights import sha256_of_folder
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.backbones.random_weights import set_random_weights
from pipeline.backbones.torch_weights import read_state_dict, weights_of_package
from pipeline.errors import ConfigurationError, ModelError
from pipeline.files import sha256_of_bytes, sha256_of_file
from tests.test_architectures import config_of

NAME = "mobilenet_v1"
SMALL = {"width": 0.25, "input_pixels": 32}


def tiny(config):
    """Stand in for a whole MobileNet: one convolution, with as many features."""
    image = keras.Input((config.input_pixels, config.input_pixels, 3))
    x = keras.layers.Conv2D(int(1024 * config.width), 3, 2, use_bias=False, name="conv1")(image)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(name="conv1_bn")(x))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch):
    monkeypatch.setattr(applications, "network", tiny)


@pytest.fixture(scope="module")
def network():
    """The network with random weights."""
    made = tiny(config_of(NAME, **SMALL))
    set_random_weights(made)
    return made


@pytest.fixture(scope="module")
def h5(network, tmp_path_factory):
    """A file as Keras Applications publishes them: HDF5, without a classifier."""
    path = tmp_path_factory.mktemp("weights") / "published.h5"
    network.save_weights(path.with_name("published.weights.h5"))
    legacy(network, path)
    return path


def legacy(model, path):
    """Write the .h5 format of Keras 2, in which Keras Applications publishes weights, and which Keras 3 only reads."""
    import h5py  # noqa: PLC0415

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)


class Server(http.server.ThreadingHTTPServer):
    """Serves what `content` holds by path; `cut` paths break off in the middle. `requests` lists what was asked for."""

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.requests: list[str] = []
        self.content: dict[str, bytes] = {}
        self.cut: set[str] = set()


@pytest.fixture
def server(folder):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.requests.append(self.path)
            body = served.content.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write((body or b"")[: len(body or b"") // 2 if self.path in served.cut else None])

        def log_message(self, *_):
            pass

    served = Server(Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def fetching(server, content, **changes):
    """A configuration whose ImageNet weights are on the server."""
    url = f"http://127.0.0.1:{server.server_address[1]}/mobilenet_{{width_digits}}_{{pixels}}_tf_no_top.h5"
    server.content["/mobilenet_2_5_128_tf_no_top.h5"] = content
    hashes = [hashlib.md5(content).hexdigest()]
    return config_of(NAME, **{"weights_url": url, "weights_hashes": hashes, **SMALL, **changes})


def features(model):
    return np.asarray(model(pictures(1, 32)))


def expected(network):
    return features(applications.on_pictures(network, config_of(NAME, **SMALL), 1))


def refusal(config, kind=ModelError):
    with pytest.raises(kind) as caught:
        build_backbone(config)
    return caught.value


def at(path, name=NAME, **changes):
    sha256 = sha256_of_folder(path) if path.is_dir() else sha256_of_file(path)
    return config_of(name, **{**SMALL, "weights": str(path), "weights_sha256": sha256, **changes})


@pytest.mark.parametrize(
    ("name", "width", "pixels", "end"),
    [
        ("mobilenet_v1", 0.5, 160, "mobilenet/mobilenet_5_0_160_tf_no_top.h5"),
        ("mobilenet_v1", 1.0, 224, "mobilenet/mobilenet_1_0_224_tf_no_top.h5"),
        ("mobilenet_v1", 0.75, 170, "mobilenet/mobilenet_7_5_192_tf_no_top.h5"),
        ("mobilenet_v1", 0.25, 300, "mobilenet/mobilenet_2_5_224_tf_no_top.h5"),
        ("mobilenet_v2", 0.35, 96, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"),
        ("mobilenet_v3_small", 0.75, 224, "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5"),
        ("inception_v3", 1.0, 128, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ],
)
def test_the_address_follows_width_and_input(name, width, pixels, end):
    assert weights_url(config_of(name, width=width, input_pixels=pixels)).endswith(end)


def published_by_keras(name, monkeypatch):
    """Return the address and the hash that Keras itself would fetch an architecture's weights with."""
    config = config_of(name)
    asked: dict[str, str | None] = {}

    def get_file(_fname, origin, file_hash=None, **_):
        asked.update(url=origin, hash=file_hash)
        raise InterruptedError

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    arguments = {"alpha": config.width} if config.widths else {}
    with pytest.raises(InterruptedError):
        getattr(keras.applications, config.application)(include_top=False, input_shape=(224, 224, 3), **arguments)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v3_small", "resnet50"])
def test_fetches_what_keras_would_fetch(name, monkeypatch):
    asked = published_by_keras(name, monkeypatch)
    assert weights_url(config_of(name)) == asked["url"]
    assert asked["hash"] in (config_of(name).weights_hashes or [None])


def test_a_download_is_kept_and_used_without_a_network(server, h5, network, capsys):
    config = fetching(server, h5.read_bytes())
    found = features(build_backbone(config))
    np.testing.assert_array_equal(found, expected(network))
    assert found.std() > 0
    server.content.clear()
    np.testing.assert_array_equal(features(build_backbone(config)), found)
    assert server.requests == ["/mobilenet_2_5_128_tf_no_top.h5"]
    assert [path.name for path in weights_folder().iterdir()] == ["mobilenet_2_5_128_tf_no_top.h5"]


def test_a_file_put_there_by_hand_is_as_good(folder, h5, network):
    weights_folder().mkdir(parents=True)
    (weights_folder() / "mobilenet_2_5_128_tf_no_top.h5").write_bytes(h5.read_bytes())
    np.testing.assert_array_equal(features(build_backbone(config_of(NAME, **SMALL))), expected(network))


def test_a_damaged_file_in_the_cache_is_fetched_again(server, h5):
    config = fetching(server, h5.read_bytes())
    weights_folder().mkdir(parents=True)
    kept = weights_folder() / "mobilenet_2_5_128_tf_no_top.h5"
    kept.write_bytes(h5.read_bytes()[:-1])
    build_backbone(config)
    assert kept.read_bytes() == h5.read_bytes()


def test_a_download_with_a_wrong_hash_is_refused(server, h5, capsys):
    error = refusal(fetching(server, h5.read_bytes(), weights_hashes=["0" * 64]))
    assert "is not the file that its authors published" in error.found
    assert "0" * 64 in error.expected
    assert list(weights_folder().iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(server, h5, capsys):
    server.cut.add("/mobilenet_2_5_128_tf_no_top.h5")
    error = refusal(fetching(server, h5.read_bytes(), weights_hashes=[]))
    assert "cannot be fetched" in error.found
    assert list(weights_folder().iterdir()) == []


@pytest.mark.parametrize("what", ["no file", "no server"])
def test_without_weights_the_error_says_what_to_do(server, what, capsys):
    config = fetching(server, b"")
    server.content.clear()
    if what == "no server":
        config = dataclasses.replace(config, weights_url="http://127.0.0.1:9/{width_digits}_{pixels}.h5")
    error = refusal(config)
    assert "the ImageNet weights of mobilenet_v1 are not here" in error.found
    assert weights_url(config) in error.found
    assert str(weights_folder() / weights_url(config).rpartition("/")[2]) in error.remedy
    assert "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2" in error.remedy
    assert list(weights_folder().iterdir()) == []


def test_no_imagenet_weights_of_that_width():
    error = refusal(config_of(NAME, width=0.3, input_pixels=32), ConfigurationError)
    assert error.found.startswith("weights: imagenet in conf/backbone/mobilenet_v1.yaml, with width ")
    assert error.expected == "one of the widths [0.25, 0.5, 0.75, 1.0]"


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".safetensors"])
def test_weights_from_a_file(h5, network, tmp_path, suffix):
    path = h5.with_name(f"published{suffix}")
    if suffix == ".safetensors":
        save_file(by_name(network), path)
    np.testing.assert_array_equal(features(build_backbone(at(path))), expected(network))


def by_name(model):
    layers = applications.leaves(model).items()
    return {f"{name}/{v.name}": np.asarray(v) for name, layer in layers for v in layer.weights}


def test_bgr_weights_see_rgb_pictures(h5, network):
    swapped = features(build_backbone(at(h5, channels="bgr")))
    reference = applications.on_pictures(network, config_of(NAME, **SMALL), 1)
    np.testing.assert_allclose(swapped, reference(pictures(1, 32)[..., ::-1]), rtol=1e-4)
    assert np.abs(swapped - expected(network)).max() > 1e-3 * swapped.std()


def test_other_weights_than_those_of_the_hash_are_refused(h5):
    error = refusal(at(h5, weights_sha256="0" * 64))
    assert sha256_of_file(h5) in error.found
    assert error.remedy.endswith(f"write weights_sha256: {sha256_of_file(h5)} there")


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".safetensors", ".pth"])
def test_a_damaged_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"garbage" * 99)
    assert str(path) in refusal(at(path)).found


def test_a_file_cut_short_is_refused(h5, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes(h5.read_bytes()[: h5.stat().st_size // 2])
    assert str(path) in refusal(at(path)).found


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".safetensors"])
def test_weights_of_another_width_name_the_layer(h5, network, suffix):
    path = h5.with_name(f"published{suffix}")
    if suffix == ".safetensors":
        save_file(by_name(network), path)
    assert "conv1" in refusal(at(path, width=0.5)).found


def test_tensors_too_many_or_too_few_are_named(network, tmp_path):
    path = tmp_path / "tensors.safetensors"
    tensors = by_name(network)
    save_file({**tensors, "fc/kernel": np.zeros(3)}, path)
    assert "no layer takes fc/kernel" in refusal(at(path)).found
    tensors["conv1/kernel"] = np.zeros(3)
    save_file(tensors, path)
    assert "conv1/kernel has shape (3,), the layer needs (3, 3, 3, " in refusal(at(path)).found
    del tensors["conv1/kernel"]
    save_file(tensors, path)
    assert "there is no conv1/kernel" in refusal(at(path)).found


def test_a_path_that_does_not_exist_and_a_kind_that_does_not():
    error = refusal(config_of(NAME, weights="weights/none.h5"))
    assert "weights: weights/none.h5 in conf/backbone/mobilenet_v1.yaml, and nothing there" in error.found
    assert (
        "`package` (efficientnet_lite), `imagenet`"
        in refusal(config_of(NAME, weights="noisy"), ConfigurationError).expected
    )


def timm_name(name, firsts):
    """Return timm's name for one of an EfficientNet-Lite's, given the index of each stage's first block."""
    if not name.startswith("_blocks."):
        layer, part = name.split(".")
        known = {
            "_conv_stem": "conv_stem",
            "_bn0": "bn1",
            "_conv_head": "conv_head",
            "_bn1": "bn2",
            "_fc": "classifier",
        }
        return f"{known[layer]}.{part}"
    _, index, layer, part = name.split(".")
    stage = max(number for number, first in enumerate(firsts) if first <= int(index))
    known = {"_depthwise_conv": "conv_dw", "_expand_conv": "conv_pw", "_project_conv": "conv_pwl"}
    known |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    if stage == 0:  # no expansion
        known |= {"_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
    return f"blocks.{stage}.{int(index) - firsts[stage]}.{known[layer]}.{part}"


def test_timms_names_of_an_efficientnet_lite():
    config = config_of("efficientnet_lite0")
    tensors = read_state_dict(weights_of_package(config.weights_package, config.weights_sha256), "lite0")
    timm = {timm_name(name, [0, 1, 3, 5, 8, 11, 15]): value for name, value in tensors.items()}
    assert len(timm) == len(tensors)
    assert {"blocks.0.0.conv_pw.weight", "blocks.6.0.conv_pwl.weight", "classifier.bias"} < set(timm)
    found = efficientnet_lite.without_timm_names(timm)
    assert set(found) == set(tensors)
    assert all(found[name] is tensors[name] for name in tensors)
    assert efficientnet_lite.without_timm_names(tensors) is tensors


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    one = sha256_of_folder(tmp_path)
    assert one == sha256_of_bytes(f"{sha256_of_bytes(b'1')} a\n".encode())
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_of_folder(tmp_path) != one
