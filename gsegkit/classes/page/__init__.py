"""The page on which people name clusters, and a contact sheet of them."""

from gsegkit.classes.page.look import Shown, View, look, num_candidates
from gsegkit.classes.page.photographs import with_photographs
from gsegkit.classes.page.render import render_page
from gsegkit.classes.page.sheet import write_sheet

__all__ = ["Shown", "View", "look", "num_candidates", "render_page", "with_photographs", "write_sheet"]
