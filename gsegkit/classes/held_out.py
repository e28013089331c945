"""Images whose labels are used: which ones, and that they are left out of the scoring, with a note that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gsegkit.dataset import LabelledDataset, Subset
from gsegkit.errors import DataError, plural
from gsegkit.seeds import child_seed
from gsegkit.types import Report


def choose_images(total: int, count: int, seed: int) -> list[int]:
    """`count` of `total` images, drawn without replacement, in rising order; a function of the seed alone."""
    generator = torch.Generator().manual_seed(child_seed(seed, "match"))
    return sorted(torch.randperm(total, generator=generator)[:count].tolist())


def leave_out(
    dataset: LabelledDataset, names: Sequence[str], purpose: str = "name the classes"
) -> tuple[LabelledDataset, str]:
    """A data set without the images whose labels were used, and a note that says so ("" when no label was used).

    Args:
        dataset: what is to be scored.
        names: of the images whose labels were used.
        purpose: what they were used to do.

    Raises:
        DataError: nothing would be left.
    """
    if not names:
        return dataset, ""
    used = set(names)
    kept = [index for index in range(len(dataset)) if dataset[index].name not in used]
    count = len(dataset) - len(kept)
    if not kept:
        raise DataError(
            f"every one of {plural(count, 'image')} was used to {purpose}, so none is left to score",
            "use the labels of fewer images",
        )
    were = "was" if len(used) == 1 else "were"
    what = f"{plural(len(used), 'annotated image')} {were} used to {purpose} (labels_used)"
    if not count:
        return dataset, f"{what}; none of them is in this data set"
    return Subset(dataset, kept), f"{what}; {count} of this data set's {len(dataset)} images were left out for it"


def with_note(report: Report, note: str) -> Report:
    """The report with one more note; "" adds none."""
    return replace(report, notes=(*report.notes, note)) if note else report
