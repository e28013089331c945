"""The generator `dcgan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ContractError
from gsegkit.interfaces import Edit, Segmenter, TrainableGenerator
from gsegkit.seeds import normals, uniforms
from gsegkit.taps import Taps
from gsegkit.tensors import load_state
from gsegkit.types import FeatureSpec, GeneratedBatch, GeneratorInfo
from gsegkit.weights import NONE, load_weights
from gsegkit_dcgan.config import DCGANArch, DCGANConfig
from gsegkit_dcgan.networks import GeneratorNet, image_size
from gsegkit_dcgan.training import train

RANDOM_SEED = 0  # of networks without weights: the same options, the same network


class DCGAN(TrainableGenerator):
    """Small convolutional generator; z is its edit space.

    Example:
        >>> generator = DCGAN(DCGANConfig(resolution=16, channels=4))
        >>> generator.sample(torch.arange(4), features=("layer0",)).images.shape
        torch.Size([4, 3, 16, 16])
    """

    divided = True
    config: DCGANConfig
    layers: torch.nn.ModuleList

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__(config)
        self.licence = ""
        self.fit_rule: str = config.fit
        self.mirrored = ""
        if config.weights == NONE:
            self.set_network(config.new_arch())
        else:
            load_weights(self, "dcgan", config.weights)

    # ---- weights -------------------------------------------------------------------------------------------------

    def set_network(self, arch: DCGANArch, *, empty: bool = False) -> None:
        """Replace the network by a random one, always the same for the same shape; `empty`: by one without numbers."""
        device = self.device
        with torch.random.fork_rng(devices=[]), torch.device("meta" if empty else "cpu"):
            torch.manual_seed(RANDOM_SEED)
            network = GeneratorNet(arch)
        self.arch = arch
        self.__dict__["network"] = (
            network if empty else network.to(device)
        )  # only its layers are registered, so that names stay short
        self.layers = network.layers
        hidden = {f"layer{i}": layer for i, layer in enumerate(list(network.layers)[:-1])}
        self.taps = Taps(hidden)
        self.info = self._info()
        network.requires_grad_(False)
        self.eval()

    def _info(self) -> GeneratorInfo:
        sizes = image_size(self.arch)
        channels, side = sizes[-1]
        if channels not in (1, 3) or not 8 <= side <= 1024:
            raise ArtifactError(
                f"a network that makes {channels} x {side} x {side}", "grey or RGB images were expected"
            )
        specs = tuple(FeatureSpec(f"layer{i}", c, s, s) for i, (c, s) in enumerate(sizes[:-1]))
        return GeneratorInfo(
            height=side,
            width=side,
            latent_shape=(self.arch.z_dim,),
            features=specs,
            edit_points=self.taps.names,
            licence=self.licence,
            fit_rule=self.fit_rule,
            mirrored=self.mirrored,
        )

    def facts(self) -> dict[str, Any]:
        """Shape of the network, licence of its weights, and how its photographs were fitted and mirrored."""
        return {
            "arch": self.arch.model_dump(mode="json"),
            "licence": self.licence,
            "fit_rule": self.fit_rule,
            "mirrored": self.mirrored,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Rebuild the network that `facts()` described."""
        self.licence, self.fit_rule = str(facts["licence"]), str(facts.get("fit_rule", self.config.fit))
        self.mirrored = str(facts.get("mirrored", ""))
        self.set_network(DCGANArch(**facts["arch"]))

    # ---- samples -------------------------------------------------------------------------------------------------

    def latents(self, seeds: Tensor) -> Tensor:
        """See `Generator.latents`: [N, z_dim] of the prior that the network was trained with."""
        shape = (self.arch.z_dim,)
        if self.arch.prior == "uniform":
            return (uniforms(seeds, shape, "latent") * 2 - 1).to(self.device)
        return normals(seeds, shape).to(self.device)

    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """Make images with the stored statistics; see `Generator.synthesize`. Edit points: `layer{j}`."""
        for name in features:
            self.info.feature(name)
        if tuple(latents.shape[1:]) != self.info.latent_shape or latents.dtype != torch.float32:
            raise ContractError(
                f"dcgan: latents must be float32 [N, {self.arch.z_dim}], got {latents.dtype} {list(latents.shape)}",
                "make them with the generator's own latents()",
            )
        with self.taps.open(features, edits) as captured:
            images = self.__dict__["network"](latents)
        return GeneratedBatch(images, latents, features={name: captured[name] for name in features})

    # ---- training ------------------------------------------------------------------------------------------------

    def fit(self, images: UnlabelledImages, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Train a new network of the options' shape from random weights on `images`, fitted by `config.fit`."""
        self.licence, self.fit_rule = "", self.config.fit
        self.mirrored = self.config.mirror.replace("none", "")
        self.set_network(self.config.new_arch())
        state = train(self.config, images, ctx, self.device)
        load_state(self, state, "the training")
