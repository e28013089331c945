"""The painting network as a page runs it: batch statistics folded away, weights by name, and network.js."""

from __future__ import annotations

import copy
from importlib.resources import files

import torch
from torch import Tensor

from gsegkit.painting import PageNetwork
from gsegkit_spade.layers import SLOPE
from gsegkit_spade.networks import ClassAdaptive, PaintingNetwork


def page_network(network: PaintingNetwork) -> PageNetwork:
    """What `Painter.in_page` gives; the network stays as it is."""
    flat = folded(network)
    tensors = {name: value for name, value in flat.state_dict().items() if ".norm." not in name}
    facts = {
        "height": network.size[0], "width": network.size[1], "levels": network.levels,
        "coarsest": list(network.coarsest), "num_classes": network.first.in_channels - 1, "slope": SLOPE,
    }  # fmt: skip
    script = files("gsegkit_spade").joinpath("network.js").read_text(encoding="utf-8")
    return PageNetwork(script, tensors, facts)


def folded(network: PaintingNetwork) -> PaintingNetwork:
    """The same function on the CPU with batch statistics that do nothing: tables and styles have taken them over.

    a x + b is what a batch norm makes of x; (a x + b)(1 + s) + t = x (1 + [a (1 + s) - 1]) + [b (1 + s) + t].
    """
    flat = copy.deepcopy(network).cpu().float().eval()
    with torch.no_grad():
        for part in flat.modules():
            if isinstance(part, ClassAdaptive):
                _fold(part)
    return flat


def _fold(part: ClassAdaptive) -> None:
    mean, variance = part.norm.running_mean, part.norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    a = (variance.double() + part.norm.eps).rsqrt()
    b = -mean.double() * a
    for weight in (part.table.weight.data, part.style.weight.data):
        scale, shift = weight.double().chunk(2)
        more = (slice(None), *(None,) * (weight.ndim - 1))
        weight.copy_(torch.cat([a[more] * scale, b[more] * scale + shift]))
    scale, shift = part.style.bias.data.double().chunk(2)
    part.style.bias.data.copy_(torch.cat([a * (1 + scale) - 1, b * (1 + scale) + shift]))
    mean.zero_()
    variance.fill_(1)
    part.norm.eps = 0.0
