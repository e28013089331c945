"""Painting pictures from masks. A wing that is open to plugins: import from here."""

from gsegkit.painting.painter import PageNetwork, Painter, check_canvas
from gsegkit.painting.scores import class_colours, paint_all, score
from gsegkit.painting.styles import Style, latents_of

__all__ = ["PageNetwork", "Painter", "Style", "check_canvas", "class_colours", "latents_of", "paint_all", "score"]
