"""Readers of other people's DCGAN files."""
