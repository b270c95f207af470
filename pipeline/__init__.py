"""Viewfinder: a phone's videos in, an image classifier for that phone out."""

import os
import signal
import sys


def _stop(_number: int, _frame: object) -> None:
    """End the process at once, without a traceback."""
    os.write(2, b"\ninterrupted\n")
    os._exit(130)


# Python runs this first for `python -m pipeline.<stage>` (argv[0] is "-m" so far) and for `viewfinder`, whose imports
# take up to seconds. From `run_stage` on, and in tools with something to clean up, Ctrl-C cleans up what was begun.
# Other importers of the package keep their own answer to it.
_PROGRAM = sys.argv[0].rpartition(os.sep)[2] if sys.argv else ""
if _PROGRAM in ("-m", "viewfinder") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)
