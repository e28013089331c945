"""What results depend on, for stage keys and for the recipe of a data set."""

from __future__ import annotations

from typing import Any

from gsegkit.classes.named import Named
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.plan import Plan
from gsegkit.interfaces import MaskExtractor


def files_identity(images: UnlabelledImages | None) -> list[Any]:
    """Names and sizes of image files, and how they are fitted."""
    if images is None:
        return []
    return [images.size, images.fit_rule, [(path.name, path.stat().st_size) for path in images.paths]]


def recipe_of(plan: Plan, extractor: MaskExtractor) -> dict[str, Any]:
    """What a plan's pairs are made by, for their manifest; `fingerprint` says which fit the masks came from."""
    names = {"gen", "extractor", "refine", "seed", "batch_size"} | ({"classes"} if plan.classes else set())
    own = extractor.class_map.extractor if isinstance(extractor, Named) else extractor.fingerprint()
    return {**plan.model_dump(mode="json", include=names), "fingerprint": own}
