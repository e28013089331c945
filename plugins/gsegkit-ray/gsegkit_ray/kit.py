"""What the conformance kit should know about this plugin's components."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

SETTINGS = KitSettings(options={"shares": 2}, slow=("failing-run", "launched-run"))
