"""Options of the segmenters: one model for training, and for each architecture its encoder and decoder sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gsegkit.config import Config

Profile = Literal["default", "standard", "lite", "paper-directions"]
Scale = Annotated[float, Field(gt=0, le=8)]
FIXED_OPTIONS = frozenset({"encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params"})
#: What `model_options` may hand on to timm.create_model: what shapes the network. timm takes far more, and some of it
#: (checkpoint_path, pretrained_cfg, cache_dir ...) names files to load; the options of a stranger's run must not.
ENCODER_OPTIONS = frozenset((
    "channels", "layers", "stem_width", "stem_type", "stem_chs", "width_factor",
    "base_width", "cardinality", "avg_down", "replace_stem_pool", "act_layer", "norm_layer",
    "drop_rate", "drop_path_rate", "drop_block_rate", "proj_drop_rate", "attn_drop_rate", "patch_drop_rate",
    "depths", "dims", "embed_dim", "embed_dims", "num_heads", "mlp_ratio",
    "mlp_ratios", "qkv_bias", "window_size", "window_ratio", "patch_size", "img_size",
    "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "always_partition", "init_values", "class_token",
    "reg_tokens", "no_embed_class", "pos_embed", "kernel_sizes", "conv_mlp", "ls_init_value",
    "channel_multiplier", "depth_multiplier",
))  # fmt: skip
LARGEST_OPTION = 16_384  # of a channel count: a stored record must not ask for more memory than there is
LITE = "lite"  # encoder_weights: those of the package behind the extra [lite]
LITE_ENCODER = "tu-tf_efficientnet_lite0"

#: Melas-Kyriazi et al., ICLR 2022: Adam 1e-3, 12,000 steps, x0.2 at 8,000, 95 images a step, no augmentation.
_DIRECTIONS = {
    "enlarge": 1.0,
    "steps": 12_000,
    "batch_size": 95,
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "schedule": "step",
    "decay_at": 2 / 3,
    "decay_factor": 0.2,
    "grad_clip": None,
    "ema_decay": 0.0,
    "val_every": 500,
    "flip": 0.0,
    "rotate": 0.0,
    "scale": 0.0,
    "shift": 0.0,
    "colour": 0.0,
    "noise": 0.0,
}
ENCODER = "tu-resnet10t"
#: Half of ResNet-10-T's widths: for small images, twice the steps in the same time are worth more than width.
HALF: dict[str, Any] = {"channels": [32, 64, 128, 256]}
WIDTHS = frozenset(("channels", "stem_width"))  # of the default encoder; others have their own
#: The architecture as smp defines it, trained for long: wants a GPU.
_STANDARD = {
    "encoder": "resnet34",
    "model_options": {},
    "enlarge": 1.0,
    "steps": 8_000,
    "lr": 1e-3,
    "val_every": 250,
    "ema_decay": 0.999,
}
#: The default network on EfficientNet-Lite0 with ImageNet's weights: labels were used there.
_LITE = {"encoder": LITE_ENCODER, "encoder_weights": LITE, "enlarge": 1.0}
#: Xu, Zhang and Hu, KLiSH: their "DeepLabV3" is a DeepLabV3+ on ResNet-50; 10 epochs of 40,000 pairs, 4 images each
#: on 8 GPUs.
_KLISH = {
    **_DIRECTIONS,
    "encoder": "resnet50",
    "model_options": {"encoder_output_stride": 8, "decoder_atrous_rates": [6, 12, 18], "decoder_aspp_separable": False},
    "steps": 12_500,
    "batch_size": 32,
    "decay_at": 0.5,
    "decay_factor": 0.1,
    "flip": 0.5,
    "colour": 0.5,
    "hue": 18.0,
}


def _encoder(default: str) -> Any:
    help = "smp encoder, or 'tu-' and the name of a timm model; random weights unless encoder_weights is given"
    return Field(default, min_length=1, description=help)


def _enlarge(default: float) -> Any:
    help = "the network sees images this many times larger: finer borders where its output is coarse, a price squared"
    return Field(default, ge=1, le=8, description=help)


def _model_options(**default: Any) -> Any:
    help = (
        "further arguments of smp's class and, for 'tu-' encoders, of the timm model (its shape and drop rates); "
        "replaces all of these; channels and stem_width only with the default encoder"
    )
    return Field(default, description=help)


def _plain_option(value: Any, depth: int = 0) -> bool:
    """Whether a value is a plain setting of a network: never a path, a table, or a size that fills the memory."""
    if isinstance(value, list | tuple):
        return depth < 2 and len(value) <= 64 and all(_plain_option(item, depth + 1) for item in value)
    if isinstance(value, str):
        return len(value) <= 40 and value.replace("_", "").replace("-", "").isalnum()
    return value is None or (isinstance(value, bool | int | float) and abs(value) <= LARGEST_OPTION)


class SmpConfig(Config):
    """Options that all architectures share. The default profile is sized for 64 px images on 2 CPU cores."""

    architecture: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {"amp": "dtype"}
    added: ClassVar[Mapping[str, Any]] = {"enlarge": 1.0}
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "standard": _STANDARD,
        "lite": _LITE,
        "paper-directions": _DIRECTIONS,
    }

    profile: Profile = Field("default", description="set of defaults: 2 CPU cores, smp's own sizes, or a paper's")
    encoder: str = _encoder(ENCODER)
    encoder_weights: str | None = Field(
        None, description="pretrained: smp's name, timm's tag, or lite (extra [lite], ImageNet labels); None = random"
    )
    model_options: dict[str, Any] = _model_options(**HALF)
    enlarge: float = _enlarge(1.0)

    steps: int = Field(800, ge=1, description="optimiser steps")
    batch_size: int = Field(8, ge=2, description="images per step; fewer if the data set is smaller")
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="AdamW, or Adam (weight decay in the gradient)")
    lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="weight decay of weights; never of biases and norms")
    schedule: Literal["cosine", "step", "constant"] = Field("cosine", description="how the learning rate falls")
    warmup: float = Field(0.05, ge=0, le=0.5, description="cosine: share of the steps with a rising learning rate")
    decay_at: float = Field(2 / 3, gt=0, lt=1, description="step: share of the steps after which the rate drops")
    decay_factor: float = Field(0.2, gt=0, le=1, description="step: factor of the learning rate at that point")
    grad_clip: float | None = Field(1.0, gt=0, description="largest gradient norm; None = no limit")

    dice_weight: float = Field(0.0, ge=0, le=10, description="weight of the Dice loss beside the cross-entropy")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="cross-entropy: share of probability on other classes")
    class_weights: Literal["none", "inverse-sqrt-frequency"] = Field(
        "none", description="weights that help rare classes"
    )

    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="decay of the averaged weights, which are validated and kept; 0 = none"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the activations in training; auto = half precision on CUDA devices only"
    )
    channels_last: Literal["auto", "on", "off"] = Field(
        "auto", description="memory layout in training; auto = channels last on CPU and CUDA"
    )
    compile: bool = Field(False, description="torch.compile the network: slow to start, then faster")

    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    flip_vertical: float = Field(0.0, ge=0, le=1, description="probability of an upside-down flip")
    rotate: float = Field(10.0, ge=0, le=180, description="largest rotation in degrees, both ways")
    scale: float = Field(0.2, ge=0, le=3, description="largest zoom: factors 1/(1+scale) .. 1+scale")
    shift: float = Field(0.1, ge=0, le=1, description="largest shift as a share of the side")
    colour: float = Field(0.2, ge=0, le=1, description="strength of brightness, contrast and saturation changes")
    hue: float = Field(0.0, ge=0, le=180, description="largest shift of the hue in degrees, both ways")
    balance: float = Field(0.0, ge=0, le=3, description="white balance: gains of red, green, blue 1/(1+b) .. 1+b")
    gamma: float = Field(0.0, ge=0, le=3, description="exposure: exponents 1/(1+gamma) .. 1+gamma of values in [0, 1]")
    grey: float = Field(0.0, ge=0, le=1, description="probability that an image loses its colours")
    noise: float = Field(0.05, ge=0, le=1, description="largest standard deviation of noise, images in [-1, 1]")
    blur: float = Field(0.0, ge=0, le=10, description="largest sigma of a Gaussian blur in pixels")

    predict_scales: list[Scale] = Field(
        [1.0], min_length=1, max_length=8, description="multiples of the training size to predict at, averaged"
    )
    predict_flip: bool = Field(
        False, description="also predict the mirror image, and average; exported files do neither"
    )

    val_fraction: float = Field(0.1, ge=0, le=0.5, description="share split off to validate; 0 = keep the last weights")
    val_max: int = Field(128, ge=1, description="maximum number of validation images")
    val_every: int = Field(100, ge=1, description="steps between two validations; the last step always validates")

    @model_validator(mode="before")
    @classmethod
    def _widths(cls, values: Any) -> Any:
        """The half widths belong to the default encoder: another one has its own, unless they are given."""
        if not isinstance(values, dict):
            return values
        given = {**cls.profiles.get(values.get("profile", "default"), {}), **values}
        if "model_options" in given or given.get("encoder", ENCODER) == ENCODER:
            return values
        default = cls.model_fields["model_options"].default
        return {**values, "model_options": {name: value for name, value in default.items() if name not in WIDTHS}}

    @field_validator("dtype", mode="before")
    @classmethod
    def _dtype(cls, dtype: Any) -> Any:
        return {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(dtype, dtype)  # runs stored before

    @model_validator(mode="after")
    def _check(self) -> SmpConfig:
        odd = [name[:40] for name, value in self.model_options.items() if not _plain_option(value)]
        if odd:
            raise ValueError(
                f"{', '.join(odd[:5])} in model_options is not a number up to {LARGEST_OPTION}, true, false, null, a "
                "short word, or a list of these"
            )
        taken = sorted(FIXED_OPTIONS & set(self.model_options))
        if taken:
            raise ValueError(f"model_options must not hold {', '.join(taken)}: gsegkit sets it")
        return self


class UnetConfig(SmpConfig):
    """U-Net."""

    architecture = "unet"
    model_options: dict[str, Any] = _model_options(decoder_channels=[64, 48, 32, 24, 16], **HALF)


class UnetPlusPlusConfig(SmpConfig):
    """U-Net++."""

    architecture = "unetplusplus"
    model_options: dict[str, Any] = _model_options(decoder_channels=[64, 48, 32, 24, 16], **HALF)


class MAnetConfig(SmpConfig):
    """MA-Net."""

    architecture = "manet"
    model_options: dict[str, Any] = _model_options(decoder_channels=[64, 48, 32, 24, 16], **HALF)


class LinknetConfig(SmpConfig):
    """LinkNet."""

    architecture = "linknet"


class FPNConfig(SmpConfig):
    """Feature pyramid network."""

    architecture = "fpn"
    model_options: dict[str, Any] = _model_options(
        decoder_pyramid_channels=64, decoder_segmentation_channels=64, **HALF
    )


class PSPNetConfig(SmpConfig):
    """PSPNet. Its encoder ends at stride 8, which leaves ResNet-10 too shallow."""

    architecture = "pspnet"
    encoder: str = _encoder("resnet18")
    model_options: dict[str, Any] = _model_options(psp_out_channels=128)


class DeepLabV3Config(SmpConfig):
    """DeepLabV3. Small atrous rates: the usual 12, 24, 36 reach past the border of small images.

    Its output has an eighth of its input's side, 8 x 8 for 64 px: so the default sees them twice as large.
    """

    architecture = "deeplabv3"
    model_options: dict[str, Any] = _model_options(
        decoder_channels=64, encoder_output_stride=8, decoder_atrous_rates=[2, 4, 6],
        channels=[32, 64, 96, 128], stem_width=16,  # the stem sees the enlarged image: a quarter of a step's time
    )  # fmt: skip
    enlarge: float = _enlarge(2.0)
    steps: int = Field(600, ge=1, description="optimiser steps")


class DeepLabV3PlusConfig(SmpConfig):
    """DeepLabV3+."""

    architecture = "deeplabv3plus"
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {**SmpConfig.profiles, "paper-klish": _KLISH}
    profile: Literal["default", "standard", "lite", "paper-directions", "paper-klish"] = Field(  # type: ignore[assignment]
        "default", description="set of defaults: 2 CPU cores, smp's own sizes, or a paper's"
    )
    model_options: dict[str, Any] = _model_options(decoder_channels=64, decoder_atrous_rates=[2, 4, 6], **HALF)


class PANConfig(SmpConfig):
    """PAN. It needs 8 x 8 features at stride 16: smaller images are padded to 128 px."""

    architecture = "pan"


class UPerNetConfig(SmpConfig):
    """UPerNet."""

    architecture = "upernet"
    model_options: dict[str, Any] = _model_options(decoder_channels=64, **HALF)


class SegformerConfig(SmpConfig):
    """SegFormer's decoder. The paper's own encoders (mit_b0 .. mit_b5) carry NVIDIA's non-commercial licence."""

    architecture = "segformer"
    model_options: dict[str, Any] = _model_options(decoder_segmentation_channels=64, **HALF)


class DPTConfig(SmpConfig):
    """DPT. Needs a plain vision transformer of timm."""

    architecture = "dpt"
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **SmpConfig.profiles,
        "standard": {
            **_STANDARD,
            "encoder": "tu-vit_small_patch16_224",
            "model_options": {"dynamic_img_size": True},
        },
    }
    encoder: str = _encoder("tu-vit_tiny_patch16_224")
    model_options: dict[str, Any] = _model_options(
        dynamic_img_size=True, decoder_intermediate_channels=[48, 96, 192, 192], decoder_fusion_channels=64
    )
