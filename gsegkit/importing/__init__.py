"""Files that other software wrote, asked for by their path."""

from gsegkit.importing.readers import read_checkpoint

__all__ = ["read_checkpoint"]
