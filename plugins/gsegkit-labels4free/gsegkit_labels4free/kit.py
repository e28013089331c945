"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(options={"batch_size": 4, "disc_max": 8}, slow=("finds-the-object",), iou_floor=0.9)
