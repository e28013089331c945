"""What the family's generators share: weights, noise and its truncation, classes, named activations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from gsegkit.errors import ConfigError, ContractError
from gsegkit.interfaces import Edit, Generator
from gsegkit.seeds import integers, isolated_rng, normals, uniforms
from gsegkit.taps import Taps
from gsegkit.types import FeatureSpec, GeneratedBatch, GeneratorInfo
from gsegkit.weights import NONE, load_weights
from gsegkit_resgan.config import Arch, ClassOptions, SampleOptions
from gsegkit_resgan.network import Network, statistics_at
from gsegkit_resgan.readers.selfcond import cluster_sizes

RANDOM_SEED = 0  # of networks without weights: the same options, the same network
NOISE_CUT = 2.0  # deviations at which truncated noise is cut, as in BigGAN's samples
FIT_RULE = "crop"  # all published weights learned from photographs that were cropped to a square


class ResidualGenerator(Generator):
    """A generator of the family; z is its edit space, `state_dict()` has the folded network's names.

    Attributes:
        arch: shape of the network.
        prior: probability of each class, as stored with the weights; () = all classes alike.
    """

    name: ClassVar[str]
    config: SampleOptions

    def __init__(self, config: SampleOptions) -> None:
        super().__init__(config)
        self.licence, self.fit_rule, self.mirrored = "", FIT_RULE, ""
        self.prior: tuple[float, ...] = ()
        if config.weights == NONE:
            self.set_network(config.new_arch(), random=True)
        else:
            load_weights(self, self.name, config.weights)

    # ---- network -------------------------------------------------------------------------------------------------

    def set_network(self, arch: Arch, *, random: bool = False) -> None:
        """Replace the network by one of this shape; `random`: its weights are, always the same for the same shape."""
        device = self.device
        with isolated_rng(RANDOM_SEED):
            network = Network(arch)
            if random:
                network.randomise()
        self.arch = arch
        network = network.to(device).to(memory_format=torch.channels_last)  # a tenth faster on a CPU
        self.__dict__["network"] = network  # only what is in it is registered, so that names stay short
        for name in [*self._modules, *self._parameters]:
            delattr(self, name)
        for name, child in network.named_children():
            self.add_module(name, child)
        for name, parameter in network.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.taps: Taps = network.taps()
        self.info = self._info()
        self.wanted, self._chances = self._classes()
        self.hashed_too = json.dumps(self.prior) if self.prior else ""
        sets, reference = arch.statistics, getattr(self.config, "statistics", "") == "reference"
        self._at = statistics_at(self.config.truncation, sets, reference)
        self.eval().requires_grad_(False)

    def facts(self) -> dict[str, Any]:
        """Shape of the network, licence of its weights, how probable each class is, how photographs were fitted."""
        return {
            "arch": self.arch.model_dump(mode="json"),
            "licence": self.licence,
            "prior": list(self.prior),
            "fit_rule": self.fit_rule,
            "mirrored": self.mirrored,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Rebuild the network that `facts()` described."""
        arch = Arch(**facts["arch"])
        self.licence, self.fit_rule = str(facts["licence"]), str(facts.get("fit_rule", FIT_RULE))
        self.mirrored = str(facts.get("mirrored", ""))
        self.prior = checked_prior(facts.get("prior", ()), arch.num_classes)
        self.set_network(arch)

    def _info(self) -> GeneratorInfo:
        specs = [FeatureSpec(name, channels, side, side) for name, _, _, channels, side in self.arch.features()]
        return GeneratorInfo(
            height=self.arch.side,
            width=self.arch.side,
            latent_shape=(self.arch.z_dim,),
            num_classes=self.arch.num_classes,
            features=tuple(specs),
            edit_points=self.taps.names,
            licence=self.licence,
            fit_rule=self.fit_rule,
            mirrored=self.mirrored,
        )

    # ---- what is drawn -------------------------------------------------------------------------------------------

    def latents(self, seeds: Tensor) -> Tensor:
        """See `Generator.latents`: [N, z_dim], normal; cut and scaled with `truncation`.

        BigGAN-deep learned from cut noise: with its statistics it is cut at truncation 1 too.
        """
        shape, truncation = (self.arch.z_dim,), self.config.truncation
        if truncation == 1 and self.arch.statistics == 1:
            return normals(seeds, shape).to(self.device)
        low, high = ndtr([-NOISE_CUT, NOISE_CUT])
        share = uniforms(seeds, shape, "latent").numpy().astype(np.float64)
        noise = truncation * ndtri(low + (high - low) * share)
        return torch.from_numpy(noise.astype(np.float32)).to(self.device)

    def labels(self, seeds: Tensor) -> Tensor | None:
        """See `Generator.labels`: of the wanted classes, alike or by the stored probabilities."""
        if not self.arch.num_classes:
            return None
        if self._chances is None:
            chosen = integers(seeds, len(self.wanted))
        else:
            share = uniforms(seeds, (1,), "label")[:, 0].double()
            chosen = torch.searchsorted(self._chances, share, right=True).clamp(max=len(self.wanted) - 1)
        return torch.tensor(self.wanted, dtype=torch.int64)[chosen].to(self.device)

    def _classes(self) -> tuple[tuple[int, ...], Tensor | None]:
        """The wanted classes, and the sums of their probabilities up to each; None = all alike."""
        count = self.arch.num_classes
        config = self.config
        wanted = config.class_numbers() if isinstance(config, ClassOptions) else ()
        if wanted and not 0 <= wanted[0] <= wanted[-1] < count:
            has = f"has the classes 0 to {count - 1}" if count else "has no classes"
            raise ConfigError(f"{self.name}: classes={list(wanted)[:20]}, but the network {has}", "choose others")
        wanted = wanted or tuple(range(count))
        clusterer = getattr(config, "clusterer", "")
        if clusterer and count:
            self.prior = checked_prior(cluster_sizes(Path(clusterer).expanduser(), count), count)
        if not self.prior:
            return wanted, None
        chances = torch.tensor([self.prior[i] for i in wanted], dtype=torch.float64)
        if not chances.sum() > 0:
            raise ConfigError(f"{self.name}: no image is of the classes {list(wanted)[:20]}", "choose others")
        return wanted, (chances / chances.sum()).cumsum(0)

    # ---- images --------------------------------------------------------------------------------------------------

    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """Make images with the stored statistics; see `Generator.synthesize`."""
        for name in features:
            self.info.feature(name)
        self._check(latents, labels)
        added = self.arch.cross_replica and getattr(self.config, "cross_replica", "") == "add"
        with self.taps.open(features, edits) as captured:
            images = self.__dict__["network"](latents, labels, at=self._at, added=added)
        return GeneratedBatch(images, latents, labels, features={name: captured[name] for name in features})

    def _check(self, latents: Tensor, labels: Tensor | None) -> None:
        if tuple(latents.shape[1:]) != self.info.latent_shape or latents.dtype != torch.float32:
            got = f"{latents.dtype} {list(latents.shape)}"
            raise ContractError(
                f"{self.name}: latents must be float32 [N, {self.arch.z_dim}], got {got}",
                "make them with the generator's own latents()",
            )
        count = self.arch.num_classes
        if not count:
            return
        if labels is None:
            raise ContractError(f"{self.name} is class-conditional: labels must be given", "pass the batch's labels")
        if labels.shape != latents.shape[:1] or labels.dtype != torch.int64 or not _inside(labels, count):
            raise ContractError(f"{self.name}: labels must be [N] int64 in 0 .. {count - 1}", "see labels()")


def checked_prior(prior: Sequence[float], classes: int) -> tuple[float, ...]:
    """Probabilities of the classes out of a file.

    Raises:
        ValueError: not one for each class, or not probabilities.
    """
    numbers = tuple(float(share) for share in prior)
    if numbers and (len(numbers) != classes or not all(0 <= share <= 1 for share in numbers)):
        raise ValueError(f"{len(numbers)} probabilities of {classes} classes")
    if numbers and not math.isclose(sum(numbers), 1, abs_tol=1e-6):
        raise ValueError(f"probabilities of the classes add up to {sum(numbers):.6g}")
    return numbers


def _inside(labels: Tensor, count: int) -> bool:
    return not len(labels) or bool((labels >= 0).all() and (labels < count).all())
