"""The painting page as the editor of a folder: one file that holds all pictures, or one that asks a server."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from gsegkit.editing.folder import AnnotationFolder
from gsegkit.errors import ConfigError
from gsegkit.images import png_bytes
from gsegkit.painting.page.render import SERVED, document, packed_mask, policy_of, thumbnail
from gsegkit.records.text import printable

SCRIPTS = ("mask.js", "png.js", "zip.js", "asked.js", "board.js", "tools.js", "editor.js")
LARGEST_PAGE = 32_000_000  # bytes


def static_editor(folder: AnnotationFolder, title: str) -> str:
    """The page with all pictures and masks in it; a person takes the masks out of it as a zip.

    Raises:
        ConfigError: it would be too large.
    """
    rows, size = [], 0
    for index, row in enumerate(listed(folder)):
        picture = "data:image/png;base64," + base64.b64encode(png_bytes(folder.pixels(index))).decode()
        masks = {"mask": packed_mask(folder.mask(index)), "draft": packed_mask(folder.draft(index))}
        size += len(picture) + len(masks["mask"]) + len(masks["draft"])
        if size > LARGEST_PAGE:
            raise ConfigError(
                f"a page with the pictures of '{folder.path}' would have more than {LARGEST_PAGE / 1e6:.0f} MB",
                "gsegkit paint FOLDER --serve shows them from this machine",
            )
        rows.append({**row, **masks, "picture": picture})
    identity = [[row[name] for name in ("name", "size", "draft")] for row in rows]
    key = hashlib.sha256(repr((folder.classes, identity)).encode()).hexdigest()[:16]
    data = {**model(folder, title), "id": f"editor-{key}", "pictures": rows}
    return document(SCRIPTS, policy_of(SCRIPTS), data, editor=True)


def served_editor() -> tuple[str, str]:
    """The page that asks its server, and its content policy."""
    policy = policy_of(SCRIPTS, SERVED)
    return document(SCRIPTS, policy, None, editor=True), policy


def model(folder: AnnotationFolder, title: str) -> dict[str, Any]:
    """What the page's script works on beside the pictures; JSON-ready."""
    classes = [{"name": name, "colour": colour} for name, colour in zip(folder.classes, folder.colours, strict=True)]
    return {"title": printable(title), "classes": classes}


def listed(folder: AnnotationFolder) -> list[dict[str, Any]]:
    """The pictures as the page lists them, in their order: name, size (width, height), thumbnail, what was done."""
    return [
        {
            "name": printable(shown.name), "size": [shown.size[1], shown.size[0]],
            "thumb": thumbnail(folder.pixels(index)),
            "changed": folder.changed(index), "done": folder.done(index),
        }
        for index, shown in enumerate(folder.pictures)
    ]  # fmt: skip
