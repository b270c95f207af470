"""Kills stages at random moments: `python -m tests.kill_stages STAGE NUM_KILLS SEED`, in a folder with their input.

Each run is a child process, forked after all imports, so that the kills fall into the work. After every kill the
output must be whole or absent; after the last, a run must give what an undisturbed run gave, and leave nothing beside.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.augment import augment
from pipeline.bottlenecks import bottlenecks
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.files import layout
from pipeline.frames import frames
from pipeline.takes.cache import cache_folder
from tests import test_augment, test_frames, tiny_models, tiny_project

STAGES: dict[str, tuple[Callable[[], None], Sequence[Path]]] = {
    "frames": (partial(frames, test_frames.CONFIG), [layout.FRAMES]),
    "augment": (partial(augment, test_augment.STAGE), [layout.AUGMENTED]),
    "bottlenecks": (
        partial(bottlenecks, BottlenecksStage("stretch", tiny_project.BACKBONE, tiny_models.SCHEMES["float32"])),
        [layout.bottlenecks("float32"), layout.backbone("float32")],
    ),
}
