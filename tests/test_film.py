"""`viewfinder film`: what comes in, what does not, and that nothing is lost or left over."""

import asyncio
import errno
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, write_bytes, write_text
from pipeline.images.codec import encode_jpeg
from pipeline.tools import film_store, try_page
from pipeline.tools.film import certificate_for, lan_address
from pipeline.tools.film_server import HEADER, new_secret, server
from pipeline.tools.try_page import page
from pipeline.video import sample_frames
from tests.clips import smooth, write_clip
from tests.conftest import PROJECT
from tests.opened_pages import Opened
from tests.test_try import browser  # noqa: F401 - a fixture

SECRET = "s3cret"
OWN = {HEADER: "film", "Content-Type": "video/mp4"}

Talk = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]


@pytest.fixture
def clip(folder: Path) -> bytes:
    """A video of two seconds, and a project with two labels."""
    write_clip(Path("clip.mp4"), [smooth(index) for index in range(20)])
    for label, num_takes in (("cup", 1), ("rote Möhre", 2)):
        for number in range(num_takes):
            write_text(layout.VIDEOS / label / f"{number}.mp4", f"{label}{number}")
    return Path("clip.mp4").read_bytes()


def talk_to_server(talk: Talk, *, max_bytes: int = 1_000_000) -> Any:
    """Start the server, and let someone talk to it; its address ends in the secret."""

    async def run() -> Any:
        hosts = set[str]()
        started = TestServer(server(lambda: "<p>the page</p>", SECRET, hosts, max_bytes=max_bytes))
        await started.start_server()
        hosts.add(f"{started.host}:{started.port}")
        async with aiohttp.ClientSession() as session:
            try:
                return await talk(session, f"http://{started.host}:{started.port}/{SECRET}/")
            finally:
                await started.close()

    return asyncio.run(run())


def post(label: str, body: Any, **headers: str) -> tuple[int, str]:
    """Send a take, and return status and text."""

    async def talk(session: aiohttp.ClientSession, address: str) -> tuple[int, str]:
        url = f"{address}takes"
        async with session.post(url, params={"label": label}, data=body, headers=OWN | headers) as response:
            return response.status, await response.text()

    found: tuple[int, str] = talk_to_server(talk)
    return found


def kept() -> list[Path]:
    """Return the takes that were not there before; nothing else may lie around."""
    files = [path for path in Path().rglob("*") if path.is_file() and path.suffix in (".mp4", ".webm", ".jpg", ".part")]
    before = {
        Path("clip.mp4"),
        *(layout.VIDEOS / name for name in ("cup/0.mp4", "rote Möhre/0.mp4", "rote Möhre/1.mp4")),
    }
    return sorted(set(files) - before)


def test_a_take_is_kept_as_it_came_and_counted(clip: bytes) -> None:
    status, text = post("cup", clip)
    assert status == 201
    (path,) = kept()
    assert path.parent == layout.VIDEOS / "cup"
    assert re.fullmatch(r"\d{8}_\d{6}_\d{6}\.mp4", path.name)
    assert path.read_bytes() == clip
    answer = json.loads(text)
    assert answer["file"] == path.name
    assert answer["labels"] == {"cup": 2, "rote Möhre": 2, "_none": 0}


def test_a_take_that_is_sent_again_is_kept_once(clip: bytes) -> None:
    """As by a phone that did not hear the answer: two equal takes would be refused by `split`."""
    answers = [json.loads(post("cup", clip)[1])["file"] for _ in range(2)]
    assert answers[0] == answers[1] == kept()[0].name


def test_a_new_label_and_what_is_none_of_them(clip: bytes) -> None:
    decomposed = unicodedata.normalize("NFD", "Bücher $(rm -r) & Co")
    assert post(f" {decomposed} ", clip)[0] == 201
    assert post("_none", clip)[0] == 201
    assert {path.parent.name for path in kept()} == {"Bücher $(rm -r) & Co", "_none"}


@pytest.mark.parametrize(
    ("label", "found"),
    [
        *((label, "label '") for label in ("", "..", "../../etc", "a/b", "a\\b", ".hidden", "a\nb", "a\0b", "x" * 201)),
        ("train", "label 'train', which is what data sets call their parts"),
        ("CUP", "label 'CUP' beside 'cup'\nfilm it as 'cup'"),
    ],
)
def test_a_label_that_is_no_folder_of_its_own(clip: bytes, label: str, found: str) -> None:
    status, text = post(label, clip)
    assert status == 422
    assert text.startswith(found)
    assert kept() == []
    assert sorted(path.name for path in layout.VIDEOS.iterdir()) == ["cup", "rote Möhre"]


def test_a_photo_is_a_take_of_its_own(clip: bytes) -> None:
    photo = encode_jpeg(smooth(1), quality=90)
    status, text = post("cup", photo, **{"Content-Type": "image/jpeg"})
    assert status == 201
    (path,) = kept()
    assert path.parent == layout.PHOTOS / "cup"
    assert path.read_bytes() == photo
    assert json.loads(text)["labels"] == {"cup": 2, "rote Möhre": 2, "_none": 0}


@pytest.mark.parametrize(("media_type", "kind"), [("video/mp4", "video"), ("image/jpeg", "photo")])
def test_what_is_no_video_and_no_photo_makes_no_label(clip: bytes, media_type: str, kind: str) -> None:
    for body in (b"", b"<script>", clip[: len(clip) // 2]):
        status, text = post("new", body, **{"Content-Type": media_type})
        assert status == 422
        assert f"this {kind} cannot be used" in text
        assert ".cache" not in text
    assert post("new", clip, **{"Content-Type": "text/html"})[0] == 415
    assert kept() == []
    assert not (layout.VIDEOS / "new").exists()
    assert not (layout.PHOTOS / "new").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},  # a name that was bent to this machine
        {HEADER: ""},
    ],
)
def test_what_another_page_makes_a_browser_send_is_refused(clip: bytes, headers: dict[str, str]) -> None:
    assert post("cup", clip, **headers)[0] == 403
    assert kept() == []


def test_only_who_knows_the_secret_finds_anything(clip: bytes) -> None:
    async def talk(session: aiohttp.ClientSession, address: str) -> list[tuple[int, dict[str, str]]]:
        found = []
        for path in ("", "takes", "..", f"../{SECRET}x/", f"../{new_secret()}/takes", "../"):
            async with session.get(URL(f"{address}{path}", encoded=True)) as response:
                found.append((response.status, dict(response.headers)))
        async with session.options(f"{address}takes", headers={"Origin": "https://evil.example"}) as response:
            found.append((response.status, dict(response.headers)))
        return found

    answers = talk_to_server(talk)
    assert [status for status, _ in answers] == [200, 200, 404, 404, 404, 404, 403]
    for _, headers in answers:
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert headers["Cache-Control"] == "no-store"
    assert new_secret() != new_secret()


def test_a_body_without_end_is_cut_off(clip: bytes) -> None:
    """A length that is too large is refused before anything is read, and one that is not told when it gets there."""
    assert post("cup", clip, **{"Content-Length": "10000000000"})[0] == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)

    assert post("cup", endless())[0] == 413
    assert kept() == []


def test_an_upload_that_breaks_leaves_nothing(clip: bytes) -> None:
    async def talk(_session: aiohttp.ClientSession, address: str) -> None:
        host, port = address.split("/")[2].split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /{SECRET}/takes?label=cup HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: video/mp4\r\n"
        writer.write(f"{head}{HEADER}: film\r\nContent-Length: {len(clip)}\r\n\r\n".encode() + clip[:1000])
        await writer.drain()
        for _ in range(100):
            if any(Path(".cache/film").glob("*")):
                break
            await asyncio.sleep(0.02)
        writer.close()
        for _ in range(100):
            if not any(Path(".cache/film").glob("*")):
                break
            await asyncio.sleep(0.02)

    talk_to_server(talk)
    assert kept() == []


def test_a_full_disk_is_told_and_loses_nothing(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: object, _chunk: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(film_store.Incoming, "write", full)
        status, text = post("cup", clip)
    assert status == 507  # the page keeps the take, and offers to send it again
    assert text.startswith("the computer's disk is full")
    assert kept() == []
    assert post("cup", clip)[0] == 201


def test_many_phones_at_once(clip: bytes) -> None:
    clips = []
    for number in range(6):
        write_clip(Path(f"{number}.mkv"), [smooth(index + number) for index in range(12)])
        write_clip(Path(f"{number}.mp4"), [smooth(index + number) for index in range(12)])
        clips.append(Path(f"{number}.mp4").read_bytes())
        Path(f"{number}.mp4").unlink()

    async def talk(session: aiohttp.ClientSession, address: str) -> list[int]:
        async def one(body: bytes) -> int:
            async with session.post(f"{address}takes", params={"label": "cup"}, data=body, headers=OWN) as response:
                return response.status

        return await asyncio.gather(*map(one, clips))

    assert talk_to_server(talk) == [201] * 6
    assert sorted(path.read_bytes() for path in kept()) == sorted(clips)


def test_never_over_another_file_also_where_there_are_no_links(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pipeline.tools.film_store.os.link", no_links)
    assert post("cup", clip)[0] == 201
    (path,) = kept()
    assert path.read_bytes() == clip


def test_what_to_film_next_is_told(clip: bytes) -> None:
    assert film_store.advice() == []
    write_text(layout.INSPECTED, '{"film_next": ["cup: 3 more takes"]}')
    write_text(layout.PHOTOS / "cup/a.jpg", "")
    write_text(layout.PHOTOS / "pear/table/a.jpg", "")
    assert film_store.advice() == ["cup: 3 more takes"]
    assert film_store.labels() == {"cup": 2, "pear": 1, "rote Möhre": 2, "_none": 0}


@pytest.fixture
def lan() -> str:
    """Return this machine's address, if it is in a network."""
    try:
        return lan_address()
    except ConfigurationError as error:
        pytest.skip(str(error))


def test_a_certificate_is_for_its_address(folder: Path) -> None:
    certificate = certificate_for("127.0.0.1")

    async def talk() -> str:
        app = web.Application()
        app.router.add_get("/", _hello)
        started = TestServer(app)
        await started.start_server(ssl=certificate.context)
        expected = aiohttp.Fingerprint(bytes.fromhex(certificate.fingerprint.replace(":", "")))
        async with aiohttp.ClientSession() as session, session.get(started.make_url("/"), ssl=expected) as response:
            text = await response.text()
        await started.close()
        return text

    assert asyncio.run(talk()) == "hello"
    assert len(certificate.fingerprint.split(":")) == hashlib.sha256().digest_size
    assert list(folder.iterdir()) == []  # the key is in no file
    with pytest.raises(ConfigurationError, match="--address my-laptop\n"):
        certificate_for("my-laptop")


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", lambda *_: _Unreachable(unreachable))
    with pytest.raises(ConfigurationError, match=r"this machine is in no network \(Network is unreachable\)"):
        lan_address()


class _Unreachable:
    def __init__(self, connect: Callable[..., None]) -> None:
        self.connect = connect

    def __enter__(self) -> "_Unreachable":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_before_the_first_model_the_page_films_already(folder: Path) -> None:
    assert try_page.deployed() == ({}, None)
    made = page({}, None, films=True)
    assert "No model is in this page." in made
    assert "connect-src 'self'" in made
    assert '"models": [], "film": true' in made


class Command:
    """`viewfinder film`, as a process of its own, once it has said where it listens."""

    def __init__(self, *arguments: str) -> None:
        code = "import sys; from pipeline.tools.cli import viewfinder; viewfinder(prog_name='viewfinder')"
        command = [sys.executable, "-c", code, "film", *arguments]
        environment = {"PYTHONPATH": str(PROJECT), "PYTHONUTF8": "1", "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.told = ""
        while "Ctrl-C ends it" not in self.told:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()
            self.told += line
        (self.address,) = re.findall(r"^https?://\S+$", self.told, re.MULTILINE)

    def stop(self) -> str:
        """Press Ctrl-C, and return what is told at the end."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return errors


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def project(clip: bytes) -> Path:
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    return Path.cwd()


@pytest.mark.slow
def test_the_command_listens_here_alone_until_ctrl_c(project: Path, lan: str) -> None:
    port = free_port()
    command = Command("--port", port)
    assert command.address.startswith(f"http://127.0.0.1:{port}/")
    with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, by system
        socket.create_connection((lan, int(port)), timeout=5)
    busy = subprocess.run(
        command.process.args, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=False
    )
    assert busy.returncode == ConfigurationError.exit_status
    assert f"nobody can listen at 127.0.0.1:{port}" in busy.stderr
    assert command.stop().endswith("film: 0 takes were filmed\n")


@pytest.mark.slow
def test_in_a_browser_a_take_waits_until_the_computer_answers(project: Path, browser: Any) -> None:  # noqa: F811
    command = Command("--port", free_port())
    opened = Opened(browser, command.address)
    page = opened.page
    try:
        page.route("**/takes?label=*", lambda route: route.abort())
        page.wait_for_selector("#labels button")
        page.locator("#labels button").nth(0).click()
        page.wait_for_selector("#again:not([hidden])", timeout=60_000)
        assert "The computer does not answer" in page.text_content("#filmed")
        page.locator("#labels button").nth(1).click()  # sends the one that waits, in vain, and films nothing
        page.wait_for_selector("#filmed.bad:has-text('The take waits here.')")
        assert kept() == []
        page.unroute("**/takes?label=*")
        page.click("#again")
        page.wait_for_selector("#filmed:has-text('cup has 2 takes now')", timeout=60_000)
        assert page.is_hidden("#again")
    finally:
        page.close()
        command.stop()
    (path,) = kept()
    assert path.parent == layout.VIDEOS / "cup"


@pytest.mark.slow
def test_in_a_browser_a_take_is_filmed_over_https(project: Path, lan: str, browser: Any) -> None:  # noqa: F811
    """The first day: no model yet. The camera shows a picture, five seconds of it are kept, and can be read."""
    command = Command("--lan", "--port", free_port())
    assert command.address.startswith(f"https://{lan}:")
    assert "▄" in command.told  # the QR code
    opened = Opened(browser, command.address, ignore_https_errors=True)
    try:
        assert opened.proof == "There is no model yet: film some takes, and run dvc repro."
        opened.page.wait_for_selector("#labels button")
        assert opened.page.locator("#labels button").all_inner_texts() == [
            *("cup\n1 take", "rote Möhre\n2 takes", "none of them\n0 takes")
        ]
        opened.page.fill("#name", "pear")
        opened.page.click("#new button")
        opened.page.wait_for_selector("#filmed:has-text('pear has 1 take now')", timeout=60_000)
        assert opened.page.locator("#labels button").nth(1).inner_text() == "pear\n1 take"
        assert opened.said == []
    finally:
        opened.page.close()
        told = command.stop()
    (path,) = kept()
    assert path.parent == layout.VIDEOS / "pear"
    assert f"film: {path}\n" in told
    assert told.endswith("film: 1 take was filmed; now: dvc repro\n")
    frames = list(sample_frames(path, per_second=4, width_pixels=640))
    assert len(frames) >= 8
    assert frames[-1].pts_seconds > 3


@pytest.mark.slow
def test_in_a_browser_a_file_that_is_shown_is_kept_under_the_label_that_is_touched(
    project: Path,
    browser: Any,  # noqa: F811
) -> None:
    """A video that the model named wrong: one touch on the right label; nothing is filmed, the camera stays off."""
    command = Command("--port", free_port())
    opened = Opened(browser, command.address)
    page = opened.page
    video, photo = Path("IMG_3.webm"), Path("IMG_4.jpg")
    write_clip(video, [smooth(index) for index in range(20)], codec="libvpx-vp9")
    write_bytes(photo, encode_jpeg(smooth(5), quality=90))
    try:
        assert page.text_content("#what") == "Film 5 seconds of …"
        page.wait_for_selector("#labels button")
        for path, label, told in ((video, 1, "rote Möhre has 3 takes now"), (photo, 0, "cup has 2 takes now")):
            page.set_input_files("#file", str(path))
            page.wait_for_selector(f"#what:has-text('Keep {path.name} as a take of …')")
            assert page.text_content("#new button") == "Keep it"
            page.locator("#labels button").nth(label).click()
            page.wait_for_selector(f"#filmed:has-text('{told}')", timeout=60_000)
            assert page.text_content("#what") == "Film 5 seconds of …"
            assert page.is_hidden("#video")  # closed: under a second label it would be in doubt; and no camera
        assert opened.said == []
    finally:
        page.close()
        command.stop()
    kept_photo, kept_video = (path for path in kept() if path not in (video, photo))
    assert kept_photo.parent == layout.PHOTOS / "cup"
    assert kept_photo.read_bytes() == photo.read_bytes()
    assert kept_video.parent == layout.VIDEOS / "rote Möhre"
    assert kept_video.read_bytes() == video.read_bytes()


def test_a_recording_without_a_frame_is_refused(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_store, "sample_frames", lambda *_args, **_named: iter(()))
    incoming = film_store.Incoming(".mp4")
    with pytest.raises(InputError, match="this video cannot be used: it has no frame"):
        incoming.keep("cup")
    incoming.discard()
    assert kept() == []
