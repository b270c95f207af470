"""`python -m pipeline.tools` is `viewfinder`, where that is not installed."""

from pipeline.tools.cli import viewfinder

if __name__ == "__main__":
    viewfinder(prog_name="viewfinder")
