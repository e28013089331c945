"""The page on which people paint: a static file that needs nothing, or one whose pictures a server paints."""

from gsegkit.painting.page.render import page_data, policy, render, static_page

__all__ = ["page_data", "policy", "render", "static_page"]
