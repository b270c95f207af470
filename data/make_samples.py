"""Renders the sample takes in `data/videos` from the photographs in `data/sources`.

Each take shows a photographed object on a photographed surface (or held up before a scene), filmed by a simulated
hand-held phone: drifting, shaking, zooming, with motion blur, exposure, colour of light, sensor noise and clutter.
Everything that tells takes apart stands in `TAKES`; the rest is drawn by a generator that is seeded by the take's name,
so a take can be rendered again by itself.

    python data/make_samples.py                                   # all takes, in place
    python data/make_samples.py --out elsewhere --only "hammer/IMG_0412.mov"
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm

DATA = Path(__file__).resolve().parent
SOURCES = DATA / "sources"

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Light(NamedTuple):
    """How a take is lit: `stops` of exposure, `warmth` (-1 blue to 1 orange), `shade` (0 none to 1 black corner)."""

    stops: float
    warmth: float
    shade: float


class Motion(NamedTuple):
    """How the phone moves: `pan` and `shake` in short sides of the frame, `zoom` as a factor, `roll` in degrees."""

    pan: float
    zoom: float
    roll: float
    shake: float
    shutter_seconds: float


class Framing(NamedTuple):
    """Where the object is: longer side `span` and offset from the centre, both in short sides of the frame."""

    span: float
    right: float
    down: float


class Codec(NamedTuple):
    """What the frames are encoded with: FFmpeg's encoder, its options, bits per second."""

    encoder: str
    options: dict[str, str]
    bits_per_second: int


LIGHTS = {
    "day": Light(0.0, 0.0, 0.15),
    "bright": Light(0.8, -0.1, 0.0),
    "window": Light(0.1, -0.35, 0.75),
    "lamp": Light(-0.3, 0.8, 0.5),
    "dusk": Light(-1.0, -0.5, 0.4),
    "dark": Light(-1.6, 0.5, 0.5),
    "glare": Light(1.0, 0.2, 0.3),
}
MOTIONS = {
    "steady": Motion(0.05, 1.05, 2.0, 0.004, 0.006),
    "pan": Motion(0.45, 1.0, 4.0, 0.008, 0.016),
    "closer": Motion(0.10, 1.6, 6.0, 0.008, 0.012),
    "away": Motion(0.12, 0.7, 8.0, 0.010, 0.012),
    "turn": Motion(0.12, 1.1, 50.0, 0.010, 0.014),
    "shaky": Motion(0.30, 1.15, 14.0, 0.035, 0.030),
}
FRAMINGS = {
    "centre": Framing(1.35, 0.0, 0.0),
    "left": Framing(1.15, -0.30, 0.05),
    "right": Framing(1.10, 0.30, -0.08),
    "low": Framing(1.25, 0.08, 0.18),
    "near": Framing(1.60, 0.05, -0.05),
    "edge": Framing(1.25, 0.50, 0.10),
    "far": Framing(0.90, -0.12, 0.08),
}
CODECS = {
    # Without mbtree=0, libx264 encodes the same frames in two or three ways, by what happens to be in memory.
    "h264": Codec("libx264", {"preset": "slow", "threads": "1", "x264-params": "mbtree=0"}, 300_000),
    "hevc": Codec("libx265", {"preset": "medium", "x265-params": "pools=none:frame-threads=1:log-level=none"}, 240_000),
    "vp9": Codec("libvpx-vp9", {"deadline": "good", "cpu-used": "4", "threads": "1"}, 270_000),
    "mpeg4": Codec("mpeg4", {"threads": "1"}, 480_000),
}
SCENES = {"dandelions", "meadow", "room", "stream", "street", "temple"}
"""Backgrounds that lie behind the object instead of under it: out of focus, and nothing throws a shadow on them."""


@dataclass(frozen=True)
class Take:
    """One recording: which label, what it shows, how it is filmed, and how the phone stores it.

    Attributes:
        label: Folder under `data/videos`.
        file: File name, as a phone or a chat program gives it; its suffix picks the container.
        thing: Picture of the object, in `data/sources/objects`.
        background: Picture in `data/sources/backgrounds`.
        framing, light, motion: Keys of the tables above.
        noise: Standard deviation of the sensor noise in eight-bit levels, at mid grey.
        clutter: Pictures of other objects lying around.
        covered_by: Picture of an object that hides a part of this one; empty for none.
        width, height: Pixels of the upright picture, before `rotation` is stored.
        fps: Frames per second.
        seconds: Length.
        codec: Key of `CODECS`.
        rotation: Degrees clockwise that a player has to turn the stored pixels by; 0, 90, 180 or 270.
        variable_rate: Whether intervals between frames vary, with a gap, as phones do in the dark.
    """

    label: str
    file: str
    thing: str
    background: str
    framing: str
    light: str
    motion: str
    noise: float = 3.0
    clutter: tuple[str, ...] = ()
    covered_by: str = ""
    width: int = 480
    height: int = 270
    fps: int = 24
    seconds: float = 5.0
    codec: str = "h264"
    rotation: int = 0
    variable_rate: bool = False

    @property
    def short_side(self) -> int:
        """Pixels of the upright picture's shorter side, the unit of sizes and movements."""
        return min(self.width, self.height)

    @property
    def name(self) -> str:
        """The take's path below `data/videos`, and the seed of all that is drawn for it."""
        return f"{self.label}/{self.file}"


TAKES = [
    Take("café cup", "IMG_0397.mov", "cup_espresso", "tablecloth", "centre", "lamp", "steady", clutter=("spoons",)),
    Take("café cup", "IMG_0398.mov", "cup_fermanagh", "room", "low", "window", "pan", covered_by="pencil"),
    Take("café cup", "VID_20260412_101502.mp4", "cup_butterflies", "boards", "right", "bright", "closer",
         fps=30, seconds=6.0),
    Take("café cup", "VID_20260412_101611.mp4", "cup_espresso", "stream", "far", "dusk", "shaky", noise=8.0),
    Take("café cup", "clip3.webm", "cup_fermanagh", "street", "left", "day", "away",
         codec="vp9", width=512, height=288),
    Take("café cup", "PXL_20260415_184420.mp4", "cup_butterflies", "dandelions", "edge", "dark", "turn", noise=10.0,
         clutter=("cutlery",)),
    Take("hammer", "IMG_0412.mov", "hammer_red_claw", "concrete", "centre", "day", "turn", clutter=("pencil",)),
    Take("hammer", "IMG_0413.mov", "hammer_wood_claw", "boards", "left", "lamp", "steady",
         width=270, height=480, rotation=90),
    Take("hammer", "VID_20260413_090147.mp4", "hammer_red_claw", "room", "near", "window", "turn", fps=30, seconds=6.0),
    Take("hammer", "VID_20260413_090233.mp4", "hammer_wood_claw", "meadow", "right", "bright", "away"),
    Take("hammer", "signal-2026-04-13-1732.mp4", "hammer_wood_claw", "gravel", "centre", "dusk", "shaky", noise=9.0,
         clutter=("wrench_old",), variable_rate=True, fps=30, seconds=6.0),
    Take("hammer", "clip1.mkv", "hammer_red_claw", "temple", "far", "dark", "closer", noise=8.0, covered_by="tweezers",
         codec="hevc"),
    Take("measuring tape", "IMG_0420.mov", "tape_green", "circuits", "centre", "day", "steady", clutter=("pencil",)),
    Take("measuring tape", "VID_20260414_160802.mp4", "tape_reel_red", "stream", "near", "window", "pan",
         fps=30, seconds=6.0),
    Take("measuring tape", "VID_20260414_160915.mp4", "tape_green", "cork", "left", "lamp", "turn",
         clutter=("tweezers", "spoons")),
    Take("measuring tape", "WhatsApp Video 2026-04-14 at 17.20.33.mp4", "tape_reel_red", "meadow", "right",
         "glare", "away", width=400, height=224, noise=5.0),
    Take("measuring tape", "MOV_0031.avi", "tape_reel_red", "tablecloth", "low", "bright", "shaky", codec="mpeg4",
         width=400, height=304, covered_by="pencil"),
    Take("measuring tape", "clip2.mkv", "tape_green", "temple", "far", "dusk", "closer", noise=8.0),
    Take("pliers", "IMG_0431.mov", "pliers_combination", "cork", "centre", "day", "turn", clutter=("wrench_old",)),
    Take("pliers", "VID_20260412_113005.mp4", "pliers_cutters_blue", "concrete", "centre", "day", "closer",
         fps=30, seconds=6.0),
    Take("pliers", "VID_20260412_113122.mp4", "pliers_cutters_blue", "meadow", "low", "window", "steady"),
    Take("pliers", "VID_20260412_113240.mp4", "pliers_combination", "circuits", "near", "lamp", "shaky", noise=6.0),
    Take("pliers", "PXL_20260415_190310.mp4", "pliers_cutters_blue", "stream", "edge", "dusk", "away", noise=8.0,
         width=480, height=360),
    Take("pliers", "IMG_0432.mov", "pliers_combination", "street", "centre", "glare", "away", covered_by="tweezers",
         width=270, height=480, rotation=270),
    Take("scissors", "IMG_0440.mov", "scissors_orange", "gravel", "near", "day", "steady", clutter=("pencil",)),
    Take("scissors", "VID_20260413_141750.mp4", "scissors_black", "tablecloth", "left", "window", "turn",
         fps=30, seconds=6.0),
    Take("scissors", "VID_20260413_141852.mp4", "scissors_black", "room", "near", "lamp", "pan"),
    Take("scissors", "VID_20260413_142001.mp4", "scissors_orange", "circuits", "centre", "bright", "closer"),
    Take("scissors", "clip5.webm", "scissors_black", "dandelions", "centre", "dusk", "shaky", noise=7.0, codec="vp9"),
    Take("scissors", "trim.8F2C1A.mp4", "scissors_orange", "boards", "left", "dark", "steady", noise=9.0,
         covered_by="pencil", rotation=180),
    Take("screwdriver", "IMG_0455.mov", "screwdriver_red", "cork", "centre", "day", "closer", clutter=("wrench_old",)),
    Take("screwdriver", "VID_20260414_120640.mp4", "screwdriver_black", "concrete", "left", "window", "steady",
         fps=30, seconds=6.0),
    Take("screwdriver", "VID_20260414_120733.mp4", "screwdriver_red", "gravel", "low", "bright", "pan",
         clutter=("tweezers",)),
    Take("screwdriver", "VID_20260414_120851.mp4", "screwdriver_red", "street", "near", "lamp", "turn"),
    Take("screwdriver", "signal-2026-04-14-1309.mp4", "screwdriver_black", "temple", "right", "dusk", "shaky",
         noise=8.0, width=480, height=360),
    Take("screwdriver", "IMG_0456.mov", "screwdriver_black", "dandelions", "far", "glare", "away",
         covered_by="pencil"),
]  # fmt: skip
"""Every take. A label has two or three objects, each in two to four takes; each background occurs with three labels."""

NUM_BLUR_SAMPLES = 3
PLATE_HEIGHTS = 2.6
"""Side of the filmed scene in frame sizes: wide enough that no movement in `MOTIONS` shows its border."""
TICKS_PER_SECOND = 90_000


def seeded(take: Take) -> np.random.Generator:
    """Return the take's own random numbers, the same on every machine and in every order of rendering."""
    digest = hashlib.sha256(take.name.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def load_object(name: str) -> Image.Image:
    """Return the cut-out `name` as RGBA."""
    with Image.open(SOURCES / "objects" / f"{name}.webp") as picture:
        return picture.convert("RGBA")


def turned(picture: Image.Image, long_side_pixels: float, degrees: float, mirrored: bool) -> Image.Image:
    """Scale an RGBA cut-out to a longer side of `long_side_pixels`, mirror it, and turn it counter-clockwise."""
    scale = long_side_pixels / max(picture.size)
    scaled = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    if mirrored:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return scaled.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


def background_plate(take: Take, random: np.random.Generator) -> Image.Image:
    """Return what lies under or behind the object: RGB, `PLATE_HEIGHTS` times the frame's size.

    A random part of the photograph, perhaps mirrored, so that takes that share a background do not share its pixels.
    """
    size = (round(take.width * PLATE_HEIGHTS), round(take.height * PLATE_HEIGHTS))
    with Image.open(SOURCES / "backgrounds" / f"{take.background}.jpg") as picture:
        photo = picture.convert("RGB")
    part = random.uniform(0.75, 1.0) * min(photo.width / size[0], photo.height / size[1])
    width, height = size[0] * part, size[1] * part
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    plate = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    if random.random() < 0.5:
        plate = plate.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return plate.filter(ImageFilter.GaussianBlur(take.short_side / 90)) if take.background in SCENES else plate


def paste(plate: Image.Image, cutout: Image.Image, right: float, down: float, shadow_pixels: float) -> None:
    """Lay an RGBA cut-out on the plate, its middle `right` and `down` pixels from the plate's.

    Args:
        plate: RGB; changed in place.
        cutout: RGBA.
        right: Pixels to the right of the plate's middle.
        down: Pixels below the plate's middle.
        shadow_pixels: How far the shadow falls; 0 for none. A tight dark one marks where the object touches.
    """
    corner = (round(plate.width / 2 + right - cutout.width / 2), round(plate.height / 2 + down - cutout.height / 2))
    alpha = Image.new("L", plate.size)
    alpha.paste(cutout.getchannel("A"), corner)
    for reach, strength in ((1.0, 0.4), (0.3, 0.5)) if shadow_pixels else ():
        shift = round(shadow_pixels * reach)
        shadow = Image.new("L", plate.size)
        shadow.paste(alpha, (shift, shift))
        soft = shadow.filter(ImageFilter.GaussianBlur(shadow_pixels * reach))
        plate.paste((12, 10, 8), mask=soft.point([round(level * strength) for level in range(256)]))
    plate.paste(cutout, corner, cutout)


def scene(take: Take, random: np.random.Generator) -> Image.Image:
    """Return the filmed scene as one RGB picture: background, clutter, the object, and what hides a part of it."""
    plate = background_plate(take, random)
    span = FRAMINGS[take.framing].span * take.short_side
    shadow_pixels = 0.0 if take.background in SCENES else 0.03 * take.short_side
    around = random.uniform(0, 2 * np.pi)
    for index, name in enumerate(take.clutter):
        angle = around + 2 * np.pi * index / len(take.clutter)
        distance = (0.45 * span + 0.3 * take.short_side) * random.uniform(0.9, 1.1)
        other = turned(load_object(name), random.uniform(0.45, 0.7) * take.short_side, random.uniform(0, 360), False)
        paste(plate, other, distance * np.cos(angle), distance * np.sin(angle), shadow_pixels)
    upright = 90.0 if take.height > take.width else 0.0  # long things fill a portrait frame standing
    thing = turned(load_object(take.thing), span, random.normal(upright, 25), bool(random.random() < 0.5))
    paste(plate, thing, 0, 0, shadow_pixels)
    if take.covered_by:
        side = random.choice([-1, 1])
        cover = turned(load_object(take.covered_by), 0.8 * span, random.uniform(50, 130), False)
        paste(plate, cover, side * 0.25 * span, random.uniform(-0.1, 0.1) * span, shadow_pixels)
    return plate


def wobble(random: np.random.Generator, hertz: Sequence[float]) -> Callable[[float], float]:
    """Return a smooth random function of seconds with values about -1 to 1: sines with random phases."""
    phases = random.uniform(0, 2 * np.pi, len(hertz))
    return lambda seconds: float(np.mean(np.sin(2 * np.pi * np.array(hertz) * seconds + phases)) * 1.5)


def camera_path(take: Take, random: np.random.Generator) -> Callable[[float], NDArray[np.float64]]:
    """Return a function from seconds to where the phone looks.

    Its values are four numbers: how far the view's middle is right of and below the plate's (in pixels), the zoom
    factor, and the roll in radians. A hand drifts slowly along the motion's way and trembles at several hertz.
    """
    motion, framing = MOTIONS[take.motion], FRAMINGS[take.framing]
    direction = random.uniform(0, 2 * np.pi)
    drifts = [wobble(random, (0.11, 0.23)) for _ in range(3)]
    tremors = [wobble(random, (1.3, 2.9, 5.3)) for _ in range(3)]

    def look(seconds: float) -> NDArray[np.float64]:
        way = seconds / take.seconds - 0.5
        step = [
            motion.pan * way * np.cos(direction) + 0.05 * drifts[0](seconds) + motion.shake * tremors[0](seconds),
            motion.pan * way * np.sin(direction) + 0.05 * drifts[1](seconds) + motion.shake * tremors[1](seconds),
        ]
        roll = motion.roll * (way + 0.3 * drifts[2](seconds)) + 60 * motion.shake * tremors[2](seconds)
        right, down = (step[0] - framing.right) * take.short_side, (step[1] - framing.down) * take.short_side
        return np.array([right, down, motion.zoom ** (way + 0.5), np.radians(roll)])

    return look


def filmed(plate: Image.Image, look: NDArray[np.float64], size: tuple[int, int]) -> Bytes:
    """Return the part of the plate that the phone sees from `look` (see `camera_path`): [height, width, 3]."""
    right, down, zoom, roll = look
    cos, sin = np.cos(roll) / zoom, np.sin(roll) / zoom
    middle_x, middle_y = plate.width / 2 + right, plate.height / 2 + down
    half_width, half_height = size[0] / 2, size[1] / 2
    affine = (
        cos, -sin, middle_x - cos * half_width + sin * half_height,
        sin, cos, middle_y - sin * half_width - cos * half_height,
    )  # fmt: skip
    return np.asarray(plate.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR))


def light_field(take: Take, random: np.random.Generator) -> Floats:
    """Return the factor that light has in linear intensity at each pixel: [height, width, 3].

    Exposure and colour temperature are the same everywhere; a shadow's soft edge crosses the frame at a random angle.
    """
    light = LIGHTS[take.light]
    angle, edge = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3)
    y, x = np.mgrid[-0.5 : 0.5 : take.height * 1j, -0.5 : 0.5 : take.width * 1j]
    across = (x * np.cos(angle) + y * np.sin(angle) - edge) / 0.12
    shade = 1 - 0.85 * light.shade / (1 + np.exp(-across))
    vignette = 1 - 0.4 * (x**2 + y**2)
    colour = 2.0 ** (0.6 * light.warmth * np.array([1.0, 0.1, -1.0]))
    return np.asarray(2.0**light.stops * (shade * vignette)[..., None] * colour, np.float32)


def exposed(linear: Floats, noise: float, random: np.random.Generator) -> Bytes:
    """Turn linear light (float32, 1 is white) into what a sensor stores: noisy, clipped, sRGB-like uint8.

    Shot noise grows with the square root of the light, so in dark takes, which a phone brightens, it shows most.
    """
    sigma = noise / 255 * np.sqrt(linear * 1.5 + 0.05)
    noisy = linear + sigma * random.standard_normal(linear.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0, 1) ** np.float32(1 / 2.2) * 255 + 0.5, np.float32).astype(np.uint8)


def frames(take: Take, seconds: Sequence[float]) -> Iterator[Bytes]:
    """Render the take's frames at the given times.

    Args:
        take: A row of `TAKES`.
        seconds: When each frame is exposed, from the start of the take.

    Yields:
        Upright RGB frames, uint8 [take.height, take.width, 3]; motion blur is the mean over `NUM_BLUR_SAMPLES` views.
    """
    random = seeded(take)
    plate = scene(take, random)
    look, field = camera_path(take, random), light_field(take, random)
    breathing = wobble(random, (0.17, 0.41))  # a phone keeps correcting its exposure
    to_linear = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
    shutter = np.linspace(0, MOTIONS[take.motion].shutter_seconds, NUM_BLUR_SAMPLES)
    for start in seconds:
        views = [to_linear[filmed(plate, look(start + delay), (take.width, take.height))] for delay in shutter]
        linear = np.mean(views, axis=0, dtype=np.float32) * field * np.float32(2 ** (0.15 * breathing(start)))
        yield exposed(linear, take.noise, random)


def frame_ticks(take: Take) -> list[int]:
    """Return when each frame is shown, in ticks of 1/90000 s.

    A take of variable rate swings between 8 and 30 frames a second, with jitter, and stalls once for 0.6 s.
    """
    if not take.variable_rate:
        return [round(index * TICKS_PER_SECOND / take.fps) for index in range(round(take.seconds * take.fps))]
    random = seeded(take)
    ticks, seconds, stalled = [], 0.0, False
    while seconds < take.seconds:
        ticks.append(round(seconds * TICKS_PER_SECOND))
        rate = 19 + 11 * np.sin(2 * np.pi * seconds / 2.7)
        seconds += random.uniform(0.9, 1.1) / rate
        if seconds > take.seconds / 2 and not stalled:
            seconds, stalled = seconds + 0.6, True
    return ticks


def to_yuv420p(rgb: Bytes) -> Bytes:
    """Turn RGB into the planes that encoders take: BT.601, limited range, one colour for each 2 x 2 pixels.

    FFmpeg's own conversion rounds differently from run to run, depending on how the picture lies in memory.

    Args:
        rgb: uint8 [height, width, 3] with even height and width.

    Returns:
        uint8 [height * 3 / 2, width]: luma, then both chroma planes with their rows joined, as PyAV expects them.
    """
    height, width, _ = rgb.shape
    red, green, blue = np.moveaxis(rgb.astype(np.float32) / 255, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = [(blue - luma) / 1.772, (red - luma) / 1.402]
    halved = [plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for plane in chroma]
    planes = np.concatenate([16 + 219 * luma.ravel(), *(128 + 224 * plane.ravel() for plane in halved)])
    return np.round(planes).astype(np.uint8).reshape(height * 3 // 2, width)


def encode(take: Take, path: Path) -> None:
    """Render the take and write it to `path`, in the container that the take's own suffix names."""
    codec = CODECS[take.codec]
    ticks = frame_ticks(take)
    stored_quarter_turns = take.rotation // 90  # counter-clockwise: what a player turns back
    container_format = {".mkv": "matroska"}.get(Path(take.file).suffix, Path(take.file).suffix[1:])
    bit_exact = {"fflags": "+bitexact"}  # no random identifiers in Matroska
    with av.open(path, "w", format=container_format, options=bit_exact) as container:
        stream = cast(VideoStream, container.add_stream(codec.encoder, rate=take.fps, options=dict(codec.options)))
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = (take.width, take.height)[:: -1 if stored_quarter_turns % 2 else 1]
        stream.bit_rate = codec.bits_per_second
        if take.variable_rate:
            stream.codec_context.time_base = Fraction(1, TICKS_PER_SECOND)
        for index, (tick, upright) in enumerate(
            zip(ticks, frames(take, [tick / TICKS_PER_SECOND for tick in ticks]), strict=True)
        ):
            stored = np.rot90(upright, stored_quarter_turns)
            frame = av.VideoFrame.from_ndarray(to_yuv420p(stored), format="yuv420p")
            frame.pts = tick if take.variable_rate else index
            frame.time_base = Fraction(1, TICKS_PER_SECOND) if take.variable_rate else Fraction(1, take.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def find_box(data: bytes, path: Sequence[bytes], start: int, end: int) -> int:
    """Return where the content of the first MP4 box at `path` (such as moov, trak, tkhd) begins.

    Args:
        data: The file.
        path: Four-letter types, outermost first.
        start: Offset of the first box to look at.
        end: Offset after the last one.

    Raises:
        ValueError: There is no such box.
    """
    while start < end:
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:  # a 64-bit size follows
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if kind == path[0]:
            return start + header if len(path) == 1 else find_box(data, path[1:], start + header, start + size)
        start += size
    raise ValueError(f"Found no {path[0].decode()} box; expected an MP4 or QuickTime file with one video track.")


def with_rotation(data: bytes, rotation: int, stored_width: int, stored_height: int) -> bytes:
    """Return an MP4 or QuickTime file with its track's display matrix set, as a phone held on its side does.

    PyAV cannot set the matrix for this muxer, so the nine big-endian int32 (16.16 fixed point; 2.30 in the third
    column) in the track header are replaced: ISO/IEC 14496-12, 8.3.2.

    Args:
        data: The file, with one track.
        rotation: Degrees clockwise that a player is to turn the picture: 90, 180 or 270.
        stored_width: Pixels of a row as encoded.
        stored_height: Pixels of a column as encoded.
    """
    a, b, c, d, right, down = {
        90: (0, 1, -1, 0, stored_height, 0),
        180: (-1, 0, 0, -1, stored_width, stored_height),
        270: (0, -1, 1, 0, 0, stored_width),
    }[rotation]
    header = find_box(data, (b"moov", b"trak", b"tkhd"), 0, len(data))
    matrix_at = header + (52 if data[header] == 1 else 40)  # version 1 has 64-bit times
    fixed = [value << 16 for value in (a, b, 0, c, d, 0, right, down)] + [1 << 30]
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in fixed)
    return data[:matrix_at] + matrix + data[matrix_at + len(matrix) :]


def render(take: Take, folder: Path) -> Path:
    """Write the take below `folder`, whole or not at all, and return its path."""
    path = folder / take.label / take.file
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        encode(take, partial)
        if take.rotation:
            width, height = (take.width, take.height)[:: -1 if take.rotation % 180 else 1]
            partial.write_bytes(with_rotation(partial.read_bytes(), take.rotation, width, height))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def main() -> None:
    """Render what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA / "videos", help="folder to write LABEL/TAKE to")
    parser.add_argument("--only", metavar="LABEL/TAKE", help="render this take alone")
    arguments = parser.parse_args()
    wanted = [take for take in TAKES if arguments.only in (None, take.name)]
    if not wanted:
        parser.error(f"found --only {arguments.only!r}; expected one of {', '.join(take.name for take in TAKES)}")
    for take in tqdm(wanted, unit="take"):
        render(take, arguments.out)


if __name__ == "__main__":
    main()
