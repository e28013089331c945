"""What the painters `spade` and `oasis` share: the shape of their network is a stored fact, so foreign ones fit too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from gsegkit_spade.base import NetworkPainter
from gsegkit_spade.spatial import SpatialArch, SpatialNetwork


class SpatialPainter(NetworkPainter):
    """A painter with a `SpatialNetwork`."""

    network: SpatialNetwork | None

    @abstractmethod
    def arch(self) -> SpatialArch:
        """The shape of a new network for `classes` and `train_size`."""

    def build(self, *, spectral: bool) -> SpatialNetwork:
        """See `NetworkPainter.build`."""
        return SpatialNetwork(self.arch(), spectral=spectral)

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        if self.network is None:
            return {}
        arch = self.network.arch.model_dump(mode="json")
        return {"classes": list(self.classes), "arch": arch, "licence": self.licence}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`."""
        if "arch" not in facts:
            return
        arch, self.classes, self.licence = SpatialArch(**facts["arch"]), tuple(facts["classes"]), str(facts["licence"])
        if len(self.classes) != arch.num_classes:
            raise ValueError(f"{len(self.classes)} class names for {arch.num_classes} classes")
        self.train_size, self.latent_dim = arch.size, arch.latent_dim
        with torch.device("meta"):  # numbers come from the stored tensors, all of them
            network = SpatialNetwork(arch, spectral=False)
        self.network = network.to_empty(device=self.device)
