"""Pictures: decoding, augmentation, and the one function that makes the model's input."""
