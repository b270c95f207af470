"""Core ML: a classifier's graph as a package for Apple's own runtime, and the proof that it is the same classifier."""
