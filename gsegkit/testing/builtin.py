"""What the kit needs to know of the core's own parts, which lie below it. Imports no torch."""

from __future__ import annotations

from gsegkit.testing.settings import KitSettings

LOCAL = KitSettings(slow=("launched-run",))
