"""The hash of a take's content. Apart, so that its rule is all that frames depend on of how takes are found."""

from collections.abc import Iterable

from pipeline.files import sha256_of_bytes


def sha256_of_take(files: Iterable[str], *, is_folder: bool) -> str:
    """Return a take's hash: a file's own, or that of the hashes of a folder's files in their order.

    Args:
        files: SHA-256 of each file's content, 64 hexadecimal digits, in the order of the files' names.
        is_folder: Whether the take is a folder of photos.
    """
    if is_folder:
        return sha256_of_bytes("".join(files).encode())
    (sha256,) = files
    return sha256
