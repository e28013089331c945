"""The zoo's sample photographs: folders in this package with ATTRIBUTION.txt."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from gsegkit.errors import ArtifactError
from gsegkit.interfaces import ATTRIBUTION_FILE, Samples

PHOTOGRAPHS = Path(__file__).parent / "photographs"


class ZooSamples(Samples):
    """Photographs bundled in this package."""

    name: ClassVar[str]

    def folder(self) -> Path:
        """Where the files lie.

        Raises:
            ArtifactError: the package was installed without its data.
        """
        folder = PHOTOGRAPHS / self.name
        if not (folder / ATTRIBUTION_FILE).is_file():
            raise ArtifactError(f"the zoo has no photographs '{self.name}' in '{folder}'", "reinstall gsegkit-zoo")
        return folder


class BloodCells(ZooSamples):
    """Stained blood cells, single white ones among red ones."""

    name = "blood-cells"


class Portraits(ZooSamples):
    """Portraits of members of the United States Congress."""

    name = "portraits"
