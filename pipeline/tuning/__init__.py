"""Fine-tuning: which part of a backbone learns, what it learns from, how, and which of its weights become zeros."""

# The table that tells how it went: a row an epoch, from the start (epoch 0) on. It stands here, where reading it does
# not import TensorFlow.
CURVES = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "zero_percent")
