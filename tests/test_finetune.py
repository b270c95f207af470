"""The stage and its parts, on a backbone of two blocks."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.backbones import efficientnet_lite
from pipeline.backbones.build import convert
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.config.finetune import FinetuneConfig, FinetuneStage
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.files import layout, write_bytes
from pipeline.finetune import finetune
from pipeline.litert.flatbuffer import operator_name, read_model
from pipeline.litert.interpreter import Model
from pipeline.litert.quantizer import quantize
from pipeline.tuning import tuned_backbone
from pipeline.tuning.blocks import boundaries, input_of_last_blocks, lower_part, upper_part
from pipeline.tuning.pruning import mask_of_largest, prunable_kernels, sparsity_at
from tests import tiny_models, tiny_project
from tests.conftest import PROJECT

PIXELS = tiny_models.PIXELS
CONFIG = FinetuneConfig(
    blocks=1,
    epochs=2,
    learning_rate=0.003,
    train_batch_size=8,
    freeze_batch_norm=True,
    patience=2,
    pruning_percent=0,
    pruning_end_percent=50,
    pruning_interval_steps=2,
)


def keras_backbone(_config: BackboneConfig | None = None, *, batch_size: int | None = 1) -> keras.Model:
    """Stem, two residual blocks of 8 channels, a last convolution, mean; weights that are always the same."""

    def convolution(x: Any, name: str, layer: keras.layers.Layer) -> Any:
        return keras.layers.ReLU(6, name=f"{name}_relu")(keras.layers.BatchNormalization(name=f"{name}_bn")(layer(x)))

    def options(name: str, seed: int) -> dict[str, Any]:
        return {"name": name, "use_bias": False, "padding": "same", "kernel_initializer": he(seed)}

    he = keras.initializers.HeNormal
    image = keras.Input((PIXELS, PIXELS, 3), batch_size=batch_size, dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="normalization")(image)
    x = convolution(x, "stem", keras.layers.Conv2D(8, 3, 2, **options("stem", 1)))
    for number in (1, 2):
        name = f"block{number}"
        depthwise = {**options(f"{name}_depthwise", 0), "depthwise_initializer": he(10 + number)}
        depthwise.pop("kernel_initializer")
        y = convolution(x, f"{name}_depthwise", keras.layers.DepthwiseConv2D(3, **depthwise))
        y = keras.layers.Conv2D(8, 1, **options(f"{name}_project", 20 + number))(y)
        x = keras.layers.Add(name=f"{name}_add")([x, y])
    x = convolution(x, "top", keras.layers.Conv2D(tiny_models.NUM_FEATURES, 1, **options("top", 30)))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="features")(x), name="tiny")


@pytest.fixture(scope="module")
def converted() -> bytes:
    return convert(keras_backbone())


@pytest.fixture
def tune(folder: Path, monkeypatch: pytest.MonkeyPatch, converted: bytes) -> Callable[..., bytes]:
    """A project before the stage, and what runs the stage and returns the tuned backbone."""
    tiny_project.make()
    write_bytes(layout.CONVERTED_BACKBONE, converted)
    monkeypatch.setattr(tuned_backbone, "build_backbone", keras_backbone)

    def run(**changes: Any) -> bytes:
        finetune(stage(**changes))
        return layout.TUNED_BACKBONE.read_bytes()

    return run


def stage(mode: str = "finetune", optimizer: str = "lbfgs", **changes: Any) -> FinetuneStage:
    training = replace(tiny_project.TRAINING, mode=mode, optimizer=optimizer)
    return FinetuneStage("stretch", tiny_project.BACKBONE, training, replace(CONFIG, **changes), tiny_project.ENGINE)


def kernels_of(content: bytes) -> list[np.ndarray]:
    """Return the weights of the file's convolutions over all channels, in order."""
    model = read_model(content)
    graph = model.subgraphs[0]
    tensors = [graph.tensors[op.inputs[1]] for op in graph.operators if operator_name(model, op) == "CONV_2D"]
    dtypes = {0: "<f4", 9: "i1"}
    return [np.asarray(model.buffers[t.buffer].data, np.uint8).view(dtypes[t.type]).reshape(t.shape) for t in tensors]


def num_zeros(content: bytes) -> list[int]:
    return [int((kernel == 0).sum()) for kernel in kernels_of(content)]


@pytest.mark.slow
def test_a_tuned_backbone_is_better_on_validation_takes_and_the_same_every_time(
    tune: Callable[..., bytes], converted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tune(optimizer="adamw")  # its head leaves something to learn
    curves = pd.read_csv(layout.FINETUNE_CURVES)
    assert list(curves["epoch"]) == [0, 1, 2]
    assert curves["validation_loss"].min() < curves["validation_loss"][0]
    assert set(curves["zero_percent"]) == {0}
    assert "finetune: best after epoch" in capsys.readouterr().err
    assert (Model(content).input_pixels, Model(content).output_length) == (PIXELS, tiny_models.NUM_FEATURES)
    before, after = kernels_of(converted), kernels_of(content)
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [False, False, True, True]  # stem, block 1, block 2, top
    assert {path.name for path in layout.TUNED_BACKBONE.parent.iterdir()} == {"converted.tflite", "tuned.tflite"}
    assert list((layout.TENSORBOARD / "finetune").rglob("events.out.tfevents.*"))
    # equal settings give equal bytes, and no take is computed twice
    assert tune(optimizer="adamw") == content
    printed = capsys.readouterr().err
    assert "finetune, bottlenecks: 0 takes computed, 8 reused" in printed
    assert "finetune, frozen part: 0 takes computed, 8 reused" in printed


@pytest.mark.slow
def test_the_whole_backbone_learns_from_pictures(tune: Callable[..., bytes], converted: bytes) -> None:
    content = tune(blocks=-1, freeze_batch_norm=False, epochs=1, optimizer="adamw")
    pairs = zip(kernels_of(converted), kernels_of(content), strict=True)
    assert [np.array_equal(before, after) for before, after in pairs] == [False] * 4


@pytest.mark.slow
def test_no_epoch_is_better_than_the_start(
    tune: Callable[..., bytes], converted: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(learning_rate=30, epochs=4, patience=1) == converted
    assert "no epoch was better than the start" in capsys.readouterr().err
    assert list(pd.read_csv(layout.FINETUNE_CURVES)["epoch"]) == [0, 1]  # patience


@pytest.mark.slow
def test_pruned_weights_are_zeros_in_float32_and_in_int8(tune: Callable[..., bytes]) -> None:
    content = tune(pruning_percent=75, learning_rate=30)  # worse than the start, but that has no zeros
    assert num_zeros(content) == [0, 0, 48, 72]  # of 8 x 8 and 8 x 12; stem and frozen block have none
    assert list(pd.read_csv(layout.FINETUNE_CURVES)["zero_percent"]) == [0, 75, 75]
    config = replace(tiny_models.SCHEMES["int8"], rounding="calibrated")
    # A channel of nothing but zeros gets a weight, in whose unit its bias fits.
    assert all(np.array(num_zeros(quantize(content, config, tiny_models.pictures(8)))) >= [0, 0, 47, 72])


def test_in_head_mode_nothing_is_read_and_nothing_heavy_is_imported(folder: Path) -> None:
    tiny_project.make()
    (folder / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    code = (
        "import sys; from pipeline.finetune import main; main()\n"
        "print(sorted({'tensorflow', 'keras', 'pandas', 'pyarrow', 'ai_edge_litert'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "[]\n"
    assert layout.TUNED_BACKBONE.read_bytes() == layout.CONVERTED_BACKBONE.read_bytes()
    assert pd.read_csv(layout.FINETUNE_CURVES).empty


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"finetune\.blocks: 3\n  expected: 1 to 2, the blocks of"):
        input_of_last_blocks(keras_backbone(), 3)


@pytest.mark.parametrize("blocks", [0, -2])
def test_blocks_that_are_no_number_of_blocks(blocks: int) -> None:
    with pytest.raises(PipelineError, match=f"finetune.blocks: {blocks}\n  expected: a number of at least 1, or -1"):
        replace(CONFIG, blocks=blocks)


@pytest.mark.parametrize("key", ["epochs", "learning_rate", "train_batch_size", "patience", "pruning_percent"])
def test_a_value_out_of_range(key: str) -> None:
    negative: Any = {key: -1}
    with pytest.raises(PipelineError, match=f"finetune.{key}: -1\n  expected: a number"):
        replace(CONFIG, **negative)


def test_both_parts_together_are_the_backbone() -> None:
    backbone = keras_backbone()
    boundary = input_of_last_blocks(backbone, 1)
    assert boundary.shape == (1, PIXELS // 2, PIXELS // 2, 8)
    picture = tiny_models.pictures(1)
    expected = np.asarray(backbone(picture))
    between = np.asarray(lower_part(backbone, boundary)(picture)).reshape(boundary.shape)
    assert expected.std() > 0
    np.testing.assert_allclose(upper_part(backbone, boundary)(between), expected, rtol=1e-5)


@pytest.mark.slow
def test_blocks_are_those_of_the_papers() -> None:
    """EfficientNet-B0 has 16 inverted residuals (Table 1), ResNet-50 16 bottlenecks, MobileNet V2 17 (Table 2)."""
    lite = efficientnet_lite.build(replace(tiny_project.BACKBONE, width=1.0, depth=1.0, input_pixels=224))
    assert [tensor.shape[1:] for tensor in boundaries(lite)[-3:]] == [(7, 7, 192)] * 3
    assert len(boundaries(lite)) == 16
    for build, num_blocks in ((keras.applications.ResNet50, 16), (keras.applications.MobileNetV2, 17)):
        backbone = build(weights=None, include_top=False, pooling="avg", input_shape=(64, 64, 3))
        assert len(boundaries(backbone)) == num_blocks


def test_zeros_are_made_fast_at_first_and_slowly_at_the_end() -> None:
    assert [sparsity_at(step, 4, 0.8) for step in (0, 1, 2, 4, 9)] == pytest.approx([0, 0.4625, 0.7, 0.8, 0.8])


def test_the_smallest_weights_become_zeros() -> None:
    weights = np.array([[0.1, -3.0], [-0.2, 0.3]], np.float32)
    assert mask_of_largest(weights, 0.5).tolist() == [[False, True], [False, True]]
    assert mask_of_largest(weights, 0).all()


def test_neither_first_nor_depthwise_nor_frozen_kernels_are_pruned() -> None:
    backbone = keras_backbone()
    shapes = {
        blocks: [
            kernel.shape
            for kernel in prunable_kernels(upper_part(backbone, input_of_last_blocks(backbone, blocks)), backbone)
        ]
        for blocks in (1, -1)
    }
    assert shapes == {1: [(1, 1, 8, 8), (1, 1, 8, 12)], -1: [(1, 1, 8, 8), (1, 1, 8, 8), (1, 1, 8, 12)]}
