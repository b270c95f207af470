"""Packages of npm: downloaded once, compared with their hash, read from their archive. From a local server."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from pipeline.config.try_page import PackageConfig, try_config
from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.tools.npm_package import archive_of, files_of
from tests.test_weights import Server, server  # noqa: F401 - a fixture

FOLDER = Path(".cache/web")
ADDRESS = "/@scope/tool/-/tool-1.2.3.tgz"


def archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


ARCHIVE = archive({"dist/index.js": b"export {}", "LICENSE": b"Apache-2.0"})


def package(content: bytes = ARCHIVE) -> PackageConfig:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return PackageConfig("@scope/tool", "1.2.3", f"sha512-{digest}")


def registry(served: Server) -> str:
    return f"http://127.0.0.1:{served.server_address[1]}/"


def test_it_is_downloaded_once_and_then_found(server: Server) -> None:  # noqa: F811
    server.content[ADDRESS] = ARCHIVE
    for _ in range(2):
        assert archive_of(package(), registry(server), FOLDER) == ARCHIVE
    assert server.requests == [ADDRESS]
    assert [path.name for path in FOLDER.iterdir()] == ["scope-tool-1.2.3.tgz"]  # as `npm pack` calls it
    assert files_of(ARCHIVE) == {"dist/index.js": b"export {}", "LICENSE": b"Apache-2.0"}


def test_a_damaged_copy_is_downloaded_again(server: Server) -> None:  # noqa: F811
    server.content[ADDRESS] = ARCHIVE
    FOLDER.mkdir(parents=True)
    (FOLDER / "scope-tool-1.2.3.tgz").write_bytes(ARCHIVE[:-1])
    assert archive_of(package(), registry(server), FOLDER) == ARCHIVE
    assert (FOLDER / "scope-tool-1.2.3.tgz").read_bytes() == ARCHIVE


@pytest.mark.parametrize("is_cut", [True, False])
def test_what_is_not_what_the_hash_says_is_refused_and_not_kept(server: Server, is_cut: bool) -> None:  # noqa: F811
    server.content[ADDRESS] = ARCHIVE if is_cut else archive({"dist/index.js": b"alert(1)"})
    server.cut |= {ADDRESS} if is_cut else set()
    with pytest.raises(
        PipelineError, match=r"tool-1\.2\.3\.tgz (is another archive than conf/try.yaml|cannot be down)"
    ):
        archive_of(package(), registry(server), FOLDER)
    assert not FOLDER.exists()


def test_without_a_connection_it_says_what_to_bring(server: Server) -> None:  # noqa: F811
    with pytest.raises(
        PipelineError, match=r"cannot be downloaded \(HTTP Error 404(.|\n)*npm pack @scope/tool@1\.2\.3"
    ):
        archive_of(package(), registry(server), FOLDER)
    with pytest.raises(PipelineError, match=r"cannot be downloaded(.|\n)*\.cache/web/scope-tool-1\.2\.3\.tgz"):
        archive_of(package(), "http://127.0.0.1:1", FOLDER)


def test_another_archive_is_an_error_of_its_own_kind(server: Server) -> None:  # noqa: F811
    server.content[ADDRESS] = archive({})
    with pytest.raises(InputError, match="do not trust that registry"):
        archive_of(package(), registry(server), FOLDER)


def test_the_hash_in_conf_is_one() -> None:
    assert {package.name for package in try_config().packages} == {"@litertjs/core", "@litertjs/wasm-utils"}
    with pytest.raises(ConfigurationError, match=r"npm view a@1 dist\.integrity"):
        PackageConfig("a", "1", "sha1-abc")
