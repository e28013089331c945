"""Small files of the formats, for the conformance checks: every number a closed form of its place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

LABELS, HIDDEN, WIDTH = 3, 4, 2


def filled(name: str, *shape: int) -> Tensor:
    """Numbers of about 0.3 that depend on name, shape and place alone."""
    count = int(torch.tensor(shape).prod())
    waves = torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * 12.9898 + sum(name.encode()))
    return (0.3 * waves).float().view(shape)


def write_spade(path: Path) -> None:
    """A net_G.pth with an encoder's latents, of 64 px, beside opt.txt."""
    names = ["head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"]
    state = tensors(names, (16, 16, 16, 16, 8, 4, 2, 1), LABELS, "param_free_norm")
    first = 16 * WIDTH
    torch.save(_with(state, ("fc.weight", (first * 2 * 2, 5)), ("fc.bias", (first * 2 * 2,))), path)
    path.with_name("opt.txt").write_text("  num_upsampling_layers: normal  \t[default: normal]\n")


def write_oasis(path: Path) -> None:
    """An EMA.pth of three blocks, of 16 px, beside opt.txt."""
    state = tensors([f"body.{index}" for index in range(3)], (4, 4, 2, 1), 5 + LABELS, "first_norm")
    first = 4 * WIDTH
    torch.save(_with(state, ("fc.weight", (first, 5 + LABELS, 3, 3)), ("fc.bias", (first,))), path)
    path.with_name("opt.txt").write_text("crop_size: 16\nz_dim: 5\n")


def _with(state: dict[str, Tensor], *more: tuple[str, Sequence[int]]) -> dict[str, Tensor]:
    state |= {name: filled(name, *shape) for name, shape in more}
    return state


def tensors(names: Sequence[str], times: Sequence[int], labels: int, free: str) -> dict[str, Tensor]:
    """The tensors of these blocks and of the last convolution, in the layout of torch's old spectral norm."""
    state: dict[str, Tensor] = OrderedDict()

    def conv(name: str, outputs: int, inputs: int, kernel: int, *, bias: bool = True, spectral: bool = True) -> None:
        weight = filled(f"{name}.weight_orig", outputs, inputs, kernel, kernel)
        if bias:
            state[f"{name}.bias"] = filled(f"{name}.bias", outputs)
        state[f"{name}.weight_orig" if spectral else f"{name}.weight"] = weight
        if spectral:
            u = torch.nn.functional.normalize(filled(f"{name}.u", outputs), dim=0)
            state[f"{name}.weight_u"] = u
            state[f"{name}.weight_v"] = torch.nn.functional.normalize(weight.flatten(1).t() @ u, dim=0)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.{free}.running_mean"] = filled(f"{name}.mean", channels)
        state[f"{name}.{free}.running_var"] = 1 + filled(f"{name}.var", channels)
        state[f"{name}.{free}.num_batches_tracked"] = torch.tensor(0)
        conv(f"{name}.mlp_shared.0", HIDDEN, labels, 3, spectral=False)
        conv(f"{name}.mlp_gamma", channels, HIDDEN, 3, spectral=False)
        conv(f"{name}.mlp_beta", channels, HIDDEN, 3, spectral=False)

    widths = [WIDTH * one for one in times]
    for name, inputs, outputs in zip(names, widths, widths[1:], strict=False):
        middle = min(inputs, outputs)
        conv(f"{name}.conv_0", middle, inputs, 3)
        conv(f"{name}.conv_1", outputs, middle, 3)
        norm(f"{name}.norm_0", inputs)
        norm(f"{name}.norm_1", middle)
        if inputs != outputs:
            conv(f"{name}.conv_s", outputs, inputs, 1, bias=False)
            norm(f"{name}.norm_s", inputs)
    conv("conv_img", 3, widths[-1], 3, spectral=False)
    return state
