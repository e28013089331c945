"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(
    options={"resolution": 16, "z_dim": 10, "channels": 4, "steps": 3, "batch_size": 4, "start_steps": 1}
)
READER = KitSettings(sample="gsegkit_dcgan.readers.sample:write_sample")
