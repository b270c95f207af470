"""Share results through an S3 bucket, as the README has it: push, clone elsewhere, pull, and nothing is left to run.

The bucket is moto's, served on this machine. The stages are stubs (tests/stub_stages.py); DVC and dvc.yaml are real.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.files import layout
from pipeline.takes.cache import TakeCache
from pipeline.takes.remote_store import RemoteStore
from tests import stub_stages
from tests.sandbox import Sandbox
from tests.stub_stages import SCHEME

pytestmark = pytest.mark.slow

pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed (make setup-dev)")
boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed (make setup-dev)")
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed (make setup-dev)")

KEYS = {"access_key_id": "key", "secret_access_key": "secret"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 service with an empty bucket `models`; gives its address. Nothing about it is in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)  # a line for each request
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address, keys = f"http://{host}:{port}", {f"aws_{name}": value for name, value in KEYS.items()}
        boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="models")
        yield address
    finally:
        server.stop()


def outputs(project: Sandbox) -> dict[str, bytes]:
    """Return the content of every file that stages made."""
    folders = ("build", "data/frames", "data/augmented", "data/bottlenecks", "models", "plots", "metrics")
    files = [file for name in folders for file in (project.folder / name).rglob("*") if file.is_file()]
    return {str(file.relative_to(project.folder)): file.read_bytes() for file in files if file.name != ".gitignore"}


def give_keys(project: Sandbox) -> None:
    """Let a project's DVC know the keys to the bucket, and Git not."""
    for name, value in KEYS.items():
        project.run("dvc", "remote", "modify", "--local", "storage", name, value)


def test_a_clone_pulls_from_s3_what_was_pushed_and_runs_nothing(bucket: str, tmp_path: Path) -> None:
    project = stub_stages.make(tmp_path / "project")
    project.run("dvc", "repro")
    project.run("dvc", "remote", "add", "--default", "storage", "s3://models/viewfinder")
    project.run("dvc", "remote", "modify", "storage", "endpointurl", bucket)
    give_keys(project)
    project.commit()
    project.run("dvc", "push")
    stub_stages.ran(project)

    clone = project.clone("clone")
    in_git = {str(layout.ARCHITECTURE), *(f"metrics/{name}.json" for name in (f"schemes/{SCHEME}", "deployed"))}
    assert set(outputs(clone)) == in_git
    give_keys(clone)
    clone.run("dvc", "pull")
    assert outputs(clone) == outputs(project)
    clone.run("dvc", "repro")
    assert stub_stages.ran(clone) == []
    assert clone.run("git", "status", "--porcelain") == ""


def test_machines_share_takes_through_s3(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = stub_stages.make(tmp_path / "project")
    project.run("dvc", "remote", "add", "storage", "s3://models/viewfinder")
    project.run("dvc", "remote", "modify", "storage", "endpointurl", bucket)
    give_keys(project)
    monkeypatch.chdir(project.folder)
    keys = ["ab" * 32, "cd" * 32]
    first, second = (TakeCache(tmp_path / name, store=RemoteStore("storage")) for name in ("first", "second"))
    first.put(keys[0], b"content")
    second.fetch(keys)
    assert [second.get(key) for key in keys] == [b"content", None]
    stored = boto3.client("s3", endpoint_url=bucket, aws_access_key_id="key", aws_secret_access_key="secret")
    found = [entry["Key"] for entry in stored.list_objects_v2(Bucket="models", Prefix="viewfinder/takes")["Contents"]]
    assert found == [f"viewfinder/takes/ab/{keys[0]}"]
    project.run("dvc", "remote", "modify", "storage", "url", "s3://no-such-bucket/viewfinder")
    third = TakeCache(tmp_path / "third", store=RemoteStore("storage"))
    assert third.get(keys[0]) is None
    third.put(keys[0], b"content")
    assert third.get(keys[0]) == b"content"
    assert capsys.readouterr().err.count("takes are not shared: the remote `storage` cannot be used") == 1
