"""What the code of a stage is, in a form that DVC can depend on."""

from pathlib import Path

from pipeline.keys.libraries import locked_versions
from pipeline.keys.usage import usage_of

# The second names what extras bring, which a stage may import, too.
LOCKS = (Path("requirements.lock"), Path("requirements-dev.lock"))


def description(stage: str) -> dict[str, object]:
    """Return what tells one stage's code from another: digests by module, locked versions by library.

    Args:
        stage: Its name; the lock files are those of the current folder.
    """
    usage = usage_of(f"pipeline.{stage}")
    return {"modules": dict(usage.modules), "libraries": locked_versions(usage.libraries, LOCKS)}
