"""The zoo's sample photographs: folders in this package with ATTRIBUTION.txt."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from gsegkit.interfaces import ATTRIBUTION_FILE, Samples
from gsegkit_zoo.bundled import bundled

PHOTOGRAPHS = Path(__file__).parent / "photographs"


class ZooSamples(Samples):
    """Photographs bundled in this package."""

    name: ClassVar[str]

    def folder(self) -> Path:
        """Where the files lie; ArtifactError when the package was installed without its data."""
        return bundled(PHOTOGRAPHS / self.name, ATTRIBUTION_FILE)


class BloodCells(ZooSamples):
    """Stained blood cells, single white ones among red ones."""

    name = "blood-cells"


class Portraits(ZooSamples):
    """Portraits of members of the United States Congress."""

    name = "portraits"
