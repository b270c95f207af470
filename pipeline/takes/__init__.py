"""Takes: their split, their tables, their cache, and the runner that maps takes to takes."""
