"""Masks and networks as other tools read them."""
