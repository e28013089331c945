"""Draws the page: one file, no network, no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from gsegkit.errors import ConfigError
from gsegkit.images import png_bytes, resize_pixels, shrunk_size
from gsegkit.painting.examples import Examples, licence_of
from gsegkit.painting.page.network import asset, network_data, worker_script
from gsegkit.painting.painter import Painter
from gsegkit.records.text import printable
from gsegkit.tensors import state_hash

LARGEST_SIDE = 128  # pixels that a page paints by itself
LARGEST_PAGE = 6_000_000  # bytes
THUMBNAIL = 128  # longer side of an example's picture
SCRIPTS = ("mask.js", "png.js", "asked.js", "painters.js", "board.js", "tools.js", "style.js", "page.js")
STATIC = "worker-src blob:"
SERVED = "connect-src 'self'"


def static_page(painter: Painter, examples: Examples, title: str) -> str:
    """The page that paints by itself.

    Args:
        painter: fitted; its `in_page` is the network.
        examples: to start from, and colours.
        title: what it paints.

    Raises:
        ConfigError: the painter needs Python, or it is too large for a page.
    """
    height, width = painter.train_size
    remedy = "gsegkit paint FOLDER --serve paints on this machine"
    if max(height, width) > LARGEST_SIDE:
        raise ConfigError(f"a page paints at most {LARGEST_SIDE} px, and this painter has {width} x {height}", remedy)
    network = painter.in_page()
    if network is None:
        raise ConfigError("this painter does not run in a page", remedy)
    made = {**network_data(network, painter.latent_dim), "script": worker_script(network)}
    text = render(page_data(painter, examples, title), made)
    if (size := len(text.encode())) > LARGEST_PAGE:
        limit = f"{LARGEST_PAGE / 1e6:.0f} MB"
        raise ConfigError(f"the page would have {size / 1e6:.1f} MB, and the limit is {limit}", remedy)
    return text


def render(data: Mapping[str, Any] | None = None, network: Mapping[str, Any] | None = None) -> str:
    """The HTML.

    Args:
        data: of `page_data`; None = the page asks the server that sent it: `GET model` for the data, `POST paint` for
            pictures, with the part of its address behind the # in the header X-Gsegkit-Token.
        network: of `network_data`, and `script`, the worker's; with `data` alone.
    """
    return document(SCRIPTS, policy(static=data is not None), data, network)


def policy(*, static: bool) -> str:
    """The page's content policy: its own script alone, and its own worker or its own server."""
    return policy_of(SCRIPTS, STATIC if static else SERVED)


def document(
    scripts: Sequence[str],
    policy: str,
    data: Mapping[str, Any] | None,
    network: Mapping[str, Any] | None = None,
    *,
    editor: bool = False,
) -> str:
    """The page around its scripts.

    Args:
        scripts: files of the page, in the order in which they follow each other.
        policy: of `policy_of`.
        data: what the scripts work on; None = they ask the server.
        network: see `render`.
        editor: whether it has pictures with masks, in the place of styles and examples.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = files("gsegkit").joinpath("style.css").read_text(encoding="utf-8") + asset("page.css")
    return environment.from_string(asset("page.html.j2")).render(
        style=Markup(style), script=Markup(_joined(scripts)), policy=policy, editor=editor,
        data=_block(data), network=_block(network), title=data["title"] if data else "", version=version("gsegkit"),
    )  # fmt: skip


def policy_of(scripts: Sequence[str], more: str = "") -> str:
    """A content policy: these scripts alone, pictures in the page, and `more`."""
    digest = base64.b64encode(hashlib.sha256(_joined(scripts).encode()).digest()).decode()
    own = f"default-src 'none'; script-src 'sha256-{digest}'; {more + '; ' if more else ''}img-src data:; "
    return own + "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page_data(painter: Painter, examples: Examples, title: str) -> dict[str, Any]:
    """What the page's script works on, JSON-ready: inside a static page, or the answer to `GET model`."""
    height, width = painter.train_size
    identity = f"{state_hash(painter)} {painter.classes} {painter.train_size}"
    return {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:16],  # under which a browser keeps what was painted
        "title": printable(title),
        "size": [width, height],
        "classes": [
            {"name": name, "colour": colour} for name, colour in zip(painter.classes, examples.colours, strict=True)
        ],
        "regionStyles": painter.region_styles,
        "examples": [
            {"mask": packed_mask(mask), "picture": thumbnail(pixels)}
            for mask, pixels in zip(examples.masks, examples.pixels, strict=True)
        ],
        "licences": [*examples.licences, *([licence_of("painter", painter.licence)] if painter.licence else [])],
    }


def packed_mask(mask: Tensor) -> str:
    """[H, W] uint8, row by row, deflated, as base64."""
    return base64.b64encode(zlib.compress(mask.contiguous().numpy().tobytes(), 9)).decode()


def thumbnail(pixels: Tensor) -> str:
    """[3, H, W] uint8 as an address of its own, shrunk."""
    size = shrunk_size(int(pixels.shape[1]), int(pixels.shape[2]), THUMBNAIL)
    return "data:image/png;base64," + base64.b64encode(png_bytes(resize_pixels(pixels[None], size)[0])).decode()


def _block(value: Mapping[str, Any] | None) -> Markup | None:
    """JSON for a script element: nothing in it ends the element."""
    return Markup(json.dumps(value).replace("<", "\\u003c")) if value is not None else None


def _joined(scripts: Sequence[str]) -> str:
    return "".join(asset(name) for name in scripts)
