"""Foreground-oriented clustering (paper, Section 3.2 and Table 4): real images by the code that Q_x reads in them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import CapabilityError, DataError
from gsegkit.images import grid, png_bytes, to_images
from gsegkit.interfaces import Generator
from gsegkit.records.ours import PNG_MARK, check_own_file, marked_png
from gsegkit.storage import atomic_write
from gsegkit_layered.generator import Layered

BATCH = 64
COLUMNS = ("file", "cluster", "confidence")  # of the table
SHOWN = 8  # photographs of a cluster on a sheet


def cluster_photographs(
    generator: Generator,
    images: UnlabelledImages,
    photos: Path,
    out: Path,
    ctx: RunContext,
    *,
    sheet: Path | None = None,
    by_folder: bool = False,
) -> dict[str, Any]:
    """Sort a folder of photographs by Q_x; writes a CSV with the columns file, cluster, confidence.

    Args:
        generator: a trained `layered` one, on the context's device.
        images: the photographs, at their own sizes.
        photos: their folder.
        out: CSV to write; files are named relative to `photos`, confidence is Q_x's probability of the cluster.
        ctx: progress.
        sheet: PNG to write: the surest photographs of each cluster, one row each, in the order of the numbers.
        by_folder: also compare with the names of the files' folders.

    Returns:
        `clusters` (number -> photographs, empty ones left out), and with `by_folder` `classes` and `nmi`.

    Raises:
        CapabilityError: the generator is no `layered` one.
        ConfigError: its private code is normal, or `out` or `sheet` is a file that no earlier call wrote.
        DataError: no photographs, an untrained generator, or with `by_folder` photographs of one folder only.
    """
    for path, mark in ((out, ",".join(COLUMNS).encode()), (sheet, PNG_MARK)):
        if path is not None:
            check_own_file(path, mark)
    if not isinstance(generator, Layered):
        raise CapabilityError(
            f"{type(generator).__name__} has no private code",
            "give a run or the weights of the generator layered",
        )
    if not int(generator.seen):
        raise DataError("the generator was never trained", "give a run folder or the folder of its weights")
    folders = [path.parent.relative_to(photos).as_posix() for path in images.paths]
    if by_folder and len(set(folders)) < 2:
        raise DataError(f"all photographs of '{photos}' lie in one folder", "--by-folder needs a folder for each class")
    fitted = images.fitted((generator.info.height, generator.info.width), generator.info.fit_rule)
    parts = [range(i, min(i + BATCH, len(images))) for i in range(0, len(images), BATCH)]
    logs = [generator.clusters(to_images(fitted.batch(part))).cpu() for part in ctx.track(parts, "clustering")]
    confidence, found = torch.cat(logs).exp().max(dim=1)
    names = [path.relative_to(photos).as_posix() for path in images.paths]
    atomic_write(out, _table(names, found.tolist(), confidence.tolist()).encode())
    if sheet is not None:
        atomic_write(sheet, marked_png(png_bytes(_sheet(fitted, found, confidence))))
    result: dict[str, Any] = {"clusters": dict(sorted(Counter(found.tolist()).items()))}
    if by_folder:
        numbers = {name: i for i, name in enumerate(sorted(set(folders)))}
        truth = torch.tensor([numbers[folder] for folder in folders])
        result |= {"classes": len(numbers), "nmi": normalised_mutual_information(found, truth)}
    return result


def _table(names: list[str], found: list[int], confidence: list[float]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((name, c, f"{p:.4f}") for name, c, p in zip(names, found, confidence, strict=True))
    return text.getvalue()


def _sheet(images: UnlabelledImages, found: Tensor, confidence: Tensor) -> Tensor:
    """The surest photographs of each cluster, surest first, white where a cluster has fewer: [3, h, w] uint8."""
    assert images.size is not None
    rows = []
    for c in found.unique():
        members = (found == c).nonzero().flatten()
        surest = members[confidence[members].argsort(descending=True)][:SHOWN]
        row = torch.full((SHOWN, 3, *images.size), 255, dtype=torch.uint8)
        row[: len(surest)] = images.batch(surest.tolist())
        rows.append(row)
    return grid(torch.cat(rows), SHOWN)


def normalised_mutual_information(found: Tensor, truth: Tensor) -> float:
    """I(found; truth) over the arithmetic mean of the two entropies, as scikit-learn's default; [N] int64 both.

    1 for the same partition under any names, 0 for unrelated ones; 1 when neither side parts anything. Papers before
    2019 often used the geometric mean: say which when you compare.
    """
    if found.shape != truth.shape or found.ndim != 1 or not len(found):
        raise DataError(
            f"clusters {list(found.shape)} and labels {list(truth.shape)} cannot be compared",
            "give one of each per image",
        )
    return float(normalized_mutual_info_score(truth.cpu().numpy(), found.cpu().numpy()))
