"""Mask-sampling: how closely a generator's latents can be led to a mask, and what a picture costs."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import our_run
from gsegkit import api
from gsegkit.images import to_pixels
from gsegkit.painting.sampling import MaskSampling
from gsegkit.painting.scores import agreement, confusion
from gsegkit.seeds import sample_seeds


def follow(lab: Lab, weights: str, names: str, steps: list[int], masks: int = 24) -> dict[str, Any]:
    """Share of the pixels in which a run's segmenter finds the class that was to be painted, and CPU seconds a picture.

    The segmenter has no part in the search, which looks through the run's extractor.

    Args:
        lab: see `Lab`; the first seed is used.
        weights: of the zoo.
        names: class names that ship with them.
        steps: of the search; a row each.
        masks: painted, each with a seed of its own; what the extractor sees in pictures of the same generator.
    """
    run = our_run(lab, [f"gen.weights={weights}"], lab.seeds[0], classes=names)
    segmenter = api.load(run, device=str(lab.device))
    rows = []
    for count in steps[:1] if lab.tiny else steps:
        painter = api.open_painter(run, options={"steps": count}, device=str(lab.device))
        assert isinstance(painter, MaskSampling)
        given = painter.samples(2 if lab.tiny else masks).masks
        z = painter.latents(sample_seeds(lab.seeds[0], "test", 0, len(given)))
        began = time.process_time()
        pictures = painter.paint(given, z)
        seconds = (time.process_time() - began) / len(given)
        found = segmenter.predict(to_pixels(pictures)).cpu()
        miou, accuracy = agreement(confusion(given, found, len(painter.classes)))
        rows.append({"steps": count, "accuracy": accuracy, "miou": miou, "seconds": round(seconds, 2)})
        say(f"{rows[-1]}")
    return {"rows": rows, "masks": masks, "classes": list(segmenter.classes)}
