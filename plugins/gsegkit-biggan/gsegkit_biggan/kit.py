"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

_TINY = {"resolution": 32, "channels": 2, "z_dim": 4, "attention": 16}
BIGGAN = KitSettings(options={**_TINY, "num_classes": 3, "class_dim": 5})
BIGBIGAN = KitSettings(options=_TINY)
BIGGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_biggan")
BIGBIGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_bigbigan")
