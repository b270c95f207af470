"""Keras and TensorFlow, imported without their notes on CPU features and absent GPUs. Import them from here."""

import os

from pipeline.processes.silence import silenced

os.environ["KERAS_BACKEND"] = "tensorflow"  # the only backend that the converter takes, whatever ~/.keras says
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors still raise

with silenced():  # the first notes come before the log level is read
    import keras
    import tensorflow

__all__ = ["keras", "tensorflow"]
