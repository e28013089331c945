"""Images of a report, as data URIs: generated pairs, predictions, figures that stages left."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gsegkit.classes.colours import run_palette
from gsegkit.colours import display_palette
from gsegkit.dataset import Sample
from gsegkit.engine.shards import MANIFEST_FILE, ShardDataset
from gsegkit.errors import GsegkitError
from gsegkit.exports.predictions import INDEX_FILE
from gsegkit.images import read_image, read_mask, resize_pixels, shrunk_size
from gsegkit.report.read import HEADLINES, IN_WORDS, Source, as_dict, is_number, latest, show
from gsegkit.rundir import FIGURES_FOLDER, stage_folders
from gsegkit.types import IGNORE

SHEET_SIZE = 18  # generated pairs shown
PREDICTIONS = 16
THUMBNAIL = 256  # longer side of shown pairs
FIGURE = 1600  # longer side of a stage's figure
PNG_UP_TO = 96  # small images stay exact; larger ones become JPEG
STATISTICS_PIXELS = 32_000_000  # pixels counted for class shares
MAX_ROWS = 512
SCORE_ROWS = 10_000  # pairs whose scores are drawn; of more, so many at equal distances


@dataclass(frozen=True)
class Pair:
    """An image with its mask as a second, transparent image on top."""

    image: str
    mask: str
    width: int
    height: int


@dataclass(frozen=True)
class LegendEntry:
    """A class: its colour as CSS, its name, and its share of the pixels in percent ("" when unknown)."""

    colour: str
    name: str
    share: str


# ---- data URIs -----------------------------------------------------------------------------------------------------


def pair_of(pixels: Tensor, mask: Tensor, side: int = THUMBNAIL, palette: Tensor | None = None) -> Pair:
    """Encode [3, H, W] uint8 with its [H, W] uint8 mask, shrunk to `side`; `palette` as for `mask_uri`."""
    size = shrunk_size(pixels.shape[1], pixels.shape[2], side)
    small = F.interpolate(mask[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(torch.uint8)
    return Pair(image_uri(pixels, side), mask_uri(small, palette), size[1], size[0])


def image_uri(pixels: Tensor, side: int) -> str:
    """[3, H, W] uint8 as a data URI: PNG when small, else JPEG; shrunk to `side`."""
    size = shrunk_size(pixels.shape[1], pixels.shape[2], side)
    array = resize_pixels(pixels[None], size)[0].permute(1, 2, 0).contiguous().numpy()
    if max(size) <= PNG_UP_TO:
        return _uri(Image.fromarray(array), "PNG", optimize=True)
    return _uri(Image.fromarray(array), "JPEG", quality=88)


def mask_uri(mask: Tensor, palette: Tensor | None = None) -> str:
    """[H, W] uint8 as a palette PNG whose class 0 is transparent; 255 (ignore) is white.

    Args:
        mask: class indices.
        palette: [256, 3] uint8 colours; None = `display_palette()`.
    """
    palette = display_palette() if palette is None else palette
    image = Image.fromarray(mask.contiguous().numpy()).convert("L")
    image.putpalette(palette.flatten().tolist())
    return _uri(image, "PNG", optimize=True, transparency=bytes([0]) + bytes([255]) * 255)


def palette_of(source: Source, classes: Sequence[str]) -> Tensor:
    """Colours of a run's classes, [256, 3] uint8; the usual ones where the record of the run's own is damaged."""
    try:
        return run_palette(source.folder, classes)
    except GsegkitError as error:
        problem = f"the colours of the classes cannot be read: {error}"
        source.problems += [] if problem in source.problems else [problem]
        return display_palette()


def truth_palette(palette: Tensor, classes: Sequence[str], true_classes: Sequence[str]) -> Tensor:
    """Colours of annotations: a true class has the colour of the predicted class of its name, else one of its own.

    Args:
        palette: [256, 3] uint8, of the predicted classes.
        classes: names of the predicted classes.
        true_classes: names of the annotation's values.
    """
    places = {name: value for value, name in enumerate(classes)}
    if not set(true_classes) & set(classes):
        return palette
    found = palette.clone()
    free = iter(range(len(classes), 255))
    for value, name in enumerate(true_classes[:255]):
        found[value] = palette[places[name] if name in places else next(free, value)]
    return found


def _uri(image: Image.Image, format: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


# ---- the data set ----------------------------------------------------------------------------------------------------


def dataset_section(source: Source) -> dict[str, Any] | None:
    """The pairs of the last round: sheet, legend, refiner counts, scores; None when there are none to read."""
    folder = latest(source.folder, "dataset")
    if not (folder / MANIFEST_FILE).exists():
        return None
    try:
        dataset = ShardDataset(folder)
        rows = _spread(len(dataset), SHEET_SIZE)
        palette = palette_of(source, dataset.classes)
        sheet = [
            _sheet_entry(dataset[i], seed, palette) for i, seed in zip(rows, dataset.seeds(rows).tolist(), strict=True)
        ]
        shares, coverage = _class_shares(dataset)
        scores = {name: values.tolist() for name, values in dataset.scores(_spread(len(dataset), SCORE_ROWS)).items()}
    except GsegkitError as error:
        source.problems.append(f"the pairs cannot be shown: {error}")
        return None
    return {
        "pairs": len(dataset),
        "size": f"{dataset.manifest.width} x {dataset.manifest.height}",
        "classes": dataset.classes,
        "sheet": sheet,
        "legend": legend(dataset.classes, shares, palette),
        "funnel": funnel(dataset.counts),
        "scores": scores,
        "coverage": coverage,
    }


def _sheet_entry(sample: Sample, seed: int, palette: Tensor) -> dict[str, Any]:
    pair = pair_of(sample.pixels, sample.mask, palette=palette)
    return {"pair": pair, "name": sample.name.lstrip("0") or "0", "seed": str(seed)}


def legend(classes: Sequence[str], shares: Sequence[float] = (), palette: Tensor | None = None) -> list[LegendEntry]:
    """Colours and names of classes, in the order of the mask values."""
    colours = (display_palette() if palette is None else palette).tolist()
    entries = []
    for value, name in enumerate(classes):
        colour = "transparent" if value == 0 else f"rgb({', '.join(map(str, colours[value]))})"
        entries.append(LegendEntry(colour, name, f"{100 * shares[value]:.1f} %" if len(shares) else ""))
    return entries


def funnel(counts: dict[str, int]) -> list[dict[str, Any]]:
    """Candidates, what every refiner dropped, and what was kept; each with its share of the candidates."""
    total = max(counts.get("candidates", 0), 1)
    ends = ("candidates", "kept")
    names = ["candidates", *(name for name in counts if name not in ends), "kept"]
    return [
        {
            "name": name,
            "role": name if name in ends else "dropped",
            "count": counts.get(name, 0),
            "share": round(100 * counts.get(name, 0) / total, 1),
        }
        for name in names
    ]


def _class_shares(dataset: ShardDataset) -> tuple[list[float], list[float]]:
    """Mean share of every class over evenly spread rows, and each row's share outside class 0."""
    per_row = dataset.manifest.height * dataset.manifest.width
    rows = _spread(len(dataset), max(1, min(MAX_ROWS, STATISTICS_PIXELS // max(per_row, 1))))
    totals = torch.zeros(256, dtype=torch.long)
    coverage = []
    for row in rows:
        counts = torch.bincount(dataset[row].mask.flatten().long(), minlength=256)
        totals += counts
        counted = int(counts[:IGNORE].sum())
        coverage.append(1 - int(counts[0]) / counted if counted else 0.0)
    counted = max(int(totals[:IGNORE].sum()), 1)
    return [int(totals[value]) / counted for value in range(len(dataset.classes))], coverage


def _spread(length: int, count: int) -> list[int]:
    """At most `count` indices spread evenly over 0 .. length - 1."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


# ---- predictions and figures -----------------------------------------------------------------------------------------


def predictions(
    source: Source,
    folder: Path,
    per_image: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    true_classes: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Images that `gsegkit.exports.predictions.write_predictions` left, with their scores; the best first.

    Args:
        source: the run folder.
        folder: of the images.
        per_image: scores by picture.
        classes: names of the predicted classes.
        true_classes: names of the annotation's values.
    """
    names = source.json(*folder.relative_to(source.folder).parts, INDEX_FILE)
    palette = palette_of(source, classes)
    true_palette = truth_palette(palette, classes, true_classes)
    stems = [path.name.removesuffix(".image.png") for path in sorted(folder.glob("*.image.png"))]
    ordered = [stem for stem in names if stem in stems] + [stem for stem in stems if stem not in names]
    shown: list[dict[str, Any]] = []
    for stem in ordered[:PREDICTIONS]:
        name = show(names.get(stem, stem))
        try:
            pixels = read_image(folder / f"{stem}.image.png")
            predicted = pair_of(pixels, read_mask(folder / f"{stem}.label.png"), palette=palette)
            refined_path = folder / f"{stem}.refined.png"
            refined = pair_of(pixels, read_mask(refined_path), palette=palette) if refined_path.exists() else None
            truth_path = folder / f"{stem}.truth.png"
            truth = pair_of(pixels, read_mask(truth_path), palette=true_palette) if truth_path.exists() else None
        except GsegkitError as error:
            source.problems.append(str(error))
            continue
        row = as_dict(per_image.get(name))
        best = [key for key in HEADLINES if key in row] or list(row)
        scores = [(IN_WORDS.get(key, key.replace("_", " ")), show(row[key])) for key in best[:2]]
        rank = row[best[0]] if best and is_number(row[best[0]]) else None
        pictures = {"predicted": predicted, "refined": refined, "truth": truth}
        shown.append({"name": name, **pictures, "scores": scores, "rank": rank})
    if shown and all(item["rank"] is not None for item in shown):
        shown.sort(key=lambda item: -item["rank"])
    return shown


def figures(source: Source) -> list[dict[str, str]]:
    """What `RunContext.figure` left in every stage; an image without a caption is shown without."""
    found = []
    for stage in stage_folders(source.folder):
        for path in sorted((stage / FIGURES_FOLDER).glob("*.png")):
            try:
                uri = image_uri(read_image(path), FIGURE)
            except GsegkitError as error:
                source.problems.append(str(error))
                continue
            found.append({"stage": stage.name, "name": path.stem, "uri": uri, "caption": _caption(path)})
    return found


def _caption(path: Path) -> str:
    try:
        return path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
