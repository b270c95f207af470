"""The ways to make a picture square. Apart, so that naming them does not need NumPy."""

RESIZE_CHOICES = ("stretch", "crop", "pad")
