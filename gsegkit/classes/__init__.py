"""Clusters with names: class maps, matching by a few labels, the naming page."""
