"""The table that tells how fine-tuning went: a row an epoch, from the start (epoch 0) on."""

CURVES = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "zero_percent")
