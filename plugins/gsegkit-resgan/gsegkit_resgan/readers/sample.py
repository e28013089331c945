"""Small files of the family's formats, for conformance checks and tests: random numbers under the original names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gsegkit.seeds import isolated_rng

Shapes = dict[str, tuple[int, ...]]
WIDTH = 8  # channels of all hidden maps
CLASSES, SHARED, CHUNK = 3, 4, 2


def biggan_pytorch(*, classes: int = CLASSES) -> dict[str, Tensor]:
    """BigGAN-PyTorch, 8 px."""
    shapes: Shapes = {"shared.weight": (classes, SHARED), **_normed_ours("linear", (16 * WIDTH, CHUNK))}
    for name, kernel in (("conv1", 3), ("conv2", 3), ("conv_sc", 1)):
        shapes |= _normed_ours(f"blocks.0.0.{name}", (WIDTH, WIDTH, kernel, kernel))
    for bn in ("bn1", "bn2"):
        shapes |= {f"blocks.0.0.{bn}.stored_mean": (WIDTH,), f"blocks.0.0.{bn}.stored_var": (WIDTH,)}
        for part in ("gain", "bias"):
            shapes |= _normed_ours(f"blocks.0.0.{bn}.{part}", (WIDTH, SHARED + CHUNK), bias=False)
    shapes |= {f"output_layer.0.{part}": (WIDTH,) for part in ("gain", "bias", "stored_mean", "stored_var")}
    return _random({**shapes, **_normed_ours("output_layer.2", (3, WIDTH, 3, 3))})


def bigbigan() -> dict[str, Tensor]:
    """The same with one vector for all classes."""
    table = biggan_pytorch()
    return {**table, "shared.weight": table["shared.weight"][:1].repeat(CLASSES, 1)}


def studiogan(kind: str = "table") -> dict[str, Tensor]:
    """PyTorch-StudioGAN, 8 px; `kind`: table (2020-21), table-sn, affine, or shared (big_resnet)."""
    normed = kind in ("table-sn", "shared")
    shapes: Shapes = _layer("linear0", (16 * WIDTH, CHUNK), normed)
    if kind == "shared":
        shapes["shared.weight"] = (CLASSES, SHARED)
    for name, kernel in (("conv2d0", 1), ("conv2d1", 3), ("conv2d2", 3)):
        shapes |= _layer(f"blocks.0.0.{name}", (WIDTH, WIDTH, kernel, kernel), normed)
    for bn in ("bn1", "bn2"):
        name = f"blocks.0.0.{bn}"
        if kind == "affine":
            shapes |= _statistics(name) | {f"{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
            continue
        shapes |= _statistics(f"{name}.bn")
        parts, shape = (("gain", "bias"), (WIDTH, SHARED + CHUNK)) if kind == "shared" else (_EMBED, (CLASSES, WIDTH))
        for part in parts:
            shapes |= _layer(f"{name}.{part}", shape, normed, bias=False)
    shapes |= _statistics("bn4") | {"bn4.weight": (WIDTH,), "bn4.bias": (WIDTH,)}
    return _random({**shapes, **_layer("conv2d5", (3, WIDTH, 3, 3), normed)})


_EMBED = ("embed0", "embed1")


def selfcond(*, classes: int = CLASSES) -> dict[str, Tensor]:
    """self-conditioned-gan, 8 px; `classes` 0 = without."""
    shapes: Shapes = {"get_latent.embedding.weight": (classes, SHARED)} if classes else {}
    shapes |= _layer("fc", (16 * WIDTH, CHUNK + (SHARED if classes else 0)), False)
    for name in ("0_0", "0_1", "1_0", "1_1"):
        for conv in ("conv_0", "conv_1"):
            shapes |= _layer(f"resnet_{name}.{conv}", (WIDTH, WIDTH, 3, 3), False)
    return _random({**shapes, **_layer("conv_img", (3, WIDTH, 3, 3), False)})


def write_biggan(path: Path) -> None:
    """As `G_ema.pth`: a bare state dict in torch's old container."""
    torch.save(biggan_pytorch(), path, _use_new_zipfile_serialization=False)


def write_bigbigan(path: Path) -> None:
    """As `BigBiGAN_x1.pth`."""
    torch.save(bigbigan(), path, _use_new_zipfile_serialization=False)


def write_acgan(path: Path) -> None:
    """A run of ACGAN by StudioGAN."""
    _write_studio(path, "table", "ACGAN")


def write_sngan(path: Path) -> None:
    """A run of SNGAN by StudioGAN."""
    _write_studio(path, "table", "SNGAN")


def write_sagan(path: Path) -> None:
    """A run of SAGAN by StudioGAN."""
    _write_studio(path, "table-sn", "SAGAN")


def write_ggan(path: Path) -> None:
    """A run of GGAN by StudioGAN."""
    _write_studio(path, "affine", "GGAN")


def write_contragan(path: Path) -> None:
    """A run of ContraGAN by StudioGAN."""
    _write_studio(path, "shared", "ContraGAN")


def write_selfcondgan(path: Path) -> None:
    """As `selfcondgan_i_model.pt`."""
    _write_selfcond(path, CLASSES)


def write_uncondgan(path: Path) -> None:
    """As `uncondgan_i_model.pt`."""
    _write_selfcond(path, 0)


def _write_studio(path: Path, kind: str, method: str) -> None:
    run = {"seed": 0, "run_name": f"{method}-train-2020_11_28", "step": 7, "best_step": 7, "ada_p": None}
    torch.save({**run, "state_dict": studiogan(kind), "optimizer": {"state": {}, "param_groups": []}}, path)


def _write_selfcond(path: Path, classes: int) -> None:
    state = {f"module.{name}": tensor for name, tensor in selfcond(classes=classes).items()}
    tables = {"generator": state, "generator_test": state, "it": 7}
    torch.save(tables, path, _use_new_zipfile_serialization=False)


def _normed_ours(name: str, shape: tuple[int, ...], *, bias: bool = True) -> Shapes:
    """A layer of BigGAN-PyTorch with its spectral norm."""
    own: Shapes = {f"{name}.weight": shape, f"{name}.u0": (1, shape[0]), f"{name}.sv0": (1,)}
    return {**own, f"{name}.bias": (shape[0],)} if bias else own


def _layer(name: str, shape: tuple[int, ...], normed: bool, *, bias: bool = True) -> Shapes:
    """A layer of torch, with its spectral norm if it has one."""
    rest = torch.Size(shape[1:]).numel()
    vectors: Shapes = {f"{name}.weight_orig": shape, f"{name}.weight_u": (shape[0],), f"{name}.weight_v": (rest,)}
    own: Shapes = vectors if normed else {f"{name}.weight": shape}
    return {**own, f"{name}.bias": (shape[0],)} if bias else own


def _statistics(name: str) -> Shapes:
    return {f"{name}.running_mean": (WIDTH,), f"{name}.running_var": (WIDTH,), f"{name}.num_batches_tracked": ()}


def _random(shapes: Shapes) -> dict[str, Tensor]:
    with isolated_rng(0):
        table = {name: torch.randn(shape) * 0.5 for name, shape in shapes.items()}
    for name in table:
        if name.endswith("var"):
            table[name] = table[name].abs() + 0.5
        elif name.endswith("num_batches_tracked"):
            table[name] = torch.tensor(7)
    return table
