"""Linear heads: trained in Keras, kept in a file that is read without it."""
