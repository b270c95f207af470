"""ARM64 processors that LiteRT is run on under emulation.

XNNPACK chooses its kernels by two things: the instructions that the processor has, which qemu's `-cpu` tells it, and
what core it is, which it reads from the numbers in /proc/cpuinfo (implementer and part, as in ARM's register MIDR_EL1;
https://github.com/pytorch/cpuinfo reads them). So each chip gives both, and they fit each other. The `Features` are
those that Linux lists for that core, for a reader of the file: the runtime asks the kernel, here qemu, instead.
"""

from dataclasses import dataclass

_V8_0 = "fp asimd evtstrm crc32 cpuid"
_V8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_V9_0 = f"{_V8_2} sha3 sve sve2 flagm frint svei8mm svebf16 i8mm bf16"
_NUM_CORES = 4  # as phones and Raspberry Pis have at least; one of them computes


@dataclass(frozen=True)
class Chip:
    """A kind of processor core.

    Attributes:
        qemu_cpu: What qemu is told to be.
        part: ARM's number of the core.
        features: Linux' names of what it can do.
        found_in: A thing that has it.
    """

    qemu_cpu: str
    part: int
    features: str
    found_in: str

    def cpuinfo(self) -> str:
        """Return a text as Linux has it in /proc/cpuinfo."""
        core = (
            "BogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"  # Arm Ltd
            "CPU architecture: 8\n"  # Linux says 8 of version 9, too
            "CPU variant\t: 0x0\n"
            f"CPU part\t: {self.part:#05x}\n"
            "CPU revision\t: 0\n\n"
        )
        return "".join(f"processor\t: {number}\n{core}" for number in range(_NUM_CORES))


DEFAULT_CHIP = "cortex-a76"

CHIPS = {
    "cortex-a53": Chip("cortex-a53", 0xD03, _V8_0, "Raspberry Pi 3"),
    "cortex-a72": Chip("cortex-a72", 0xD08, _V8_0, "Raspberry Pi 4"),
    "cortex-a76": Chip("cortex-a76", 0xD0B, _V8_2, "Raspberry Pi 5"),
    # qemu has no such core: all that it can emulate, but for SME, which this core lacks
    "cortex-x2": Chip("max,sme=off", 0xD48, _V9_0, "phones of 2022, with i8mm and bf16"),
}
