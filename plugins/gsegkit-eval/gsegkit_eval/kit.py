"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(options={"num_samples": 32, "backbone": "resnet18"})  # needs no extra

NEEDS_A_FILE = "it needs the file of Inception's weights, which nobody ships"
INCEPTION = KitSettings(
    options={"num_samples": 32},
    expected_failures=dict.fromkeys(
        ("comparison", "near-and-far", "comparison-again", "comparison-globals"), NEEDS_A_FILE
    ),
)
