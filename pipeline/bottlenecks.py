"""Stage `bottlenecks`: caches what the quantized backbone makes of each frame.

Reads models/backbone/<scheme>.tflite, data/frames, data/augmented, data/splits.csv and data/strangers; writes
data/bottlenecks/<scheme>/{frames,augmented}/<label>/<take>.parquet and data/bottlenecks/<scheme>/strangers.parquet.
The very backbone that will be shipped computes the bottlenecks, in the phone's own runtime, so the head is trained on
what the phone will compute. It is the fastest way to compute them on a processor, too. (`features: float32` in
conf/quantization/ trains the head on the float backbone's features instead, as others do, for comparison.)
"""

from pathlib import Path

from pipeline.config.application import run_stage
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.quantization import QuantizationConfig
from pipeline.files import layout
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.per_take.feature_jobs import feature_jobs, strangers_job
from pipeline.takes.cache import project_cache
from pipeline.takes.engines import engine_of
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import read_takes


def bottlenecks(config: BottlenecksStage) -> None:
    """Compute the bottlenecks of all frames and copies, and of the pictures of other things."""
    scheme = config.quantization.scheme
    backbone = teacher(config.quantization).read_bytes()
    features = FeatureExtractor(backbone, config.resize)
    map_takes(
        [*feature_jobs(read_takes(layout.SPLITS), features), strangers_job(layout.STRANGERS, features)],
        layout.bottlenecks(scheme),
        stage=f"bottlenecks@{scheme}",
        engine=engine_of(config.engine),
        cache=project_cache(),
        keys=layout.bottlenecks_keys(scheme),
    )


def teacher(config: QuantizationConfig) -> Path:
    """Return the backbone whose features the head of a scheme is trained on."""
    return layout.backbone(config.scheme) if config.features == "own" else layout.TUNED_BACKBONE


def main() -> None:
    """Run the stage from the command line."""
    run_stage("bottlenecks", BottlenecksStage, bottlenecks)


if __name__ == "__main__":
    main()
