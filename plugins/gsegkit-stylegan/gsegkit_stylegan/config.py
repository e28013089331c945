"""Options of the StyleGAN family. Light: no torch here."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from gsegkit.config import Available, Config
from gsegkit_stylegan.config_train import TrainOptions

MAX_RESOLUTION = 2048


class Arch(Config):
    """Shape of a network of the family: what a checkpoint's tensors must fit."""

    resolution: int = Field(64, ge=8, le=MAX_RESOLUTION, description="image side in pixels, a power of two")
    channel_base: int = Field(32768, ge=8, le=2**20, description="channels at resolution r are base / r")
    channel_max: int = Field(512, ge=1, le=4096, description="upper limit of the channels")
    z_dim: int = Field(512, ge=1, le=8192, description="size of the input noise")
    num_classes: int = Field(0, ge=0, le=100_000, description="class labels, 0 = unconditional")
    img_channels: Literal[3] = Field(3, description="colour channels of the images")

    @model_validator(mode="after")
    def _check_resolution(self) -> Arch:
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two, got {self.resolution}")
        return self

    def channels(self, resolution: int) -> int:
        """Channels of the feature maps at one resolution."""
        return max(1, min(self.channel_base // resolution, self.channel_max))

    @property
    def resolutions(self) -> list[int]:
        """4, 8 ... up to the images' own."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    @property
    def num_ws(self) -> int:
        """Layers that take a style of their own."""
        return 2 * len(self.resolutions)

    def noise_inputs(self, resolution: int) -> list[tuple[str, int]]:
        """(name, side) of the layers that take noise, shallow to deep, up to one resolution."""
        sides = [r for r in self.resolutions if r <= resolution]
        return [(f"b{r}.{conv}", r) for r in sides for conv in ("conv0", "conv1") if r > 4 or conv == "conv1"]


class StyleGAN2Arch(Arch):
    """StyleGAN2 and StyleGAN2-ADA; the defaults are config-f at 64 px."""

    w_dim: int = Field(512, ge=1, le=8192, description="size of the mapped latent w")
    mapping_layers: int = Field(8, ge=1, le=32, description="dense layers of the mapping network")
    lr_multiplier: float = Field(0.01, gt=0, le=1, description="learning-rate multiplier of the mapping network")
    architecture: Literal["skip", "orig", "resnet"] = Field("skip", description="how blocks reach the image")
    conv_clamp: float | None = Field(None, gt=0, description="activations are clamped to this; 256 in ADA files")
    layer_features: int | None = Field(None, ge=1, le=8192, description="width of the mapping network; none = w_dim")
    embed_features: int | None = Field(None, ge=1, le=8192, description="size of the embedded label; none = w_dim")
    resample_filter: tuple[float, ...] = Field((1, 3, 3, 1), description="taps of the up-sampling filter")
    image_filter: tuple[float, ...] | None = Field(
        None, description="taps of the filter that up-samples the image of a `skip` network; none = resample_filter"
    )
    demod_gain_first: bool = Field(
        False, description="demodulate with the scaled weight (TensorFlow, rosinality, genforce files)"
    )
    joint_labels: bool = Field(False, description="label concatenated before one normalisation (TensorFlow files)")

    @model_validator(mode="after")
    def _check_filter(self) -> StyleGAN2Arch:
        for name, taps in (("resample_filter", self.resample_filter), ("image_filter", self.image_filter)):
            if taps is not None and not 2 <= len(taps) <= 8:
                raise ValueError(f"{name} must have 2 to 8 taps, got {len(taps)}")
        return self


class StyleGANArch(Arch):
    """StyleGAN v1; the defaults are the paper's at 64 px."""

    channel_base: int = Field(16384, ge=8, le=2**20, description="channels at resolution r are base / r")
    w_dim: int = Field(512, ge=1, le=8192, description="size of the mapped latent w")
    mapping_layers: int = Field(8, ge=1, le=32, description="dense layers of the mapping network")
    lr_multiplier: float = Field(0.01, gt=0, le=1, description="learning-rate multiplier of the mapping network")
    layer_features: int | None = Field(None, ge=1, le=8192, description="width of the mapping network; none = w_dim")
    embed_features: int | None = Field(None, ge=1, le=8192, description="size of the embedded label; none = w_dim")


class StyleGAN3Arch(Arch):
    """StyleGAN3; the defaults are the paper's config T at 64 px. Numbers of layers, cut-offs and margins are fixed."""

    NUM_LAYERS: ClassVar[int] = 14  # without the last one, to colours
    layer_features: ClassVar[int | None] = None
    embed_features: ClassVar[int | None] = None
    joint_labels: ClassVar[bool] = False

    resolution: int = Field(64, ge=16, le=MAX_RESOLUTION, description="image side in pixels, a power of two")
    variant: Literal["t", "r"] = Field("t", description="t: 3x3 kernels; r: 1x1 kernels and radial filters")
    channel_base: int = Field(32768, ge=8, le=2**20, description="channels are base / 2 / cut-off; paper's R 65536")
    channel_max: int = Field(512, ge=1, le=4096, description="upper limit of the channels; paper's R 1024")
    w_dim: int = Field(512, ge=1, le=8192, description="size of the mapped latent w")
    mapping_layers: int = Field(2, ge=1, le=32, description="dense layers of the mapping network")
    lr_multiplier: float = Field(0.01, gt=0, le=1, description="learning-rate multiplier of the mapping network")

    @property
    def num_ws(self) -> int:
        """Layers that take a style of their own: the input, all layers, the colours."""
        return self.NUM_LAYERS + 2


class PGGANArch(Arch):
    """Progressive GAN; the defaults are the paper's at 64 px."""

    channel_base: int = Field(16384, ge=8, le=2**20, description="channels at resolution r are base / r")


class SampleOptions(Config):
    """Where weights come from, and how latents become images."""

    weights: str = Field("none", description="zoo name, folder of a part or run, checkpoint file, or none = random")
    space: Literal["w", "z", "w+"] = Field("w", description="edit space: w shared by all layers, z, or one w per layer")
    psi: float = Field(1.0, ge=-2, le=2, description="truncation: 1 = none, 0 = the mean image")
    cutoff: int | None = Field(None, ge=0, description="truncate only this many first layers; none = all")
    noise: Literal["fixed", "seed", "none"] = Field(
        "fixed", description="fixed: the stored noise; seed: each sample of sample() its own; none"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the activations")
    compile: bool = Field(False, description="torch.compile the synthesis; pays off for thousands of samples")

    def wanted_weights(self) -> str:
        """The option `weights` with an automatic choice made."""
        return self.weights


class StyleGAN2Config(StyleGAN2Arch, SampleOptions, TrainOptions):
    """Options of the generator `stylegan2`; the network's defaults are a small one that trains on a CPU.

    The shape of the network is read from the weights. With `weights=auto`, giving any option of the network's shape
    means a new network of that shape.
    """

    AUTO_WEIGHTS: ClassVar[str] = "blood-cells-64"  # of the zoo

    weights: str = Field(
        "auto",
        description="auto = blood-cells-64; zoo name, folder of a part or run, checkpoint file, none = random",
    )
    channel_base: int = Field(2048, ge=8, le=2**20, description="channels at resolution r are base / r; paper 32768")
    channel_max: int = Field(128, ge=1, le=4096, description="upper limit of the channels; paper 512")
    z_dim: int = Field(128, ge=1, le=8192, description="size of the input noise; paper 512")
    w_dim: int = Field(128, ge=1, le=8192, description="size of the mapped latent w; paper 512")
    mapping_layers: int = Field(2, ge=1, le=32, description="dense layers of the mapping network; paper 8")

    def resolved(self, available: Available) -> Self:
        """With `weights=auto` written out, so that a replay does not depend on what is the default then."""
        return self.model_copy(update={"weights": self.wanted_weights()})

    def wanted_weights(self) -> str:
        """`auto` is the zoo's, unless an option of the network's shape was changed."""
        if self.weights != "auto":
            return self.weights
        # by value, not by which were given: a resolved plan gives them all
        options = type(self).model_fields
        changed = any(getattr(self, name) != options[name].default for name in StyleGAN2Arch.model_fields)
        return "none" if changed else self.AUTO_WEIGHTS


class StyleGANConfig(StyleGANArch, SampleOptions):
    """Options of the generator `stylegan`."""


class StyleGAN3Config(StyleGAN3Arch, SampleOptions):
    """Options of the generator `stylegan3`."""

    noise: Literal["none"] = Field("none", description="a StyleGAN3 has no noise")


class PGGANConfig(PGGANArch, SampleOptions):
    """Options of the generator `pggan`; its only latent space is z."""

    space: Literal["z"] = Field("z", description="edit space; a PGGAN has no other")
    psi: Literal[1] = Field(1, description="a PGGAN has no truncation")
    cutoff: None = Field(None, description="a PGGAN has no truncation")
    noise: Literal["none"] = Field("none", description="a PGGAN has no noise")
