"""Numbers that say how good a classifier is."""
