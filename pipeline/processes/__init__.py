"""What processes print and how they end, so that no last word is lost. Nothing here knows TensorFlow or LiteRT."""
