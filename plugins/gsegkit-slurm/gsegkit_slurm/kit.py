"""What the conformance kit needs to know of the launcher `slurm`. Imports neither torch nor submitit."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(options={"cluster": "local", "array": 0}, slow=("launched-run",))
