"""Masks as other tools annotate them: run lengths and outlines, both ways."""
