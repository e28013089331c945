"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

#: What the conformance kit fits: some hundred pixels of the toy.
_SMALL = {"num_images": 8, "pixels_per_image": 64, "kmeans": "torch"}

KMEANS = KitSettings(
    options=_SMALL,
    quality_options={"kmeans": "torch", "pixels_per_image": 32},
    iou_floor=0.45,  # 0.56 to 0.84 with seeds 0 to 5
)
AHC = KitSettings(
    options={"num_images": 8, "pixels_per_image": 24, "max_levels": 12},
    quality_options={"pixels_per_image": 6, "max_levels": 10},
    iou_floor=0.7,  # 0.81 to 0.90 with seeds 0 to 5
)
KASP = KitSettings(
    options={**_SMALL, "k0": 20},
    quality_options={"kmeans": "torch", "pixels_per_image": 32, "k0": 50},
    iou_floor=0.75,  # 0.84 to 0.97 with seeds 0 to 5
)
