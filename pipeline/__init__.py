"""Viewfinder: a phone's videos in, an image classifier for that phone out."""
