"""Choosing by looking: the answers of several methods to the same photographs, and a segmenter from the chosen one."""
