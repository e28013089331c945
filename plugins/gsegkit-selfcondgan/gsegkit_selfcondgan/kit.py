"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

_TINY = {"resolution": 32, "channels": 2, "z_dim": 6}
SELFCONDGAN = KitSettings(options={**_TINY, "num_classes": 3, "class_dim": 5})
UNCONDGAN = KitSettings(options=_TINY)
SELFCONDGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_selfcondgan")
UNCONDGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_uncondgan")
