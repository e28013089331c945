"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

_TINY = {
    "latent_dim": 5,
    "width": 4,
    "width_max": 8,
    "batch_size": 4,
    "discriminator_width": 4,
    "statistics_batches": 2,
}
SETTINGS = KitSettings(options={**_TINY, "discriminator_layers": 2})
SPATIAL = KitSettings(options={**_TINY, "discriminator_layers": 2, "hidden": 6})
SEGMENTING = KitSettings(options={**_TINY, "hidden": 6})
SPADE_READER = KitSettings(sample="gsegkit_spade.readers.sample:write_spade")
OASIS_READER = KitSettings(sample="gsegkit_spade.readers.sample:write_oasis")
