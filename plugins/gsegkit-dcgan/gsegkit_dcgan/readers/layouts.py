"""Checkpoints of DCGANs that others trained: which layers they have cannot be read from tensors alone.

Each layout says what its training code says (strides, activations, prior, output range); sizes come from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from gsegkit_foreign import ForeignFile, all_finite, read_foreign
from torch import Tensor

from gsegkit.config import ConfigT, build_config
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit_dcgan.config import DCGANArch, LayerSpec

NOT_SAID = (
    "a state dict does not hold activations, noise and range of the images: ReLU, normal noise and tanh were assumed, "
    "as in PyTorch's example; with others the images are wrong"
)
FILES_HINT = "a generator checkpoint of a supported DCGAN layout was expected; see the plugin's README"
_COUNTERS = re.compile(r".*\.num_batches_tracked")


@dataclass(frozen=True)
class Found:
    """A generator read from a file.

    Attributes:
        layout: whose format it is.
        arch: the network.
        state: tensors under this plugin's names.
        batch_statistics: the network has no running statistics; they must be fixed once.
        licence: what is known of weights and data.
        notes: what the file did not say and what was assumed.
    """

    layout: str
    arch: DCGANArch
    state: Mapping[str, Tensor]
    batch_statistics: bool = False
    licence: str = ""
    notes: tuple[str, ...] = ()


@dataclass
class _Reader:
    """Takes tensors out of a table and remembers which are left."""

    tensors: dict[str, Tensor]
    layers: list[LayerSpec] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)

    def layer(
        self,
        op: str,
        norm: str = "",
        *,
        kind: Literal["linear", "up", "conv"] = "up",
        stride: int = 2,
        padding: int = 1,
        slope: float = 0.0,
    ) -> None:
        """The next layer: tensors `op.weight` (and bias), `norm.weight` ...; sizes from their shapes."""
        weight = self._take(f"{op}.weight", 2 if kind == "linear" else 4)
        name = f"layers.{len(self.layers)}"
        self.state[f"{name}.op.weight"] = weight
        bias = f"{op}.bias" in self.tensors
        if bias:
            self.state[f"{name}.op.bias"] = self._take(f"{op}.bias", 1)
        if norm:
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                self.state[f"{name}.norm.{leaf}"] = self._take(f"{norm}.{leaf}", 1)
            self.state[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)
        inputs, outputs = int(weight.shape[0]), int(weight.shape[1])
        if kind != "up":
            inputs, outputs = outputs, inputs
        kernel = 4 if kind == "linear" else int(weight.shape[-1])
        options = {
            "kind": kind,
            "inputs": inputs,
            "outputs": outputs // 16 if kind == "linear" else outputs,
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "bias": bias,
            "norm": "channel" if norm else "none",
            "slope": slope,
        }
        self.layers.append(_checked(LayerSpec, options, f"layer '{op}'"))

    def _take(self, name: str, rank: int) -> Tensor:
        tensor = self.tensors.pop(name, None)
        if tensor is None:
            raise ArtifactError(f"the checkpoint lacks '{name}'", FILES_HINT)
        if tensor.ndim != rank or not tensor.is_floating_point() or not all_finite(tensor):
            what = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            raise ArtifactError(f"'{name}' is {what}; finite weights of rank {rank} were expected", FILES_HINT)
        return tensor.float()

    def found(self, layout: str, licence: str, notes: tuple[str, ...] = (), **arch: Any) -> Found:
        """All layers were taken: nothing may be left."""
        left = [name for name in self.tensors if not _COUNTERS.fullmatch(name)]
        if left:
            raise ArtifactError(f"unexpected tensors: {', '.join(sorted(left)[:5])[:200]}", FILES_HINT)
        return Found(layout, _arch(layers=tuple(self.layers), **arch), self.state, licence=licence, notes=notes)


def _arch(**values: Any) -> DCGANArch:
    layers = values["layers"]
    if len(layers) < 2:
        raise ArtifactError(f"a network of {len(layers)} layer", FILES_HINT)
    return _checked(DCGANArch, {"z_dim": layers[0].inputs, **values}, "network")


def _checked(cls: type[ConfigT], options: Mapping[str, Any], where: str) -> ConfigT:
    try:
        return build_config(cls, options, where)
    except ConfigError as error:
        raise ArtifactError(f"a network that is not supported: {error.message[:300]}", FILES_HINT) from None


def _face_generator(reader: _Reader) -> Found:
    """fletchersarip93/face-generator: a 3x3 convolution after the first layer; no activation before it."""
    reader.layer("generator_deconv.0.0", "generator_deconv.0.1", stride=1, padding=0, slope=1)
    reader.layer("generator_deconv.1.0", "generator_deconv.1.1", kind="conv", stride=1, slope=0.2)
    reader.layer("generator_deconv.2.0", "generator_deconv.2.1", slope=0.2)
    reader.layer("generator_deconv.3.0", "generator_deconv.3.1", slope=0.2)
    reader.layer("generator_deconv.4.0", slope=1)
    return reader.found("face-generator", "Apache-2.0 (fletchersarip93/face-generator); data: CelebA", prior="uniform")


def _gan_from_scratch(reader: _Reader) -> Found:
    """fstdrvr/gan-from-scratch: linear first layer, images in 0 .. 1; the discriminator is in the same file."""
    reader.layer("fc", "upsample_and_generate.0", kind="linear")
    reader.layer("upsample_and_generate.2", "upsample_and_generate.3")
    reader.layer("upsample_and_generate.5", "upsample_and_generate.6")
    reader.layer("upsample_and_generate.8", slope=1)
    return reader.found("gan-from-scratch", "Apache-2.0 (fstdrvr/gan-from-scratch); data: CIFAR-10", output="sigmoid")


def _wgan_gp(reader: _Reader) -> Found:
    """akanametov/WGAN-GP: no padding; 1 -> 3 -> 6 -> 13 -> 28 pixels."""
    for i, stride in enumerate((2, 1, 2)):
        reader.layer(f"model.{i}.block.0", f"model.{i}.block.1", stride=stride, padding=0)
    reader.layer("model.3", stride=2, padding=0, slope=1)
    return reader.found("WGAN-GP", "MIT (akanametov/WGAN-GP); data: MNIST")


def _sequential(reader: _Reader) -> Found:
    """One nn.Sequential of transposed convolutions, batch normalisations and ReLUs, as in PyTorch's own example."""
    root = next(name.split(".")[0] for name in reader.tensors)
    ops = sorted(int(n.split(".")[1]) for n, t in reader.tensors.items() if n.endswith(".weight") and t.ndim == 4)
    for index in ops:
        first, last = index == ops[0], index == ops[-1]
        kernel = int(reader.tensors[f"{root}.{index}.weight"].shape[-1])
        if not first and kernel != 4:
            raise ArtifactError(f"'{root}.{index}' has a {kernel}x{kernel} kernel, 4x4 was expected", FILES_HINT)
        norm = "" if last else f"{root}.{index + 1}"
        place = {"stride": 1, "padding": 0} if first else {"stride": 2, "padding": 1}
        reader.layer(f"{root}.{index}", norm, slope=1.0 if last else 0.0, **place)  # type: ignore[arg-type]
    return reader.found("DCGAN as one Sequential", "that of the file's source", (NOT_SAID,))


#: A tensor that only this layout has -> how it is read. First match wins.
LAYOUTS: tuple[tuple[str, Callable[[_Reader], Found]], ...] = (
    ("generator_deconv.1.0.weight", _face_generator),
    ("upsample_and_generate.2.weight", _gan_from_scratch),
    ("model.0.block.0.weight", _wgan_gp),
    ("main.0.weight", _sequential),
    ("net.0.weight", _sequential),
)


def layout_of(names: Collection[str]) -> Callable[[Mapping[str, Tensor]], Found] | None:
    """How a table of tensors with these names is read; None when it is no known DCGAN."""
    for marker, layout in LAYOUTS:
        if marker in names:
            return lambda tensors, layout=layout: layout(_Reader(dict(tensors)))  # type: ignore[misc]
    return None


RADFORD = ("w", "g", "b", "w2", "g2", "b2", "w3", "g3", "b3", "wx")


def radford_files(folder: Path) -> list[Path]:
    """The ten arrays of Radford's own code in a folder, in order; [] when they are not there."""
    found = sorted(folder.glob("*_gen_params.jl_*.npy"))
    return found if len(found) == len(RADFORD) else []


def open_radford(folder: Path) -> list[ForeignFile]:
    """The same arrays, read."""
    return [read_foreign(path) for path in radford_files(folder)]


def read_radford(files: list[ForeignFile]) -> Found:
    """Newmu/dcgan_code: Theano arrays. True convolutions (flipped kernels), batch statistics at sampling time."""
    arrays: dict[str, Tensor] = {}
    for name, file in zip(RADFORD, files, strict=True):
        if not isinstance(file.root, Tensor) or not file.root.is_floating_point():
            raise ArtifactError(f"{file.path}: not an array of floats", FILES_HINT)
        arrays[name] = file.root.float()
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    ranks = [len(shapes[name]) for name in RADFORD]
    if ranks != [2, 1, 1, 4, 1, 1, 4, 1, 1, 4]:
        raise ArtifactError(
            f"{files[0].path.parent}: arrays of ranks {ranks}, not those of Radford's generator", FILES_HINT
        )
    common: dict[str, Any] = {"kernel": 5, "padding": 2, "output_padding": 1, "eps": 1e-8}
    layers = [
        LayerSpec(kind="linear", inputs=shapes["w"][0], outputs=shapes["w"][1] // 16, norm="feature", eps=1e-8),
        LayerSpec(kind="up", inputs=shapes["w2"][0], outputs=shapes["w2"][1], **common),
        LayerSpec(kind="up", inputs=shapes["w3"][0], outputs=shapes["w3"][1], **common),
        LayerSpec(kind="up", inputs=shapes["wx"][0], outputs=shapes["wx"][1], norm="none", slope=1, **common),
    ]
    state = {"layers.0.op.weight": arrays["w"].t().contiguous()}
    for i, name in enumerate(("w2", "w3", "wx"), 1):
        state[f"layers.{i}.op.weight"] = arrays[name].flip(2, 3).contiguous()
    for i, suffix in enumerate(("", "2", "3")):
        scale = arrays[f"g{suffix}"]
        state[f"layers.{i}.norm.weight"], state[f"layers.{i}.norm.bias"] = scale, arrays[f"b{suffix}"]
        state[f"layers.{i}.norm.running_mean"] = torch.zeros_like(scale)
        state[f"layers.{i}.norm.running_var"] = torch.ones_like(scale)
        state[f"layers.{i}.norm.num_batches_tracked"] = torch.tensor(0)
    arch = _arch(layers=tuple(layers))
    return Found("dcgan_code", arch, state, batch_statistics=True, licence="MIT (Newmu/dcgan_code); data: SVHN")
