"""Endings of files that can be takes, in lower case."""

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".3gp", ".mpg", ".mpeg", ".gif")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".heic", ".heif", ".avif", ".png", ".webp", ".bmp")
