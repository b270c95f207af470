"""What this processor can do: XNNPACK chooses its float kernels by that, and they differ in the last bit."""

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

PROCESSOR = "processor"  # under which keys hold it

_CPUINFO = Path("/proc/cpuinfo")
_X86_LINE, _ARM_LINE = "flags", "Features"
_X86_ARITHMETIC = ("amx", "avx", "f16c", "fma", "sse", "ssse")  # how the flags begin that kernels are chosen by


@cache
def processor_features(cpuinfo: Path = _CPUINFO) -> str:
    """Return the kind of processor and its features, sorted, as one line; the same on every machine of one kind.

    Linux lists them in /proc/cpuinfo. On macOS the processor's name stands for them.
    """
    return f"{platform.machine()} {' '.join(sorted(_features(cpuinfo)))}".strip()


def _features(cpuinfo: Path) -> set[str]:
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, encoding="utf-8", check=False
        )
        return {asked.stdout.strip()}
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    listed = {name.strip(): set(values.split()) for name, _, values in (line.partition(":") for line in lines)}
    x86 = {flag for flag in listed.get(_X86_LINE, ()) if flag.startswith(_X86_ARITHMETIC)}
    return x86 | listed.get(_ARM_LINE, set())
