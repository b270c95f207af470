"""Pages in a browser: what tests open, and what they read in it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.files import write_bytes
from pipeline.images.codec import encode_jpeg
from pipeline.tools import try_page
from tests.browsers import BROWSERS, browser_path
from tests.conftest import PROJECT


@contextmanager
def started(camera: Path, frames: Sequence[np.ndarray]) -> Iterator[Any]:
    """Start a Chromium of this machine whose camera shows frames, again and again; skip the test if there is none.

    Args:
        camera: Where the camera's video is written.
        frames: RGB, uint8, [height, width, 3].
    """
    playwright = pytest.importorskip("playwright.sync_api")
    path = browser_path()
    if path is None:
        pytest.skip(f"no browser here (apt-get install chromium); looked for {', '.join(BROWSERS)}")
    write_bytes(camera, b"".join(encode_jpeg(frame, quality=95) for frame in frames))
    arguments = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"]
    arguments += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


def runtime_files() -> dict[str, bytes]:
    """Return LiteRT for browsers, from the project's own cache, or the registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        try:
            return try_page.runtime()
        except PipelineError as error:
            pytest.skip(f"no runtime for browsers: {error}")


class Opened:
    """A page in a browser, with all that it asked for and said on the console."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.requests, self.said = list[str](), list[str]()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("body[data-state]", timeout=120_000)

    @property
    def asked(self) -> list[str]:
        """All that it asked for, but for what it holds itself."""
        return [url for url in self.requests if not url.startswith("blob:")]

    @property
    def proof(self) -> str:
        return str(self.page.text_content("#proof"))

    def answers(self) -> list[float]:
        """Return the probabilities of the first model, once it has said something."""
        self.page.wait_for_selector(".model[data-probabilities]", timeout=60_000)
        found: list[float] = json.loads(self.page.get_attribute(".model", "data-probabilities"))
        return found

    def forget(self) -> None:
        self.page.evaluate("document.querySelectorAll('.model').forEach(one => delete one.dataset.probabilities)")

    def settle(self, wanted: list[float]) -> None:
        """Wait until the answers are right, but for a video's colours; its first frame may be black."""
        for _ in range(100):
            if self.answers() == pytest.approx(wanted, abs=0.05):
                return
            self.page.wait_for_timeout(200)
        assert self.answers() == pytest.approx(wanted, abs=0.05)

    def open(self, path: str) -> list[float]:
        self.forget()
        self.page.set_input_files("#file", path)
        return self.answers()
