"""Small files of the family's formats, for the conformance checks: those that are plain state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.seeds import isolated_rng
from gsegkit_stylegan.config import PGGANArch, StyleGAN2Arch, StyleGAN3Arch, StyleGANArch
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.networks.stylegan3 import StyleGAN3Network
from gsegkit_stylegan.readers import layouts_grown, layouts_stylegan2
from gsegkit_stylegan.readers.rules import Layout, write_layout

_SIZE: dict[str, Any] = {"resolution": 8, "channel_base": 64, "channel_max": 8, "z_dim": 6}
_STYLE: dict[str, Any] = {**_SIZE, "w_dim": 6, "mapping_layers": 2}


def write_stylegan2(path: Path) -> None:
    """StyleGAN2, 8 px."""
    with isolated_rng(0):
        state = StyleGAN2Network(StyleGAN2Arch(**_STYLE, demod_gain_first=True)).state_dict()
    _write(path, state, layouts_stylegan2.genforce)


def write_stylegan3(path: Path) -> None:
    """StyleGAN3, config T, 16 px, under NVIDIA's names."""
    arch = StyleGAN3Arch(**{**_STYLE, "resolution": 16})
    with isolated_rng(0):
        state = StyleGAN3Network(arch).state_dict()
    torch.save({"G_ema": dict(state)}, path)


def write_stylegan(path: Path) -> None:
    """StyleGAN, 8 px."""
    with isolated_rng(0):
        state = StyleGANNetwork(StyleGANArch(**_STYLE)).state_dict()
    _write(path, state, layouts_grown.genforce(8, lambda r: False, style=True))


def write_pggan(path: Path) -> None:
    """PGGAN, 8 px."""
    with isolated_rng(0):
        state = PGGANNetwork(PGGANArch(**_SIZE)).state_dict()
    _write(path, state, layouts_grown.genforce(8, lambda r: False, style=False))


def _write(path: Path, state: Mapping[str, Tensor], layout: Layout) -> None:
    torch.save({"models": {"generator_smooth": write_layout(state, layout)}}, path)
