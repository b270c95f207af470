"""Backbones: Keras models with pretrained weights, and their conversion to LiteRT. This file imports no TensorFlow."""
