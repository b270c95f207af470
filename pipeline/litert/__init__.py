"""Everything about .tflite files: running, quantizing, joining and describing them."""
