"""The Python API: the command line's verbs as functions."""
