"""What lies beside a painter: colours of its classes, masks to start from, licences. Made when it is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.classes.class_map import ClassMap
from gsegkit.classes.colours import GREY, run_palette
from gsegkit.classes.page.look import choose_pictures
from gsegkit.colours import display_palette
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ArtifactError
from gsegkit.painting.painter import Painter
from gsegkit.records.files import damaged_file
from gsegkit.records.text import cut, printable
from gsegkit.rundir import RunFolder
from gsegkit.tensors import load_tree, save_tree
from gsegkit.types import IGNORE

EXAMPLES_FILE = "examples.safetensors"
SHOWN = 16  # examples
CANDIDATES = 128  # pairs among which they are chosen, so that rare classes are seen
LONGEST_LICENCE = 300  # letters of it that a page shows
REMEDY = "train the painter again; the same command only makes what is missing"


@dataclass(frozen=True)
class Examples:
    """Pairs to start from, and how a page shows them.

    Attributes:
        pixels: [N, 3, H, W] uint8.
        masks: [N, H, W] uint8, classes and 255 = unknown.
        colours: "#rrggbb" of each class.
        licences: sentences on what the painter learned from.
    """

    pixels: Tensor
    masks: Tensor
    colours: tuple[str, ...]
    licences: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Put them into the folder of a painter."""
        tree = {
            "pixels": self.pixels, "masks": self.masks, "colours": list(self.colours), "licences": list(self.licences),
        }  # fmt: skip
        save_tree(folder / EXAMPLES_FILE, tree)


def examples_of(pairs: LabelledDataset, run_folder: Path, names: ClassMap | None = None) -> Examples:
    """Examples out of a run's pairs.

    Args:
        pairs: under the names of the painter's classes, at least one.
        run_folder: whose colours and licences are taken.
        names: class names that were given; None = those of the run.
    """
    rows = torch.linspace(0, len(pairs) - 1, min(CANDIDATES, len(pairs))).round().long()
    pixels, masks = pairs.batch(rows.tolist())
    small = F.interpolate(masks[:, None].float(), scale_factor=min(1, 64 / max(masks.shape[1:])), mode="nearest-exact")
    chosen = choose_pictures(small[:, 0], len(pairs.classes), min(SHOWN, len(rows)))
    chosen.sort(key=lambda place: int((masks[place] == IGNORE).sum()))  # a page begins with the first one
    palette = run_palette(run_folder, pairs.classes, names)
    return Examples(pixels[chosen], masks[chosen], css_colours(palette, len(pairs.classes)), _licences(run_folder))


def stored_examples(folder: Path, painter: Painter) -> Examples:
    """Those of a painter's folder; none, and the usual colours, where it has no such file.

    Raises:
        ArtifactError: the file is damaged, or belongs to another painter.
    """
    path, count, size = folder / EXAMPLES_FILE, len(painter.classes), painter.train_size
    if not path.is_file():
        empty = torch.zeros(0, *size, dtype=torch.uint8)
        return Examples(empty[:, None].expand(-1, 3, -1, -1), empty, css_colours(display_palette(), count))
    with damaged_file(path, REMEDY):
        tree = load_tree(path)
        found = Examples(tree["pixels"], tree["masks"], tuple(tree["colours"]), tuple(tree["licences"]))
        fits = (
            tuple(found.pixels.shape) == (len(found.masks), 3, *size)
            and tuple(found.masks.shape[1:]) == size
            and found.pixels.dtype == found.masks.dtype == torch.uint8
            and bool(((found.masks < count) | (found.masks == IGNORE)).all())
            and len(found.colours) == count
            and all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in found.colours)
            and all(isinstance(licence, str) for licence in found.licences)
        )
    if not fits:
        raise ArtifactError(f"'{path}' belongs to another painter", REMEDY)
    return found


def _licences(run_folder: Path) -> tuple[str, ...]:
    """What run.json says of the generator's weights: what the pairs were made with."""
    rows = RunFolder(run_folder).read_status().get("licences")
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2] if isinstance(rows, list) else []
    found = [str(licence) for what, licence in pairs if what == "generator weights" and licence]
    return tuple(licence_of("generator", licence) for licence in found)


def licence_of(what: str, licence: str) -> str:
    """The sentence on a page."""
    return f"Weights of the {what}: {cut(printable(licence), LONGEST_LICENCE)}."


def css_colours(palette: Tensor, count: int) -> tuple[str, ...]:
    """The first `count` of a palette [256, 3] uint8 as "#rrggbb".

    A background whose colour nobody chose is grey, as on the page on which classes are named.
    """
    colours = ["#" + bytes(row.tolist()).hex() for row in palette[:count]]
    return (GREY if colours[0] == "#000000" else colours[0], *colours[1:])
