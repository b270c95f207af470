"""What stages make of one take. The code of a module here, and of all that it imports, is part of its results' keys."""
