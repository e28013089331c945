"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(
    options={"k0": 8, "num_images": 8, "pixels_per_image": 64},
    quality_options={"k0": 40, "num_images": 64, "pixels_per_image": 128},
    iou_floor=0.8,
)
