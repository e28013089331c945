"""Colours of clusters and classes: one rule for the naming page, the report, predictions and exports."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints

from gsegkit.classes.class_map import RAW_NAME, ClassMap, stored_class_map
from gsegkit.classes.targets import coarse_parts
from gsegkit.colours import BRIGHT, display_palette
from gsegkit.interfaces import MaskExtractor
from gsegkit.records.files import Record
from gsegkit.rundir import RUN_FILE

if TYPE_CHECKING:
    from torch import Tensor

GREY = "#8d939b"  # the background, which is not coloured in the end
GOLDEN = 0.381966  # turn of the hue between colours when the hand-made ones are used up


class Colours(Record):
    """What run.json says of them: class name -> "#rrggbb"."""

    colours: dict[str, Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]] = {}  # noqa: RUF012


def distinct_colours() -> Iterator[str]:
    """Colours without end, no two alike: the bright ones of images, then turns of the hue."""
    given = {GREY}
    turns = (colorsys.hls_to_rgb(i * GOLDEN % 1, (0.62, 0.4, 0.75)[i % 3], 0.6) for i in range(1 << 20))
    hues = (f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}" for red, green, blue in turns)
    for source in ((f"#{colour}" for colour in BRIGHT), hues):
        for colour in source:
            if colour not in given:
                given.add(colour)
                yield colour


def cluster_colours(extractor: MaskExtractor, finest: int = 0) -> dict[int, str]:
    """A colour for each cluster: its own on every level where it is, and no two on one level are alike.

    The parts that a person is shown at first (`coarse_parts`) have the colours of classes 0, 1, 2 ... of any mask.
    Colours are given from coarse to fine, so they do not depend on how far that goes.

    Args:
        extractor: fitted.
        finest: the levels go as far as this one, and at least to the present cut and that of the parts.
    """
    if not extractor.levels:
        return {}
    coarse, parts, _ = coarse_parts(extractor)
    finest = max(finest, coarse, len(extractor.classes))
    levels = [extractor.level(k).ids for k in extractor.levels if k <= finest]
    beside: dict[int, set[int]] = {}
    for ids in levels:
        for cluster in ids:
            beside.setdefault(cluster, set()).update(ids)
    backgrounds = {ids[0] for ids in levels}
    found: dict[int, str] = {}
    for cluster in (*parts, *(cluster for ids in levels for cluster in ids)):
        if cluster not in found:
            taken = {found[other] for other in beside[cluster] if other in found}
            free = GREY if cluster in backgrounds and GREY not in taken else None
            found[cluster] = free or next(colour for colour in distinct_colours() if colour not in taken)
    return found


def class_colours(extractor: MaskExtractor, classes: Sequence[str]) -> dict[str, str]:
    """Class name -> colour, for those of `classes` that are clusters without a name; what run.json keeps."""
    colours = cluster_colours(extractor)
    numbers = {name: RAW_NAME.fullmatch(name) for name in classes}
    return {
        name: colours[int(match[1])]
        for name, match in numbers.items()
        if match is not None and int(match[1]) in colours
    }


def filled(chosen: Mapping[int, str], count: int) -> dict[int, str]:
    """A colour for each of `count` classes: the chosen one, else the usual one, else a free one; no two are alike.

    Args:
        chosen: mask value -> "#rrggbb".
        count: number of classes; that of class 0 is transparent where it is not chosen, so it needs none.
    """
    found = {value: colour.lower() for value, colour in chosen.items()}
    usual = dict(zip(range(1, count), distinct_colours(), strict=False))
    for value in range(1, count):
        if value not in found:
            taken = set(found.values())
            rest = (colour for colour in distinct_colours() if colour not in {*taken, *usual.values()})
            found[value] = usual[value] if usual[value] not in taken else next(rest)
    return found


def run_palette(folder: str | Path, classes: Sequence[str], given: ClassMap | None = None) -> Tensor:
    """[256, 3] uint8: what images colour the classes of a run with.

    Colours that were chosen with the class names, else those of the clusters, else the usual ones.

    Args:
        folder: a run, or a folder of `train`.
        classes: names of the mask values.
        given: the class names in use; None = those of the folder, if any.

    Raises:
        ConfigError: the class names of the folder are damaged.
        ArtifactError: its colours are.
    """
    names, record = given or stored_class_map(folder), Path(folder) / RUN_FILE
    chosen = names.colours(classes) if names else {}
    if names is None and record.is_file():
        stored = Colours.read(record).colours
        chosen = {value: stored[name] for value, name in enumerate(classes) if name in stored}
    return display_palette(filled(chosen, len(classes)))
