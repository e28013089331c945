"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

_TINY = {"resolution": 32, "channels": 2, "z_dim": 4}
_CLASSES = {**_TINY, "num_classes": 3}
_TWIN = ("edits", "weights-refused", "weights-of-a-run", "weights-of-a-part")  # of a class that is checked already
GGAN = KitSettings(options=_TINY)
SAGAN = KitSettings(options={**_CLASSES, "attention": 16})
SNGAN = KitSettings(options={**_CLASSES, "steps": 3, "batch_size": 4, "d_channels": 4, "start_steps": 1})
ACGAN = KitSettings(options=_CLASSES, slow=_TWIN)
CONTRAGAN = KitSettings(options={**_CLASSES, "class_dim": 5}, slow=_TWIN)
ACGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_acgan")
GGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_ggan")
SAGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_sagan")
SNGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_sngan")
CONTRAGAN_READER = KitSettings(sample="gsegkit_resgan.readers.sample:write_contragan")
