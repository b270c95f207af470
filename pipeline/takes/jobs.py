"""One take to make from one take, or another table that can be made by itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from pipeline.errors import ConfigurationError
from pipeline.keys.key import key_of, versions_for
from pipeline.keys.libraries import installed_versions
from pipeline.keys.processor import PROCESSOR, processor_features
from pipeline.takes.tables import write_parquet


@dataclass(frozen=True)
class TakeJob:
    """One take to make from one take, or the heads of a fold to make from all.

    An engine may send it to another process, so all of it can be pickled.

    Attributes:
        name: What people know it by, "<label>/<take>" if it is a take.
        output: File to write, relative to the stage's output folder.
        key: Hash of all that the result depends on.
        compute: Computes the result, group of rows by group of rows while it is read; a `functools.partial` of a
            function of a module. Must depend on nothing that the key does not name. Runs in a thread: what takes time
            in it (decoding, resampling, inference) releases Python's lock.
        reads: The files that it reads, relative to the project's folder. On another machine there are no others.
        depends_on: What the key holds besides code and libraries; None if the key is made otherwise.
        versions: Of the libraries that the key holds, by their distributions.
    """

    name: str
    output: Path
    key: str
    compute: Callable[[], pa.RecordBatchReader]
    reads: tuple[Path, ...] = ()
    depends_on: Mapping[str, object] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        output: Path,
        compute: Callable[[], pa.RecordBatchReader],
        depends_on: Mapping[str, object],
        *,
        reads: Iterable[Path] = (),
    ) -> "TakeJob":
        """Return a job whose key holds the code and the libraries that compute it, and whatever else is named.

        Args:
            name: See above.
            output: See above.
            compute: See above.
            depends_on: Settings, and hashes of the bytes that are read (see `keys.key.key_of`).
            reads: See above.
        """
        key, versions = key_of(compute, depends_on), versions_for(compute)
        return cls(name, output, key, compute, tuple(reads), depends_on, versions)

    def refuse_other_bytes(self, machine: str) -> None:
        """Refuse to compute on a machine whose result would not be what the key says.

        Args:
            machine: Its name, for the error.

        Raises:
            ConfigurationError: If its libraries, its code, or its kind of processor where the key holds that, differ.
        """
        if self.depends_on is None:
            return
        here = installed_versions(self.versions)
        others = [
            f"{name} {here[name]} instead of {version}"
            for name, version in self.versions.items()
            if here[name] != version
        ]
        if not others and self.depends_on.get(PROCESSOR, processor_features()) != processor_features():
            others = ["a processor of another kind, on which features differ in the last bit"]
        if not others and key_of(self.compute, self.depends_on) != self.key:
            others = ["other code of the pipeline"]
        if others:
            raise ConfigurationError(
                found=f"the machine {machine} of the cluster has {', '.join(others)}",
                expected="machines that give the same bytes as this one",
                remedy="install the same requirements.lock there, use machines of one kind, or set `engine: local`",
            )

    def write(self, folder: Path) -> None:
        """Compute the result, as a Parquet file at its place in a folder, which must be there.

        A thread that lives longer than its stage would bring a folder back that was removed: so it makes none but the
        label's.

        Raises:
            PipelineError: If the take cannot be computed. Then the file is not whole, or not there.
        """
        for parent in reversed(self.output.parents[:-1]):
            (folder / parent).mkdir(exist_ok=True)
        write_parquet(self.compute(), folder / self.output)
