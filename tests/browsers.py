"""Browsers in which pages are tried."""

import shutil

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser_path() -> str | None:
    """Return the first of `BROWSERS` that this machine has; None if it has none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)
