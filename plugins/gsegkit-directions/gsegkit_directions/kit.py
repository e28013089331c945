"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

DIRECTIONS = KitSettings(options={"batch_size": 4}, quality_options={"batch_size": 8}, iou_floor=0.9)
COLOUR_MAPS = KitSettings(
    options={"num_random": 2, "num_coordinates": 2, "num_pca": 2, "num_images": 4, "num_fit_images": 4},
    quality_options={"num_random": 0, "num_pca": 2, "num_images": 8, "num_fit_images": 16},
    iou_floor=0.9,
)
UNET_PAPER = KitSettings(options={"channels": 4, "batch_size": 4})
