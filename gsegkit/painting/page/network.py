"""A painter's network as the page's worker reads it: float16 weights with a scale each, and the script that runs it."""

from __future__ import annotations

import base64
import math
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from gsegkit.painting.painter import PageNetwork


def network_data(network: PageNetwork, latent_dim: int) -> dict[str, Any]:
    """JSON-ready: weights in base64, facts, and `latentDim`."""
    tensors = {name: packed(tensor) for name, tensor in network.tensors.items()}
    return {"latentDim": latent_dim, "facts": dict(network.facts), "tensors": tensors}


def worker_script(network: PageNetwork) -> str:
    """The source of the worker: latents, the painter's own script, and what talks to the page."""
    return '"use strict";\n' + asset("latents.js") + network.script + asset("worker.js")


def scale_of(tensor: Tensor) -> float:
    """The power of two that brings the tensor's largest number to 1/2 .. 1: float16 keeps most digits there."""
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    return 2.0 ** math.ceil(math.log2(largest)) if largest else 1.0


def rounded(tensor: Tensor) -> Tensor:
    """What the page makes of a tensor: float32, as float16 and its scale keep it."""
    scale = scale_of(tensor)
    return (tensor.float() / scale).half().float() * scale


def packed(tensor: Tensor) -> dict[str, Any]:
    """Little-endian float16 in base64, and the scale to multiply them by."""
    scale = scale_of(tensor)
    halves = (tensor.detach().cpu().float() / scale).to(torch.float16).contiguous()
    return {"scale": scale, "data": base64.b64encode(halves.numpy().astype("<f2").tobytes()).decode()}


def asset(name: str) -> str:
    """A file of the page."""
    return files("gsegkit.painting.page").joinpath(name).read_text(encoding="utf-8")
