"""Checks of refiners. What happens to a row depends on that row alone, and pixels are never touched."""

from __future__ import annotations

from dataclasses import replace

import torch

from gsegkit.interfaces import Refiner
from gsegkit.testing import fixtures
from gsegkit.testing.generators import check_probs
from gsegkit.testing.subject import Subject
from gsegkit.types import IGNORE, LabelledBatch


def _refine(subject: Subject, part: Refiner, batch: LabelledBatch) -> LabelledBatch:
    refined = subject.call("refine", part.refine, batch)
    subject.expect(isinstance(refined, LabelledBatch), "refine", f"returned {type(refined).__name__}")
    assert isinstance(refined, LabelledBatch)
    return refined


def check_rows(subject: Subject) -> None:
    """Rows may be dropped, not reordered or invented; masks hold classes or 255; scores stay aligned."""
    for num_classes in (2, 4):
        batch = fixtures.labelled_batch(num_classes)
        refined = _refine(subject, subject.make(), batch)
        kept = torch.isin(batch.seeds, refined.seeds)
        subject.expect(torch.equal(batch.seeds[kept], refined.seeds), "refine", "reordered, repeated or invented rows")
        values = set(refined.masks.flatten().tolist()) - {IGNORE}
        subject.expect(
            values <= set(range(num_classes)), "refine", f"masks hold {sorted(values)} with {num_classes} classes"
        )
        subject.expect(refined.num_classes == num_classes, "refine", f"probs have {refined.num_classes} classes now")
        check_probs(subject, "refine", refined.probs)
        for name, score in batch.scores.items():
            subject.expect(name in refined.scores, "refine", f"lost the score '{name}'")
            aligned = torch.equal(score[kept], refined.scores[name])
            subject.expect(aligned, "refine", f"the score '{name}' does not belong to its rows any more")


def check_pixels(subject: Subject) -> None:
    """The pixels of the rows that remain are those that came in."""
    batch = fixtures.labelled_batch()
    refined = _refine(subject, subject.make(), batch)
    kept = torch.isin(batch.seeds, refined.seeds)
    subject.expect(torch.equal(fixtures.labelled_batch().pixels[kept], refined.pixels), "refine", "touched pixels")


def check_input_unchanged(subject: Subject) -> None:
    """The batch that came in is not written into."""
    batch = fixtures.labelled_batch()
    before = fixtures.clones(fixtures.tensors_of(batch))
    _refine(subject, subject.make(), batch)
    changed = fixtures.first_difference(before, fixtures.tensors_of(batch))
    subject.expect(not changed, "refine", f"wrote into batch.{changed}")


def check_rows_are_independent(subject: Subject) -> None:
    """What happens to a row depends on that row alone."""
    part, batch = subject.make(), fixtures.labelled_batch()
    whole = _refine(subject, part, batch)
    for i in range(len(batch)):
        rows = torch.zeros(len(batch), dtype=torch.bool)
        rows[i] = True
        alone = _refine(subject, part, batch.keep(rows))
        inside = whole.seeds == batch.seeds[i]
        subject.expect(len(alone) == int(inside.sum()), "refine", f"whether row {i} is kept depends on the other rows")
        same = torch.equal(alone.masks, whole.masks[inside])
        subject.expect(same, "refine", f"the mask of row {i} depends on the other rows")
        same = fixtures.close(alone.probs, whole.probs[inside])
        subject.expect(same, "refine", f"the probs of row {i} depend on the other rows")


def check_no_state(subject: Subject) -> None:
    """The same batch gives the same result again, in this refiner and in another of the same options."""
    part, batch = subject.make(), fixtures.labelled_batch()
    first = fixtures.tensors_of(_refine(subject, part, batch))
    for other in (part, subject.make()):
        again = fixtures.tensors_of(_refine(subject, other, batch))
        changed = fixtures.first_difference(first, again)
        subject.expect(not changed, "refine", f"the second call gave another {changed}")


def check_extreme_batches(subject: Subject) -> None:
    """No rows, only background, only foreground, only 255, blank pictures: no error, right types."""
    part, batch = subject.make(), fixtures.labelled_batch()
    nothing = batch.keep(torch.zeros(len(batch), dtype=torch.bool))
    subject.expect(len(_refine(subject, part, nothing)) == 0, "refine", "made rows out of an empty batch")
    for value in (0, 1, IGNORE):
        extreme = batch.with_masks(torch.full_like(batch.masks, value))
        _refine(subject, part, extreme)
        _refine(subject, part, replace(extreme, pixels=torch.full_like(batch.pixels, 255)))


def check_global_state(subject: Subject) -> None:
    """Construction and refining leave the global random states and torch's settings alone."""
    batch = fixtures.labelled_batch()
    with subject.untouched_globals("refine"):
        _refine(subject, subject.make(), batch)


REFINER_CHECKS = (
    check_rows,
    check_pixels,
    check_input_unchanged,
    check_rows_are_independent,
    check_no_state,
    check_extreme_batches,
    check_global_state,
)
