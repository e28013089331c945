"""VGG-19 to compare pictures through, as SPADE does: with weights that the user supplies."""

from __future__ import annotations

from pathlib import Path

import torch
from gsegkit_foreign import read_foreign
from torch import Tensor, nn

from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.tensors import load_state

#: torchvision's layers up to relu5_1: channels of a convolution with its ReLU, 0 = the size is halved.
LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
#: Index of the ReLU in `features` -> weight of its maps, as published: relu1_1, 2_1, 3_1, 4_1, 5_1.
COMPARED = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
HINT = "save torchvision's vgg19 as it is: torch.save(model.state_dict(), path)"


class Vgg(nn.Module):
    """The first thirteen convolutions of VGG-19, fixed. Pictures go in as they are, in [-1, 1].

    Args:
        path: file with torchvision's weights; nothing in it is executed.
        size: (height, width) of the pictures, at least 16 px.

    Raises:
        ArtifactError: the file does not hold these weights.
        ConfigError: the pictures are too small.
    """

    def __init__(self, path: str, size: tuple[int, int]) -> None:
        super().__init__()
        if min(size) < 2 ** LAYERS.count(0):
            raise ConfigError(
                f"pictures of {size[0]} x {size[1]} px are too small for VGG-19", "omit perceptual_weights"
            )
        layers, inputs = list[nn.Module](), 3
        with torch.device("meta"):
            for outputs in LAYERS:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()] if outputs else [nn.MaxPool2d(2)]
                inputs = outputs or inputs
        self.features = nn.Sequential(*layers).to_empty(device="cpu")
        load_state(self.features, weights(Path(path), self.features), path)
        self.eval().requires_grad_(False)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """[N, 3, H, W] float32 in [-1, 1] -> the maps that are compared, shallow to deep; differentiable."""
        found, x = [], pictures
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in COMPARED:
                found.append(x)
        return found

    def distance(self, painted: Tensor, true: Tensor) -> Tensor:
        """See `Comparison.distance`."""
        with torch.no_grad():
            aims = self.maps(true)
        pairs = zip(COMPARED.values(), self.maps(painted), aims, strict=True)
        return torch.stack([weight * (found - aim).abs().mean() for weight, found, aim in pairs]).sum()


def weights(path: Path, features: nn.Module) -> dict[str, Tensor]:
    """Those of the layers here, out of torchvision's file; ArtifactError where one lacks or is not finite."""
    file = read_foreign(path)
    table = file.mapping(file.root, "the checkpoint")
    names = features.state_dict()
    if lacking := [name for name in names if f"features.{name}" not in table]:
        raise ArtifactError(f"'{path}' has no 'features.{lacking[0]}', so it is not a VGG-19 of torchvision", HINT)
    found = {name: file.tensor(table[f"features.{name}"], name) for name in names}
    for name, tensor in found.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"'{path}': 'features.{name}' does not hold finite numbers", HINT)
    return found
