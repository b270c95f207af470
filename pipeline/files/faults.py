"""What keeps a file from being read, found out before anybody waits for it."""

import errno
import os
import stat
from pathlib import Path

from pipeline.errors import InputError

_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def fault_of(path: Path) -> InputError | None:
    """Tell why a path cannot be read as a file or a folder; None if nothing is known against it.

    Nothing is opened: who opens a named pipe waits for a writer. A link is judged by what it leads to. A missing file
    is no fault: who opens it hears so at once.
    """
    name = name_of(path)
    if not _is_utf8(path):
        return InputError(
            found=f"the name of {name} is not UTF-8",
            expected="names in UTF-8, which all tables, models and DVC write down",
            remedy="rename what is not UTF-8",
        )
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if error.errno not in _LEADS_NOWHERE:
            return unreadable(path, error)
        return _broken_link(path) if path.is_symlink() else None
    if kind in _KINDS:
        return InputError(
            found=f"{name} is {_KINDS[kind]}", expected="files and folders", remedy="remove what is neither"
        )
    if not os.access(path, os.R_OK):
        return unreadable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return None


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the error for a path that the system does not let us read."""
    return InputError(
        found=f"{name_of(path)} cannot be read ({error.strerror or error})",
        expected="files and folders that you may read",
        remedy="make it readable (chmod -R u+rX), copy it again, or move it away",
    )


def name_of(path: Path) -> str:
    """Return a path that can be printed: bytes that are not UTF-8 become escapes, as the shell's $'...' takes them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path.name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _broken_link(path: Path) -> InputError:
    return InputError(
        found=f"{name_of(path)} is a link to {name_of(path.readlink())}, which is not there",
        expected="links that lead to a file",
        remedy="put back what it leads to (a disk that is not connected?), or remove the link",
    )
