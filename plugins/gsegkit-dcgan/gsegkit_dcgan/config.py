"""Options of the generator `dcgan`. Light: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gsegkit.config import Config


class LayerSpec(Config):
    """One layer: linear or convolution, batch normalisation, leaky ReLU."""

    kind: Literal["linear", "up", "conv"] = Field(description="linear to 4x4 maps, transposed convolution, convolution")
    inputs: int = Field(ge=1, description="channels in; of a linear layer, numbers in")
    outputs: int = Field(ge=1, description="channels out")
    kernel: int = Field(4, ge=1, le=16, description="kernel side; of a linear layer, side of its maps")
    stride: int = Field(2, ge=1, le=4, description="of the convolution")
    padding: int = Field(1, ge=0, le=8, description="of the convolution")
    output_padding: int = Field(0, ge=0, le=3, description="of a transposed convolution")
    bias: bool = Field(False, description="whether the linear map has a bias")
    norm: Literal["none", "channel", "feature"] = Field("channel", description="what is normalised over the batch")
    eps: float = Field(1e-5, gt=0, description="epsilon of the normalisation")
    slope: float = Field(0.0, ge=0, le=1, description="of the leaky ReLU: 0 = ReLU, 1 = none")


class DCGANArch(Config):
    """A whole generator."""

    z_dim: int = Field(ge=1, description="size of the input noise")
    prior: Literal["normal", "uniform"] = Field("normal", description="noise: N(0, 1), or uniform in -1 .. 1")
    output: Literal["tanh", "sigmoid"] = Field("tanh", description="last activation; a sigmoid's 0 .. 1 is stretched")
    layers: tuple[LayerSpec, ...] = Field(min_length=2, description="from the noise to the image")


class DCGANConfig(Config):
    """Options of the generator `dcgan`. The shape of the network is read from the weights when there are any."""

    renamed: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "r1": "r1_gamma", "ema": "ema_decay"}

    weights: str = Field("none", description="zoo name, folder of a part or run, checkpoint file, or none = random")
    resolution: int = Field(32, ge=8, le=256, description="image side in pixels of a new network, a power of two")
    z_dim: int = Field(100, ge=1, le=4096, description="size of the input noise of a new network")
    channels: int = Field(
        32, ge=1, le=512, description="channels before the image; they double at each halving of the side"
    )
    channel_max: int = Field(256, ge=1, le=2048, description="upper limit of the channels")
    fit: Literal["squash", "crop", "pad"] = Field("squash", description="how photographs are fitted to the square")

    steps: int = Field(10_000, ge=1, le=10_000_000, description="training steps")
    batch_size: int = Field(64, ge=2, le=4096, description="images per training step")
    lr: float = Field(2e-4, gt=0, le=1, description="learning rate of generator and discriminator")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first decay rate; the second is 0.99")
    loss: Literal["nonsaturating", "hinge"] = Field("nonsaturating", description="objective of the training")
    r1_gamma: float = Field(1.0, ge=0, le=1000, description="weight of the gradient penalty on real images; 0 = none")
    r1_interval: int = Field(4, ge=1, le=1000, description="steps between two gradient penalties")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights, which are the result")
    start_steps: int = Field(200, ge=0, description="steps before the averaging starts")
    mirror: Literal["none", "x", "xy"] = Field("x", description="mirror half of the images along these axes")

    @field_validator("mirror", mode="before")
    @classmethod
    def _axes(cls, mirror: Any) -> Any:
        return {True: "x", False: "none"}.get(mirror, mirror)  # runs stored before say yes or no

    @model_validator(mode="after")
    def _power_of_two(self) -> DCGANConfig:
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two, got {self.resolution}")
        return self

    def new_arch(self) -> DCGANArch:
        """The network of the paper at this size: 4x4 maps out of the noise, then doubled until the image."""
        steps = self.resolution.bit_length() - 3  # doublings after the first layer
        widths = [min(self.channels * 2 ** (steps - 1 - i), self.channel_max) for i in range(steps)]
        layers = [LayerSpec(kind="up", inputs=self.z_dim, outputs=widths[0], stride=1, padding=0)]
        layers += [LayerSpec(kind="up", inputs=a, outputs=b) for a, b in pairwise(widths)]
        layers.append(LayerSpec(kind="up", inputs=widths[-1], outputs=3, bias=True, norm="none", slope=1))
        return DCGANArch(z_dim=self.z_dim, layers=tuple(layers))
