"""One take to make from one take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.keys.key import key_of
from pipeline.takes.tables import write_parquet


@dataclass(frozen=True)
class TakeJob:
    """One take to make from one take. An engine may send it to another process, so all of it can be pickled.

    Attributes:
        name: What people know it by, "<label>/<take>".
        output: File to write, relative to the stage's output folder.
        key: Hash of all that the result depends on.
        compute: Computes the result, group of rows by group of rows while it is read; a `functools.partial` of a
            function of a module. Must depend on nothing that the key does not name. Runs in a thread: what takes time
            in it (decoding, resampling, inference) releases Python's lock.
    """

    name: str
    output: Path
    key: str
    compute: Callable[[], pa.RecordBatchReader]

    @classmethod
    def of(
        cls, name: str, output: Path, compute: Callable[[], pa.RecordBatchReader], depends_on: Mapping[str, object]
    ) -> "TakeJob":
        """Return a job whose key holds the code and the libraries that compute it, and whatever else is named.

        Args:
            name: See above.
            output: See above.
            compute: See above.
            depends_on: Settings, and hashes of the bytes that are read (see `keys.key.key_of`).
        """
        return cls(name, output, key_of(compute, depends_on), compute)

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
