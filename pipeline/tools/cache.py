"""Tells how large the take cache is, and makes room in it."""

import sys

from pipeline.takes.cache import Contents, project_cache


def shown() -> str:
    """Tell what the project's cache holds.

    Raises:
        PipelineError: If conf/cache.yaml does not hold what it should.
    """
    cache = project_cache()
    max_bytes, cache.max_bytes = cache.max_bytes, sys.maxsize
    held = cache.make_room()  # removes nothing but what killed processes left
    return f"{cache.folder}: {_size(held, max_bytes)}\n"


def room_made(max_bytes: int | None) -> str:
    """Remove the results least recently used, and tell what is left.

    Args:
        max_bytes: Size to shrink to; None for what conf/cache.yaml says.

    Raises:
        PipelineError: If conf/cache.yaml does not hold what it should.
    """
    cache = project_cache()
    cache.max_bytes = cache.max_bytes if max_bytes is None else max_bytes
    left = cache.make_room()
    removed = f"{left.num_removed} removed ({left.num_removed_bytes / 1e9:.2f} GB)"
    return f"{cache.folder}: {_size(left, cache.max_bytes)}; {removed}\n"


def _size(contents: Contents, max_bytes: int) -> str:
    return f"{contents.num_entries} results, {contents.num_bytes / 1e9:.2f} GB of at most {max_bytes / 1e9:.2f} GB"
