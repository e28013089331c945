"""The zoo's entries: folders in this package with state.safetensors, component.json, card.json and samples.png."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from gsegkit.interfaces import Weights
from gsegkit.parts import STATE_FILE
from gsegkit_zoo.bundled import bundled

DATA = Path(__file__).parent / "data"


class ZooWeights(Weights):
    """Weights bundled in this package."""

    name: ClassVar[str]

    def folder(self) -> Path:
        """Where the files lie; ArtifactError when the package was installed without its data."""
        return bundled(DATA / self.name, STATE_FILE)


class BloodCells64(ZooWeights):
    """StyleGAN2 at 64 x 64 on 10,000 photographs of stained blood cells."""

    name = "blood-cells-64"
    samples = "blood-cells"
    names = "blood-cells"


class BloodCells128(ZooWeights):
    """StyleGAN2 at 128 x 128 on the same photographs: the training of blood-cells-64, gone on with one block more."""

    name = "blood-cells-128"
    samples = "blood-cells"


class CoffeeLeaf64(ZooWeights):
    """StyleGAN2 at 64 x 64 on 1,747 photographs of coffee leaves."""

    name = "coffee-leaf-64"


class Lpc64(ZooWeights):
    """StyleGAN2 at 64 x 64 on 4,000 drawn figures made of layers of the Liberated Pixel Cup."""

    name = "lpc-64"


class Portraits128(ZooWeights):
    """StyleGAN2 at 128 x 128 on the same portraits: the training of portraits-64, gone on with one block more."""

    name = "portraits-128"
    samples = "portraits"


class Portraits64(ZooWeights):
    """StyleGAN2 at 64 x 64 on 6,602 portraits of members of the United States Congress."""

    name = "portraits-64"
    samples = "portraits"
