"""What the three generators share: latents, truncation, noise, named activations, weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gsegkit.errors import ConfigError, ContractError
from gsegkit.interfaces import Edit, Generator
from gsegkit.seeds import normals
from gsegkit.taps import Taps
from gsegkit.types import FeatureSpec, GeneratedBatch, GeneratorInfo
from gsegkit.weights import NONE, load_weights
from gsegkit_stylegan.config import Arch, SampleOptions
from gsegkit_stylegan.networks.stylegan2 import NoiseSource, lay_out, stored_noise, truncate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
RANDOM_SEED = 0  # of networks without weights: the same options, the same network


class FamilyGenerator(Generator):
    """A generator of the family; `state_dict()` has the canonical parameter names, nothing else."""

    name: ClassVar[str]
    arch_class: ClassVar[type[Arch]]
    config: SampleOptions
    _synthesis: Any  # the network's, compiled by option
    network: Any  # what build() made; its children are registered here, so that names stay canonical

    def __init__(self, config: SampleOptions) -> None:
        super().__init__(config)
        wanted = config.wanted_weights()
        if wanted == NONE:
            self.licence, self.fit_rule, self.mirrored = "", self._default_fit(), ""
            self.set_network(self._arch_of_options())
        else:
            load_weights(self, self.name, wanted)

    @abstractmethod
    def build(self, arch: Any) -> Any:
        """A random network of this shape."""

    # ---- network -----------------------------------------------------------------------------------------------

    def set_network(self, arch: Arch) -> None:
        """Replace the network by a random one of this shape, always the same for the same shape."""
        device = self.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            network = self.build(arch)
        self.arch = arch
        self.__dict__["network"] = lay_out(network.to(device))
        for name, child in network.named_children():
            self.add_module(name, child)
        self.taps = Taps(network.synthesis.taps())
        self.info = self._info()
        self._check_cutoff()
        self.eval().requires_grad_(False)
        self.__dict__["_synthesis"] = torch.compile(network.synthesis) if self.config.compile else network.synthesis

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
        self.licence, self.fit_rule = str(facts["licence"]), str(facts.get("fit_rule", self._default_fit()))
        self.mirrored = str(facts.get("mirrored", ""))
        self.set_network(self.arch_class(**facts["arch"]))

    def _arch_of_options(self) -> Arch:
        names = self.arch_class.model_fields
        return self.arch_class(**{name: getattr(self.config, name) for name in names})

    def _default_fit(self) -> str:
        return str(getattr(self.config, "fit", "squash"))

    def _check_cutoff(self) -> None:
        cutoff = self.config.cutoff
        if cutoff is not None and cutoff > self.arch.num_ws:
            raise ConfigError(f"cutoff={cutoff} but the network has {self.arch.num_ws} layers", "give fewer, or none")

    def _info(self) -> GeneratorInfo:
        arch = self.arch
        return GeneratorInfo(
            height=arch.resolution,
            width=arch.resolution,
            latent_shape=self._latent_shape(),
            num_classes=arch.num_classes,
            features=self._features(),
            edit_points=self.taps.names,
            licence=self.licence,
            fit_rule=self.fit_rule,
            mirrored=self.mirrored,
        )

    def _features(self) -> tuple[FeatureSpec, ...]:
        """Activations that can be read, shallow to deep."""
        specs = []
        for name in self.taps.names:
            side = int(name.split(".")[0][1:])
            # Edited, not read: the constant is the same in all samples, colours are no features.
            if not name.endswith((".const", ".rgb")):
                specs.append(FeatureSpec(name, self.arch.channels(side), side, side))
        return tuple(specs)

    def _read(self, name: str, activation: Tensor) -> Tensor:
        """A feature as `info` describes it, from the activation at its tap."""
        return activation.float()

    def _latent_shape(self) -> tuple[int, ...]:
        if self.config.space == "z":
            return (self.arch.z_dim,)
        w_dim = int(getattr(self.arch, "w_dim", 0))
        return (w_dim,) if self.config.space == "w" else (self.arch.num_ws, w_dim)

    # ---- samples -----------------------------------------------------------------------------------------------

    def z(self, seeds: Tensor) -> Tensor:
        """Input noise of the given identities: [N, z_dim] float32."""
        return normals(seeds, (self.arch.z_dim,)).to(self.device)

    def latents(self, seeds: Tensor) -> Tensor:
        """See `Generator.latents`; mapped, but not truncated: truncation is a part of synthesize()."""
        z = self.z(seeds)
        if self.config.space == "z":
            return z
        labels = self.labels(seeds)
        with torch.no_grad():  # row by row: a matrix product rounds differently in another batch
            rows = [
                self.network.mapping(z[i : i + 1], None if labels is None else labels[i : i + 1]) for i in range(len(z))
            ]
        w = torch.cat(rows) if rows else z.new_zeros(0, int(getattr(self.arch, "w_dim", 0)))
        return w if self.config.space == "w" else self.network.broadcast(w).contiguous()

    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """Make images with the stored noise; see `Generator.synthesize`."""
        return self._make(latents, labels, features, edits, self._noise(None))

    def sample(self, seeds: Tensor, *, features: tuple[str, ...] = ()) -> GeneratedBatch:
        """See `Generator.sample`; with noise=seed each sample has noise of its own."""
        with torch.no_grad():
            batch = self._make(self.latents(seeds), self.labels(seeds), features, None, self._noise(seeds))
        return replace(batch, seeds=seeds)

    def _make(
        self,
        latents: Tensor,
        labels: Tensor | None,
        features: tuple[str, ...],
        edits: Mapping[str, Edit] | None,
        noise: NoiseSource,
    ) -> GeneratedBatch:
        self._check(latents, labels, features)
        inputs = self.layer_inputs(latents, labels)
        dtype = DTYPES[self.config.dtype]
        if not features and not edits:
            return GeneratedBatch(self._synthesis(inputs, noise=noise, dtype=dtype), latents, labels)
        with self.taps.open(features, edits) as captured:
            images = self.network.synthesis(inputs, noise=noise, dtype=dtype)
        return GeneratedBatch(images, latents, labels, features={n: self._read(n, captured[n]) for n in features})

    @abstractmethod
    def layer_inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """What the synthesis network takes, from latents of the edit space."""

    def _check(self, latents: Tensor, labels: Tensor | None, features: tuple[str, ...]) -> None:
        for name in features:
            self.info.feature(name)
        shape = tuple(latents.shape[1:])
        if shape != self.info.latent_shape or latents.dtype != torch.float32:
            raise ContractError(
                f"{self.name}: latents must be float32 [N, {', '.join(map(str, self.info.latent_shape))}], "
                f"got {latents.dtype} {list(latents.shape)}"
            )
        if self.info.num_classes and labels is None:
            raise ContractError(f"{self.name} is class-conditional: labels must be given", "pass the batch's labels")

    def _noise(self, seeds: Tensor | None) -> NoiseSource:
        if self.config.noise == "fixed" or (self.config.noise == "seed" and seeds is None):
            return stored_noise
        device = self.device
        if self.config.noise == "none":
            return lambda layer, r: torch.zeros(1, 1, r, r, device=device)
        assert seeds is not None
        return lambda layer, r: normals(seeds, (1, r, r), f"noise {layer}").to(device)


class StyleGenerator(FamilyGenerator):
    """What both StyleGANs share: a mapping network, so that latents may be z, w or w+, and truncation."""

    def layer_inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """[N, num_ws, w_dim]: mapped, one per layer, truncated."""
        w = self.network.mapping(latents, labels) if self.config.space == "z" else latents
        ws = w if self.config.space == "w+" else self.network.broadcast(w)
        return truncate(ws, self.network.mapping.w_avg, self.config.psi, self.config.cutoff)
