"""How good a painter is: whether another segmenter finds what was to be painted, and what the latent does."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ConfigError, DataError
from gsegkit.images import to_images, to_pixels
from gsegkit.interfaces import Segmenter
from gsegkit.painting.painter import Painter
from gsegkit.types import IGNORE, Report

STYLES = 4  # latents that each mask is painted with, for diversity and faithfulness
LEAST_PIXELS = 8  # of a class in a mask, for its mean colour to count

DEFINITIONS = {
    "share_of_ceiling": "miou as a share of miou_true",
    "miou": "mean IoU over the classes that occur: the scoring segmenter on painted pictures, against the given masks",
    "accuracy": "share of the known pixels in which the scoring segmenter finds the given class on painted pictures",
    "miou_true": "the same mean IoU on the true pictures of these masks: the ceiling",
    "accuracy_true": "the same share on the true pictures of these masks: the ceiling",
    "diversity": "mean absolute difference of two pictures of one mask, of 255; 0 = the latent is ignored",
    "colour_diversity": "how far the mean colour of a class is apart in two pictures of one mask, of 255; over classes",
    "colour_diversity_true": "the same between two true pictures: what there is to be learned",
    "faithfulness": "share of the variance of a class's mean colour, over masks and latents, that the latent explains",
}


def score(
    painter: Painter, dataset: LabelledDataset, scorer: Segmenter, ctx: RunContext, pictures: Tensor | None = None
) -> Report:
    """Score a painter on masks that it did not learn from.

    Args:
        painter: fitted.
        dataset: held-out pairs under the painter's classes, of its size.
        scorer: a segmenter of the same classes that took no part in the painter's training: one that did flatters it.
        ctx: seeds, micro-batches, progress.
        pictures: what `paint_all` gave for this data set; None = it is called.

    Raises:
        ConfigError: the three do not have the same classes.
        DataError: fewer than two pairs.
    """
    for what, classes in (("data set", dataset.classes), ("scoring segmenter", scorer.classes)):
        if classes != painter.classes:
            raise ConfigError(
                f"the {what} has the classes {', '.join(classes)}, the painter {', '.join(painter.classes)}",
                "give both the same class names",
            )
    if len(dataset) < 2:
        raise DataError("fewer than two pairs are no test", "give some hundred that the painter did not learn from")
    pictures = paint_all(painter, dataset, ctx) if pictures is None else pictures
    count = len(painter.classes)
    painted_table, true_table = torch.zeros(2, count, count, dtype=torch.int64)
    for rows in ctx.track(_batches(dataset, ctx), "scoring"):
        pixels, masks = dataset.batch(rows)
        painted_table += confusion(masks, scorer.predict(pictures[rows.start : rows.stop]).cpu(), count)
        true_table += confusion(masks, scorer.predict(pixels).cpu(), count)
    (miou, accuracy), (miou_true, accuracy_true) = agreement(painted_table), agreement(true_table)
    metrics = {
        "share_of_ceiling": miou / miou_true if miou is not None and miou_true else None,
        "miou": miou, "accuracy": accuracy, "miou_true": miou_true, "accuracy_true": accuracy_true,
        **latent_scores(painter, dataset, ctx),
    }  # fmt: skip
    tables = zip(painter.classes, class_ious(painted_table), class_ious(true_table), strict=True)
    per_class = {name: {"iou": iou, "iou_true": iou_true} for name, iou, iou_true in tables}
    return Report(metrics, per_class=per_class, definitions=DEFINITIONS)


def paint_all(painter: Painter, dataset: LabelledDataset, ctx: RunContext) -> Tensor:
    """A picture of every mask, of as many identities: [N, 3, H, W] uint8 on the CPU."""
    pictures = []
    for rows in ctx.track(_batches(dataset, ctx), "painting"):
        _, masks = dataset.batch(rows)
        z = painter.latents(ctx.seeds("test", len(rows), rows.start))
        pictures.append(to_pixels(painter.paint(masks, z)).cpu())
    return torch.cat(pictures)


def _batches(dataset: LabelledDataset, ctx: RunContext) -> list[range]:
    starts = range(0, len(dataset), ctx.batch_size)
    return [range(start, min(start + ctx.batch_size, len(dataset))) for start in starts]


def confusion(masks: Tensor, found: Tensor, count: int) -> Tensor:
    """Pixels by true (row) and found (column) class, 255 in `masks` left out: [K, K] int64."""
    known = (masks != IGNORE) & (found != IGNORE)
    return torch.bincount(masks[known].long() * count + found[known].long(), minlength=count * count).view(count, count)


def agreement(table: Tensor) -> tuple[float | None, float | None]:
    """Mean IoU over the classes that occur in the masks, and accuracy; None where there is no known pixel."""
    total = int(table.sum())
    if not total:
        return None, None
    found = [iou for iou in class_ious(table) if iou is not None]
    return sum(found) / len(found), float(table.diagonal().sum()) / total


def class_ious(table: Tensor) -> list[float | None]:
    """IoU of each class; None for one that does not occur in the masks."""
    hits, true = table.diagonal().double(), table.sum(dim=1)
    ious = hits / (true + table.sum(dim=0) - hits).clamp_min(1)
    return [float(iou) if occurs else None for iou, occurs in zip(ious, true > 0, strict=True)]


def latent_scores(painter: Painter, dataset: LabelledDataset, ctx: RunContext) -> dict[str, float | None]:
    """What the latent does, on up to a micro-batch of masks; see `DEFINITIONS`."""
    rows = torch.linspace(0, len(dataset) - 1, min(ctx.batch_size, len(dataset))).round().long().tolist()
    pixels, masks = dataset.batch(rows)
    styles, count = painter.latents(ctx.seeds("preview", STYLES)), len(painter.classes)
    pictures = torch.stack([painter.paint(masks, z.expand(len(masks), -1).contiguous()).cpu() for z in styles])
    colours = torch.stack([class_colours(one, masks, count) for one in pictures])
    true = class_colours(to_images(pixels), masks, count)
    return {
        "diversity": float((pictures[1:] - pictures[:-1]).abs().mean()) * 127.5,
        "colour_diversity": _apart(colours[1:], colours[:-1]),
        "colour_diversity_true": _apart(true[1:], true[:-1]),
        "faithfulness": _explained(colours),
    }


def class_colours(images: Tensor, masks: Tensor, count: int) -> Tensor:
    """Mean colour of each class in each picture.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1].
        masks: [N, H, W] uint8.
        count: K.

    Returns:
        [N, K, 3] float64 in [-1, 1]; NaN where a class has fewer than `LEAST_PIXELS` pixels.
    """
    regions = torch.stack([(masks == value).flatten(1) for value in range(count)], dim=1).double()
    sums = torch.einsum("nkp,ncp->nkc", regions, images.flatten(2).double())
    sizes = regions.sum(dim=2, keepdim=True)
    return torch.where(sizes >= LEAST_PIXELS, sums / sizes.clamp_min(1), torch.nan)


def _apart(one: Tensor, other: Tensor) -> float | None:
    """Mean absolute difference, of 255, of colours [..., K, 3] that both have: over the classes alike; None = none."""
    each = (one - other).abs().mean(dim=-1).flatten(0, -2).nanmean(dim=0)
    return None if bool(each.isnan().all()) else float(each.nanmean()) * 127.5


def _explained(colours: Tensor) -> float | None:
    """Share of the variance of the classes' colours [S, M, K, 3] between the S styles: the mean over classes."""
    shares = []
    for one in colours.unbind(dim=2):
        kept = one[:, ~one[0, :, 0].isnan()]  # [S, masks with the class, 3]
        total = (kept - kept.mean(dim=(0, 1))).square().sum()
        if kept.shape[1] > 1 and float(total) > 0:
            between = (kept.mean(dim=1) - kept.mean(dim=(0, 1))).square().sum() * kept.shape[1]
            shares.append(float(between / total))
    return sum(shares) / len(shares) if shares else None
