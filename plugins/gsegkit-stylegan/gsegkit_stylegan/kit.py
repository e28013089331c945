"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

STYLEGAN2 = KitSettings(
    options={
        "resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 10, "w_dim": 9, "mapping_layers": 2,
        "num_classes": 1, "kimg": 0.012, "batch_size": 4, "r1_interval": 2, "snapshot_kimg": 0.008,
    }
)  # fmt: skip
STYLEGAN = KitSettings(
    options={
        "resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 10, "w_dim": 9, "mapping_layers": 2,
        "num_classes": 3,
    }
)  # fmt: skip
STYLEGAN3 = KitSettings(
    options={"resolution": 16, "channel_base": 64, "channel_max": 6, "z_dim": 10, "w_dim": 9, "num_classes": 3}
)
PGGAN = KitSettings(options={"resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 10, "num_classes": 3})
STYLEGAN2_READER = KitSettings(sample="gsegkit_stylegan.readers.sample:write_stylegan2")
STYLEGAN3_READER = KitSettings(sample="gsegkit_stylegan.readers.sample:write_stylegan3")
STYLEGAN_READER = KitSettings(sample="gsegkit_stylegan.readers.sample:write_stylegan")
PGGAN_READER = KitSettings(sample="gsegkit_stylegan.readers.sample:write_pggan")
