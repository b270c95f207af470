"""Sets up Flower in an environment of its own: it wants other versions of Ray and rich than the project has.

pip checks each wheel against the hashes in requirements-federate.lock. Nothing is installed elsewhere.
"""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import sha256_of_bytes
from pipeline.takes.staging import staged

FOLDER = Path(".cache/federate")
PROJECT = Path(__file__).resolve().parents[2]
LOCK = PROJECT / "requirements-federate.lock"

# Neither Flower nor Ray tells its makers anything, and numbers are computed on one thread a client.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def set_up() -> Path:
    """Return the environment's Python, and make the environment if it is not there. An interrupted set-up leaves none.

    Raises:
        PipelineError: If something cannot be downloaded.
    """
    python = f"{sys.implementation.cache_tag} {sys.base_prefix}"
    folder = FOLDER / sha256_of_bytes(f"{python} {LOCK.read_text(encoding='utf-8')}".encode())[:16]
    if not folder.is_dir():
        sys.stderr.write("federate: setting up Flower in .cache/federate, once; this takes a minute\n")
        with staged(folder) as staging:
            _fill(staging.resolve())
    return (folder / "bin/python").absolute()


def _fill(folder: Path) -> None:
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    _run(
        *(sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet"),
        *("--disable-pip-version-check", "--no-input", "--no-deps", "--no-compile", "--require-hashes"),
        *("--only-binary=:all:", "--requirement", str(LOCK)),
    )


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise PipelineError(
            found=f"setting up Flower in .cache/federate failed: {lines[-1] if lines else 'it said nothing'}",
            expected=f"the packages of {LOCK.name} from PyPI, once",
            remedy="connect and try again; nothing half done is left",
        )
