"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(
    options={
        "latent_dim": 5,
        "width": 4,
        "width_max": 8,
        "batch_size": 4,
        "discriminator_width": 4,
        "discriminator_layers": 2,
        "statistics_batches": 2,
    }
)
