"""Readers of other people's SPADE and OASIS files."""
