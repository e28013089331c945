"""Painting pictures from masks. A wing that is open to plugins: import from here."""

from gsegkit.painting.painter import Painter, check_canvas
from gsegkit.painting.scores import score

__all__ = ["Painter", "check_canvas", "score"]
