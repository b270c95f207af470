"""Share results through an S3 bucket, as the README has it: push, clone elsewhere, pull, and nothing is left to run.

The bucket is moto's, served on this machine. The stages are stubs (tests/stub_stages.py); DVC and dvc.yaml are real.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.files import layout
from tests import stub_stages
from tests.sandbox import Sandbox
from tests.stub_stages import SCHEME

pytestmark = pytest.mark.slow

pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed (make setup-dev)")
boto3 = pytest.importorskip("boto3", reason="moto[server] is not installed (make setup-dev)")
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed (make setup-dev)")

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 service with an empty bucket `models`; its address and the keys to it are in the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)  # a line for each request
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="models")
        yield
    finally:
        server.stop()


def outputs(project: Sandbox) -> dict[str, bytes]:
    """Return the content of every file that stages made."""
    folders = ("build", "data/frames", "data/augmented", "data/bottlenecks", "models", "plots", "metrics")
    files = [file for name in folders for file in (project.folder / name).rglob("*") if file.is_file()]
    return {str(file.relative_to(project.folder)): file.read_bytes() for file in files if file.name != ".gitignore"}


def test_a_clone_pulls_from_s3_what_was_pushed_and_runs_nothing(bucket: None, tmp_path: Path) -> None:
    project = stub_stages.make(tmp_path / "project")
    project.run("dvc", "repro")
    project.run("dvc", "remote", "add", "--default", "storage", "s3://models/viewfinder")
    project.commit()
    project.run("dvc", "push")
    stub_stages.ran(project)

    clone = project.clone("clone")
    in_git = {str(layout.ARCHITECTURE), *(f"metrics/{name}.json" for name in (f"schemes/{SCHEME}", "deployed"))}
    assert set(outputs(clone)) == in_git
    clone.run("dvc", "pull")
    assert outputs(clone) == outputs(project)
    clone.run("dvc", "repro")
    assert stub_stages.ran(clone) == []
    assert clone.run("git", "status", "--porcelain") == ""
