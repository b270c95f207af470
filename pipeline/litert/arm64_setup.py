"""Sets up ARM64 in a folder: an emulator and a Python from Debian, and LiteRT, NumPy and Pillow from PyPI.

Nothing is installed. apt works in folders of its own, with the machine's own sources and keys, and checks each package
against the signed index; which versions came is in `packages.txt`. pip checks each wheel against the hashes in
requirements.lock.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import MissingPackageError, PipelineError
from pipeline.files import sha256_of_bytes, write_text
from pipeline.litert.arm64_chips import CHIPS
from pipeline.takes.staging import staged

FOLDER = Path(".cache/arm64")
LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"

_WHEELS = ("ai-edge-litert", "numpy", "pillow")
_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34)  # of glibc 2, which the wheels' names tell; Debian 12 has 36
_EMULATOR_PACKAGE = "qemu-user-static"
_HOST_ARCHITECTURES = {"x86_64": "amd64"}


def is_arm64() -> bool:
    """Tell whether this machine is what would be emulated."""
    return platform.machine() in ("aarch64", "arm64")


def set_up() -> Path:
    """Return the folder that holds it all, and make it if it is not there. An interrupted set-up leaves none.

    Raises:
        PipelineError: If this machine cannot have it, or something cannot be downloaded.
    """
    if is_arm64():
        raise PipelineError(
            found=f"this machine is ARM64 itself ({platform.machine()})",
            expected="an x86-64 machine, where ARM64 has to be emulated",
            remedy="use `viewfinder score` and `predict`: LiteRT here is the one for ARM64",
        )
    _refuse_elsewhere()
    lock = LOCK.read_text(encoding="utf-8")
    folder = FOLDER / _key(lock)
    if not folder.is_dir():
        sys.stderr.write("arm64: setting up an emulated ARM64 Linux with LiteRT in .cache/arm64, once\n")
        with staged(folder) as staging:
            _fill(staging.resolve(), lock)
    return folder.resolve()


def _refuse_elsewhere() -> None:
    missing = [name for name in ("apt-get", "apt-cache", "dpkg") if shutil.which(name) is None]
    if missing or sys.platform != "linux" or platform.machine() not in _HOST_ARCHITECTURES:
        lacking = f", and no {' and no '.join(missing)}" if missing else ""
        raise MissingPackageError(
            found=f"{sys.platform} on {platform.machine()}{lacking}",
            expected="for ARM64 emulation, Debian on x86-64, from whose packages it is set up",
            remedy="run it in a container of Debian",
        )


def _key(lock: str) -> str:
    """Return a name that changes with all that is put into the folder, as far as this project chooses it."""
    chosen = "".join(_entry(lock, name, python) for name in _WHEELS for python in ((3, 11), (3, 12)))
    chips = "".join(f"{name} {chip.cpuinfo()}" for name, chip in CHIPS.items())
    return sha256_of_bytes(f"{chosen}{chips}".encode())[:16]


def _fill(folder: Path, lock: str) -> None:
    python = _unpack_debian(folder)
    requirements = "".join(_entry(lock, name, python) for name in _WHEELS)
    write_text(folder / "requirements.txt", requirements)
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in _GLIBC_MINORS]
    _run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *(
            "--require-hashes",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={python[0]}.{python[1]}",
        ),
        *(*platforms, "--platform=manylinux2014_aarch64", "--no-compile"),
        *(f"--target={folder / 'site'}", f"--requirement={folder / 'requirements.txt'}"),
    )
    for name, chip in CHIPS.items():
        _write_root(folder, folder / "chips" / name, chip.cpuinfo())


def _unpack_debian(folder: Path) -> tuple[int, int]:
    """Download and unpack the emulator and Python; return Python's version."""
    apt = folder / "apt"
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True)
    write_text(apt / "status", "")  # nothing counts as installed, so all that is needed comes along
    host = _HOST_ARCHITECTURES[platform.machine()]
    write_text(
        apt / "apt.conf",
        f'Dir::State "{apt}";\nDir::State::status "{apt}/status";\nDir::Cache "{apt}";\n'
        f'APT::Architecture "{host}";\nAPT::Architectures {{ "{host}"; "arm64"; }};\n'
        'Acquire::Languages "none";\nAPT::Get::AllowUnauthenticated "false";\nAPT::Sandbox::User "";\n',
    )
    apt_environment = {"APT_CONFIG": str(apt / "apt.conf"), "LC_ALL": "C.UTF-8"}
    _run("apt-get", "update", "--quiet", environment=apt_environment)
    show = ("apt-cache", "show", "--no-all-versions", "libpython3-stdlib:arm64")
    told = _run(*show, environment=apt_environment, may_fail=True)  # if there is none; `update` does not, offline
    version = re.search(r"libpython3\.(\d+)-stdlib", told)
    if version is None:
        raise MissingPackageError(
            found="no Python for ARM64 among the packages that apt knows",
            expected="sources that have arm64, as Debian's own do, and the network, once",
            remedy="connect and try again; where the sources have no arm64, run it in a container of Debian",
        )
    python = f"python3.{version[1]}"
    wanted = (f"{python}-minimal:arm64", f"lib{python}-stdlib:arm64", "libstdc++6:arm64", f"{_EMULATOR_PACKAGE}:{host}")
    flags = ("--yes", "--quiet", "--download-only", "--no-install-recommends")
    _run("apt-get", "install", *flags, *wanted, environment=apt_environment)
    archives = sorted((apt / "archives").glob("*.deb"))
    for archive in archives:
        if archive.name.endswith(("_arm64.deb", "_all.deb")):
            _run("dpkg", "--extract", str(archive), str(folder / "root"))
        elif archive.name.startswith("qemu-user"):
            _run("dpkg", "--extract", str(archive), str(folder / "qemu"))
    write_text(folder / "packages.txt", "".join(f"{archive.name}\n" for archive in archives))
    _keep_the_emulator(folder)
    shutil.rmtree(apt)
    return 3, int(version[1])


def _keep_the_emulator(folder: Path) -> None:
    """Keep one emulator of the many that come in one package."""
    found = [folder / "qemu/usr/bin" / name for name in ("qemu-aarch64-static", "qemu-aarch64")]
    emulator = next((path.resolve() for path in found if path.exists()), None)
    if emulator is None:
        raise MissingPackageError(
            found=f"no qemu-aarch64-static in Debian's package {_EMULATOR_PACKAGE}",
            expected="an emulator for ARM64 programs",
            remedy="run it in a container of Debian 12 or 13",
        )
    emulator.rename(folder / "qemu-aarch64")
    shutil.rmtree(folder / "qemu")


def _write_root(folder: Path, root: Path, cpuinfo: str) -> None:
    """Make what a program sees as / on one chip: the one system that all share, and a processor of its own."""
    write_text(root / "proc/cpuinfo", cpuinfo)
    num_cores = cpuinfo.count("processor")
    for name in ("possible", "present"):
        write_text(root / "sys/devices/system/cpu" / name, f"0-{num_cores - 1}\n")
    for name in ("usr", "lib"):
        inside = folder / "root" / name
        target = inside if inside.exists() else folder / "root/usr" / name  # newer systems have /lib in /usr
        (root / name).symlink_to(os.path.relpath(target, root))


def _entry(lock: str, name: str, python: tuple[int, int]) -> str:
    """Return a package's entry in the lock file that is for a Python, without the condition that says so."""
    for found in re.finditer(
        rf"^({re.escape(name)}==[^ ]+)(?: ; ([^\\]+))? \\\n((?:    --hash.*\n)+)", lock, re.MULTILINE
    ):
        requirement, condition, hashes = found.groups()
        limit = re.search(r"python_full_version (<|>=) '3\.(\d+)'", condition or "")
        if limit is None or (python < (3, int(limit[2]))) == (limit[1] == "<"):
            return f"{requirement} \\\n{hashes}"
    raise PipelineError(
        found=f"{LOCK.name} has no {name} for Python {python[0]}.{python[1]}",
        expected=f"{name} with its hashes",
        remedy=f"bring it back: git checkout {LOCK.name}",
    )


def _run(*command: str, environment: Mapping[str, str] | None = None, may_fail: bool = False) -> str:
    """Run a program and return what it prints; what it complains about is told if it fails and must not."""
    done = subprocess.run(
        command,
        env=os.environ | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode and not may_fail:
        raise PipelineError(
            found=f"{_short(command)} failed: {last_line(done.stderr or done.stdout)}",
            expected="Debian's packages and PyPI, once, for the set-up of ARM64",
            remedy="connect and try again; nothing half done is left",
        )
    return done.stdout


def _short(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *(part for part in command[1:4] if not part.startswith("-"))])


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
