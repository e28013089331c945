"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

_KIT = {
    "resolution": 32,
    "z_dim": 6,
    "num_images": 12,
    "round_images": 8,
    "batch_size": 4,
    "min_images": 2,
    "dtype": "float32",
    "settle_batches": 2,
}

LAYERED = KitSettings(options={**_KIT, "num_codes": 6, "group_size": 3})
PERTURBGAN = KitSettings(options=_KIT)
