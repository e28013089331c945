"""Configuration out of tensor shapes: channel widths, filter taps, and the check against the real network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.errors import ArtifactError, ConfigError
from gsegkit_stylegan.config import Arch
from gsegkit_stylegan.readers.rules import raise_problems


def channel_rule(widths: Mapping[int, int]) -> tuple[int, int]:
    """(channel_base, channel_max) such that min(base // r, max) gives the width at every resolution r.

    Raises:
        ArtifactError: no such numbers exist.
    """
    most = max(widths.values())
    # Where the width is below the maximum, base lies in [width * r, (width + 1) * r).
    bound = {r: width for r, width in widths.items() if width < most}
    base = max((width * r for r, width in bound.items()), default=max(widths) * most)
    base = max([base, *(r * most for r, width in widths.items() if width == most)])
    wrong = [f"{width} channels at {r} px" for r, width in widths.items() if min(base // r, most) != width]
    if wrong:
        raise ArtifactError(
            f"channel widths that follow no base / resolution rule: {'; '.join(wrong[:5])}",
            "only networks with the original width rule are supported",
        )
    return base, most


def filter_taps(kernel: Tensor) -> tuple[float, ...]:
    """1-D taps of a stored resampling filter ([k] or the outer product [k, k], of any gain).

    Raises:
        ArtifactError: not a separable symmetric filter.
    """
    kernel = kernel.double()
    taps = kernel if kernel.ndim == 1 else kernel.sum(dim=0)
    if kernel.ndim not in (1, 2) or kernel.numel() == 0 or not bool((taps > 0).all()):
        raise ArtifactError(
            f"a resampling filter of shape {list(kernel.shape)}", "only the usual filters are supported"
        )
    outer = taps[:, None] * taps[None] / taps.sum()
    if kernel.ndim == 2 and (kernel.shape[0] != kernel.shape[1] or not torch.allclose(outer, kernel, atol=1e-5)):
        raise ArtifactError("a resampling filter that is not separable", "only the usual filters are supported")
    if not torch.allclose(taps, taps.flip(0), rtol=1e-4):
        raise ArtifactError("a resampling filter that is not symmetric", "only the usual filters are supported")
    taps = taps / taps.min()
    near = taps.round()
    return tuple((near if torch.allclose(taps, near, atol=1e-3) else taps).tolist())


def make_arch(arch: type[Arch], **values: Any) -> Any:
    """An architecture config; a value outside its bounds becomes an ArtifactError."""
    try:
        return arch(**values)
    except (ValueError, ConfigError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ArtifactError(f"a network that is not supported: {'; '.join(lines[:4])[:300]}", "see the docs") from None


def check_fits(state: Mapping[str, Tensor], network: Callable[[], nn.Module], what: str) -> None:
    """Compare names and shapes with those of the real network, built without memory for its tensors."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}
    problems = [f"missing '{name}'" for name in expected if name not in state]
    problems += [f"unexpected '{name}'" for name in state if name not in expected]
    problems += [
        f"'{name}' has shape {list(state[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    raise_problems(problems, what)
