"""Taking tensors out of a file's table and folding what does not change: spectral normalisation, sums of statistics.

Spectral norms are divided out with the vectors that the file holds, as the original code does at evaluation. The exact
norm, or vectors made unit length again, give other weights and so other images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from gsegkit_foreign import all_finite
from torch import Tensor

from gsegkit.errors import ArtifactError, and_more

FILES_HINT = "it may come from modified code or be a part of a checkpoint; only unmodified networks are read"
#: Beside weights: logged singular values, further singular vectors, counters. They change no image.
_IDLE = re.compile(r"(.*\.)?(sv\d+|u[1-9]\d*|num_batches_tracked)")
_NORMS_EPS = 1e-12  # keeps the division finite; a vector of this length is a damaged file


class Tensors:
    """A network's tensors by the names of its file. Each is taken once; what is left at the end is an error.

    Numbers keep their precision, at least float32, so that a double-precision table gives a double-precision state.
    """

    def __init__(self, table: Mapping[str, Tensor]) -> None:
        self._left = dict(table)
        self.notes: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def names(self) -> Iterable[str]:
        """Names of what was not taken yet."""
        return self._left

    def take(self, name: str, rank: int) -> Tensor:
        """A tensor of finite numbers.

        Raises:
            ArtifactError: missing, of another rank, or not finite.
        """
        tensor = self._left.pop(name, None)
        if tensor is None:
            raise ArtifactError(f"the checkpoint lacks '{name}'", FILES_HINT)
        good = tensor.ndim == rank and tensor.is_floating_point() and tensor.numel() > 0
        if not good or not all_finite(tensor):
            what = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            raise ArtifactError(f"'{name}' is {what}; finite weights of rank {rank} were expected", FILES_HINT)
        return tensor if tensor.dtype == torch.float64 else tensor.float()

    def scalar(self, name: str) -> Tensor:
        """One number, stored as [] or [1]."""
        tensor = self._left.get(name)
        number = self.take(name, 1 if tensor is not None and tensor.ndim else 0)
        if number.numel() != 1:
            raise ArtifactError(f"'{name}' is a list of {number.numel()}; one number was expected", FILES_HINT)
        return number.reshape(())

    def weight(self, name: str, rank: int) -> Tensor:
        """A weight with its spectral norm divided out, when it has one.

        BigGAN-PyTorch (`u0`): one normalised power iteration. torch (`weight_orig`): uᵀ W v as they are.
        """
        if f"{name}.weight_orig" in self:
            weight = self.take(f"{name}.weight_orig", rank)
            matrix = weight.reshape(len(weight), -1).double()
            u, v = self.take(f"{name}.weight_u", 1), self.take(f"{name}.weight_v", 1)
            self._check_length(f"{name}.weight_u", u, matrix.shape[0])
            self._check_length(f"{name}.weight_v", v, matrix.shape[1])
            norm = u.double() @ matrix @ v.double()
        elif f"{name}.u0" in self:
            weight = self.take(f"{name}.weight", rank)
            matrix = weight.reshape(len(weight), -1).double()
            u = self.take(f"{name}.u0", 2)
            self._check_length(f"{name}.u0", u, matrix.shape[0])
            v = _unit(u.double() @ matrix)
            norm = (v @ matrix.t() * _unit(v @ matrix.t())).sum()
        else:
            return self.take(f"{name}.weight", rank)
        if not abs(float(norm)) > _NORMS_EPS:
            raise ArtifactError(f"the spectral norm of '{name}' is {float(norm):.3g}", FILES_HINT)
        del matrix
        return weight.to(torch.float64, copy=True).div_(norm).to(weight.dtype)

    def statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Means and variances of a normalisation, [sets, C] each, under any of the names that they have.

        Standing statistics (`accumulation_counter`) are sums over batches and are divided by their number.
        """
        sets = f"{name}.running_means" in self  # of BigGAN-deep, for 51 truncations
        forms = ("stored_mean stored_var", "bn.stored_mean bn.stored_var", "bn.running_mean bn.running_var")
        pairs = [form.split() for form in (*forms, "running_mean running_var", "running_means running_vars")]
        found = next((pair for pair in pairs if f"{name}.{pair[0]}" in self), pairs[0])
        mean, var = (self.take(f"{name}.{part}", 2 if sets else 1) for part in found)
        count = 1.0
        if f"{name}.bn.accumulation_counter" in self:
            count = float(self.scalar(f"{name}.bn.accumulation_counter")) or 1.0
        if count < 1 or bool((var < 0).any()):
            raise ArtifactError(f"the statistics of '{name}' are not variances", FILES_HINT)
        if count > 1:
            note = f"standing statistics are sums over {count:g} batches and were divided by that"
            self.notes += [note] if note not in self.notes else []
        shape = (-1, mean.shape[-1])
        return (mean / count).reshape(shape), (var / count).reshape(shape)

    def finish(self) -> None:
        """Everything was taken: nothing that matters may be left."""
        left = [f"'{name[:80]}'" for name in self._left if not _IDLE.fullmatch(name)]
        if left:
            raise ArtifactError(f"unexpected tensors: {and_more(sorted(left))}", FILES_HINT)

    @staticmethod
    def _check_length(name: str, vector: Tensor, length: int) -> None:
        if vector.numel() != length:
            raise ArtifactError(f"'{name}' has {vector.numel()} numbers, {length} were expected", FILES_HINT)


def _scaled(tensor: Tensor, scale: float) -> Tensor:
    return tensor if scale == 1 else tensor * scale  # no second copy of a large network


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm().clamp(min=_NORMS_EPS)


class State:
    """The family's state, filled part by part from a file's tensors."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.found: dict[str, Tensor] = {}

    def conv(self, to: str, name: str, *, rank: int = 4, scale: float = 1.0, bias: bool = True) -> Tensor:
        """A convolution or linear layer; `scale` multiplies its output. Returns the weight."""
        weight = _scaled(self.tensors.weight(name, rank), scale)
        self.found[f"{to}.weight"] = weight
        if bias:
            self.found[f"{to}.bias"] = _scaled(self.tensors.take(f"{name}.bias", 1), scale)
        return weight

    def norm(self, to: str, name: str, gain: Tensor, bias: Tensor) -> None:
        """A normalisation; gains and biases [C], or [classes, C] of a table. The gain is what multiplies."""
        self.found[f"{to}.mean"], self.found[f"{to}.var"] = self.tensors.statistics(name)
        self.found[f"{to}.gain"] = gain.reshape(-1, gain.shape[-1])
        self.found[f"{to}.bias"] = bias.reshape(-1, bias.shape[-1])

    def mapped_norm(self, to: str, name: str, gain: Tensor, bias: Tensor) -> None:
        """A normalisation with maps [C, D] from a vector to gains (beside 1) and biases (beside 0)."""
        self.norm(to, name, torch.ones_like(gain[:, 0]), torch.zeros_like(bias[:, 0]))
        self.found[f"{to}.gain_map"], self.found[f"{to}.bias_map"] = gain, bias

    def affine(self, to: str, name: str, gain: str, bias: str) -> None:
        """A normalisation with one gain and bias for each channel."""
        self.norm(to, name, self.tensors.take(f"{name}.{gain}", 1), self.tensors.take(f"{name}.{bias}", 1))

    def attention(self, to: str, name: str, parts: Mapping[str, str], gamma: str) -> None:
        """Self-attention; its scale `gamma` goes into the last layer."""
        scale = float(self.tensors.scalar(f"{name}.{gamma}"))
        for own, theirs in parts.items():
            self.conv(f"{to}.{own}", f"{name}.{theirs}", scale=scale if own == "o" else 1.0, bias=False)
