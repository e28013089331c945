"""What results depend on, for stage keys and for the recipe of a data set."""

from __future__ import annotations

import os
from typing import Any

from gsegkit.classes.named import Named
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.plan import Plan
from gsegkit.interfaces import MaskExtractor
from gsegkit.storage import file_hash


def files_identity(images: UnlabelledImages | None) -> list[Any]:
    """Names and sizes of image files, and how they are fitted."""
    if images is None:
        return []
    return [images.size, images.fit_rule, [(path.name, path.stat().st_size) for path in images.paths]]


def contents_identity(images: UnlabelledImages) -> dict[str, str]:
    """Path below their common folder -> hash of the bytes, of every image file."""
    common = os.path.commonpath([path.parent for path in images.paths])
    return {path.relative_to(common).as_posix(): file_hash(path) for path in images.paths}


def recipe_of(plan: Plan, extractor: MaskExtractor) -> dict[str, Any]:
    """What a plan's pairs are made by, for their manifest; `fingerprint` says which fit the masks came from."""
    names = {"gen", "extractor", "refine", "seed", "batch_size"} | ({"classes"} if plan.classes else set())
    own = extractor.class_map.extractor if isinstance(extractor, Named) else extractor.fingerprint()
    return {**plan.model_dump(mode="json", include=names), "fingerprint": own}
