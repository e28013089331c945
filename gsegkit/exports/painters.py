"""A trained painter as one file for other runtimes: a mask of class numbers and a latent in, a picture out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.colours import display_palette
from gsegkit.errors import CapabilityError
from gsegkit.exports.formats import model_path
from gsegkit.exports.networks import ModelExport, Parity
from gsegkit.exports.traced import (
    RUNTIMES,
    ParityError,
    Runner,
    check_possible,
    earlier,
    quiet,
    refuse_other,
    store,
    write_checked,
)
from gsegkit.painting import Painter
from gsegkit.seeds import normals
from gsegkit.tensors import state_hash
from gsegkit.types import IGNORE

TOLERANCE = 1e-3  # largest difference of a value in [-1, 1] that counts as rounding
WIRES = (("label", "z"), ("picture",))
FREEDOMS: tuple[tuple[str, ...], ...] = (("batch",), ())  # a painter has one size
BATCHES = (1, 2, 3)  # to compare on, where their number is free
BLOCK = 4  # pixels: side of the squares in the masks that are compared on


class MaskToPicture(nn.Module):
    """What is exported: class numbers to channels, then the painter's network.

    Args:
        network: see `Painter.as_network`.
        num_classes: K.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes

    def forward(self, label: Tensor, z: Tensor) -> Tensor:
        """Label [N, H, W] uint8, z [N, Z] float32 -> picture [N, 3, H, W] float32 in [-1, 1].

        Numbers of no class, 255 among them, count as unknown.
        """
        classes = torch.arange(self.num_classes, device=label.device)[:, None, None]
        label = label.int()[:, None]
        channels = torch.cat([label == classes, label >= self.num_classes], dim=1)
        picture: Tensor = self.network(channels.float(), z)
        return picture


def export_painter(
    painter: Painter,
    out: str | Path,
    format: str = "onnx",
    *,
    opset: int | None = None,
    palette: Tensor | None = None,
    update: bool = False,
) -> ModelExport:
    """Export a trained painter and check that the file paints what the painter paints.

    The file takes `label` [N, H, W] uint8 (classes 0 .. K - 1, anything above is unknown) and `z` [N, Z] float32 (see
    `Painter.latents`), and gives `picture` [N, 3, H, W] float32, RGB in [-1, 1]. Classes, colours and the rest travel
    in the file, and in the card beside it.

    Args:
        painter: fitted; it is not changed.
        out: file (`.onnx`, `.pt2`), or a folder that receives `painter.onnx` / `painter.pt2`.
        format: "onnx" or "torch".
        opset: ONNX operator set; None = torch's default.
        palette: [256, 3] uint8, colours of the classes; None = `display_palette()`.
        update: replace the export of another painter.

    Raises:
        CapabilityError: the painter is not a single network.
        ConfigError: unknown format, a suffix of another format, or the file is there and not an export of ours, or one
            of another painter and `update` is false.
        MissingDependencyError: ONNX packages are missing.
        ContractError: the network cannot be traced, or the exported one paints something else.
    """
    path = model_path(Path(out), format, "painter")
    network = copy.deepcopy(painter).cpu().eval().as_network()
    if network is None:
        raise CapabilityError(
            f"{type(painter).__name__} does not paint by one network, so there is none to export",
            "paint with gsegkit paint, or train a painter that has one with gsegkit train-painter",
        )
    check_possible(painter, format, opset)
    module = MaskToPicture(network.eval().requires_grad_(False), len(painter.classes)).eval()
    source = state_hash(painter)
    replaced, card = earlier(path)
    other = replaced is not None and card.get("painter") != source
    refuse_other(path, "another network" if other else "", update)
    facts = facts_of(painter, display_palette() if palette is None else palette)
    attempt = partial(_export_checked, module, painter, format=format, opset=opset, facts=facts)
    written = partial(_card, facts, path, format, source)
    free, parity = write_checked(path, type(painter).__name__, format, FREEDOMS, attempt, written, replaced)
    return ModelExport(path, format, free, parity)


def _export_checked(
    module: MaskToPicture,
    painter: Painter,
    path: Path,
    free: Sequence[str],
    *,
    format: str,
    opset: int | None,
    facts: Mapping[str, Any],
) -> tuple[Parity, ...]:
    """Trace, store, load what was stored, and compare with what `paint` gives."""
    example = _canvas(painter, 2 if "batch" in free else 1)
    names = {0: "batch"} if "batch" in free else {}
    dimensions = {axis: torch.export.Dim.AUTO for axis in names}
    with torch.no_grad(), quiet():
        program = torch.export.export(module, example, dynamic_shapes=(dimensions, dimensions), strict=False)
        runner = store(program, path, format, opset, WIRES, (names, names), facts)
        parity = tuple(_compare(painter, runner, count) for count in (BATCHES if free else (1,)))
    worst = max(one.max_abs_diff for one in parity)
    if not worst <= TOLERANCE:
        raise ParityError(f"its pictures differ by {worst:.1e} of [-1, 1]")
    return parity


def _compare(painter: Painter, runner: Runner, count: int) -> Parity:
    label, z = _canvas(painter, count)
    expected = painter.paint(label, z).cpu()
    (got,) = runner(label, z)
    if got.shape != expected.shape:
        raise ParityError(f"it returns {list(got.shape)} for {count} masks, expected {list(expected.shape)}")
    apart = (got - expected).abs()
    return Parity(tuple(label.shape), float(apart.max()), round(float((apart > TOLERANCE).float().mean()), 6))


def _canvas(painter: Painter, count: int) -> tuple[Tensor, Tensor]:
    """Masks of random squares, unknown ones among them, and latents."""
    height, width = painter.train_size
    generator = torch.Generator().manual_seed(count)
    blocks = torch.randint(
        0, len(painter.classes) + 1, (count, -(-height // BLOCK), -(-width // BLOCK)), generator=generator
    )
    blocks = torch.where(blocks == len(painter.classes), IGNORE, blocks).to(torch.uint8)
    masks = blocks.repeat_interleave(BLOCK, dim=1).repeat_interleave(BLOCK, dim=2)[:, :height, :width].contiguous()
    return masks, normals(torch.arange(count), (painter.latent_dim,))


def facts_of(painter: Painter, palette: Tensor) -> dict[str, Any]:
    """What travels inside the file: all that a program needs to paint with it."""
    colours = palette[: len(painter.classes)].tolist()
    return {
        "classes": list(painter.classes),
        "palette": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours],
        "size": list(painter.train_size),
        "label": f"uint8, the number of a class for every pixel; {len(painter.classes)} and above is unknown",
        "z": f"float32, {painter.latent_dim} standard normal numbers: what the picture looks like",
        "picture": "float32, NCHW, RGB, -1 .. 1; pixels of 8 bits are round(127.5 * picture + 127.5)",
    }


def _card(
    facts: Mapping[str, Any],
    path: Path,
    format: str,
    source: str,
    free: Sequence[str],
    parity: Sequence[Parity],
    refusals: Sequence[str],
) -> dict[str, Any]:
    return {
        "file": path.name,
        "format": format,
        **facts,
        "dynamic": list(free),
        "not_dynamic_because": list(refusals),
        "parity": [asdict(one) for one in parity],
        "parity_with": RUNTIMES[format],
        "versions": {"torch": torch.__version__},
        "painter": source,
    }
