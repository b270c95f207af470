"""Typed configuration: one module a section of params.yaml, and what turns a stage into a Hydra application."""
