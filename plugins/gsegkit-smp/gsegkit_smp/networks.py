"""Building smp networks: names checked early, licences of weights known, sizes padded to what the network takes."""

from __future__ import annotations

import difflib
import inspect
import warnings
from typing import NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from gsegkit_foreign import lite
from torch import Tensor, nn

from gsegkit.errors import ArtifactError, ConfigError, GsegkitError
from gsegkit.seeds import isolated_rng
from gsegkit_smp.config import ENCODER_OPTIONS, FIXED_OPTIONS, LITE, LITE_ENCODER, SmpConfig

TIMM = "tu-"
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, images in [0, 1]


class EncoderWeights(NamedTuple):
    """Pretrained weights of an encoder: where they are from and under which licence."""

    source: str
    licence: str


class Sizes(NamedTuple):
    """Image sizes a network takes: multiples of `multiple`, at least `minimum`."""

    multiple: int
    minimum: int


def check_config(config: SmpConfig) -> None:
    """Refuse unknown encoders, weights and model options, and pairs that smp cannot build; loads nothing.

    Raises:
        ConfigError: names what does not fit.
    """
    _check_encoder(config)
    _check_model_options(config)
    if config.encoder_weights is not None:
        encoder_weights(config)
    with isolated_rng(0):
        try:
            with torch.device("meta"):
                _create(config, num_classes=2, weights=None)
        except (NotImplementedError, RuntimeError):  # some encoders cannot be built without storage
            build_network(config, num_classes=2, pretrained=False)
        except Exception as error:  # see build_network
            raise _refusal(config, error) from error


def build_network(config: SmpConfig, num_classes: int, *, pretrained: bool) -> nn.Module:
    """The network; random weights from torch's global generator, or the encoder's pretrained ones.

    Raises:
        ConfigError: architecture, encoder and model options do not fit together.
        ArtifactError: the pretrained weights could not be fetched.
    """
    weights = config.encoder_weights if pretrained else None
    try:
        if weights != LITE:
            return _create(config, num_classes, weights)
        network = _create(config, num_classes, None)
        lite.load_lite(network.encoder, "gsegkit-smp[lite]")  # type: ignore[arg-type]  # a Tensor, for all that mypy knows
        return network
    except GsegkitError:
        raise
    except (OSError, ConnectionError) as error:
        raise ArtifactError(
            f"the encoder weights '{weights}' of {config.encoder} could not be fetched: {_first_line(error)}",
            "without encoder_weights nothing is downloaded",
        ) from error
    except Exception as error:  # smp and timm raise whatever the encoder trips over
        raise _refusal(config, error) from error


def encoder_weights(config: SmpConfig) -> EncoderWeights:
    """Source and licence of the pretrained weights that `config` names; fetches nothing.

    Raises:
        ConfigError: there are no such weights.
    """
    name, weights = config.encoder, str(config.encoder_weights)
    if weights == LITE:
        if name != LITE_ENCODER:
            raise ConfigError(f"the weights '{LITE}' are not for '{name}'", f"choose encoder={LITE_ENCODER}")
        return EncoderWeights(lite.SOURCE, lite.LICENCE)
    if name.startswith(TIMM):
        model, tags = _timm_model(name, weights), timm.list_pretrained(_timm_stem(name) + ".*")
        record = timm.get_pretrained_cfg(model, allow_unregistered=False) if timm.is_model_pretrained(model) else None
        if record is None:
            known = ", ".join(tag.partition(".")[2] for tag in tags) or "none"
            raise ConfigError(f"timm has no weights '{weights}' for '{_timm_stem(name)}'", f"it has: {known}")
        return EncoderWeights(
            f"timm {model} ({record.hf_hub_id or record.url})", record.license or "not stated by timm"
        )
    settings = smp.encoders.encoders[name].get("pretrained_settings") or {}
    if weights not in settings:
        raise ConfigError(f"smp has no weights '{weights}' for '{name}'", f"it has: {', '.join(settings) or 'none'}")
    source = settings[weights].get("repo_id", name)
    return EncoderWeights(f"smp {name} ({source})", f"see https://huggingface.co/{source}")


def normalisation(config: SmpConfig) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, [1, 3, 1, 1] each, that bring images in [-1, 1] to what the encoder expects."""
    mean: tuple[float, ...] = MEAN_RGB
    std: tuple[float, ...] = STD_RGB
    if config.encoder_weights in (None, LITE):
        return torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    if config.encoder.startswith(TIMM):
        record = timm.get_pretrained_cfg(_timm_model(config.encoder, str(config.encoder_weights)))
        assert record is not None  # check_config saw to it
        mean, std = record.mean, record.std
    shape = (1, 3, 1, 1)
    return torch.tensor(mean).reshape(shape) * 2 - 1, torch.tensor(std).reshape(shape) * 2


def network_sizes(network: nn.Module, architecture: str) -> Sizes:
    """Sizes that a network takes, from its encoder's stride."""
    stride = int(network.encoder.output_stride)  # type: ignore[union-attr, arg-type]
    if architecture == "pan":  # it halves its deepest features three times
        return Sizes(stride, 8 * stride)
    if architecture == "dpt":  # it halves its deepest features once and adds them to others later
        return Sizes(2 * stride, 2 * stride)
    return Sizes(stride, stride)


def answer_small(network: nn.Module, factor: float) -> bool:
    """Let a coarse network's head enlarge its answer to the images' size, not to that of the enlarged images.

    What a finer answer would add is averaged away again, and it takes a third of a step's time.

    Returns:
        Whether it does: the head must enlarge by a multiple of `factor`.
    """
    head = getattr(network, "segmentation_head", None)
    last = [module for module in head.modules() if isinstance(module, nn.Upsample)] if head is not None else []
    if factor == 1 or len(last) != 1 or not isinstance(last[0].scale_factor, float):
        return False
    if last[0].scale_factor % factor:
        return False
    last[0].scale_factor /= factor
    return True


def enlarge_images(images: Tensor, factor: float) -> Tensor:
    """[N, 3, H, W], bilinearly `factor` times as large."""
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


def shrink_logits(logits: Tensor, size: torch.Size) -> Tensor:
    """Logits of enlarged images at the images' own size (height, width); at twice the size, means of four."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def pad_images(images: Tensor, sizes: Sizes) -> Tensor:
    """Repeat the right and bottom edge of [N, 3, H, W] until the size fits; no branches, so that it can be traced."""
    height, width = images.shape[-2:]
    down: int | torch.SymInt = -height % sizes.multiple
    right: int | torch.SymInt = -width % sizes.multiple
    if sizes.minimum > sizes.multiple:
        down = torch.sym_max(height + down, sizes.minimum) - height
        right = torch.sym_max(width + right, sizes.minimum) - width
    return F.pad(images, (0, right, 0, down), mode="replicate")  # type: ignore[arg-type]  # SymInt when traced


def crop_logits(logits: Tensor, height: int, width: int) -> Tensor:
    """The top left [N, K, height, width]. Traced, it is gathered: a slice would remember whether there was padding."""
    if not torch.compiler.is_compiling():
        return logits[:, :, :height, :width]
    rows, columns = torch.arange(height, device=logits.device), torch.arange(width, device=logits.device)
    return logits.index_select(2, rows).index_select(3, columns)


def _refusal(config: SmpConfig, error: Exception) -> ConfigError:
    return ConfigError(
        f"{config.architecture} cannot be built on encoder '{config.encoder}': {_first_line(error)}",
        "choose another encoder or other model_options",
    )


def _create(config: SmpConfig, num_classes: int, weights: str | None) -> nn.Module:
    encoder, argument = config.encoder, weights
    if weights is not None and encoder.startswith(TIMM):
        encoder, argument = TIMM + _timm_model(encoder, weights), True  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return smp.create_model(
            config.architecture,
            encoder_name=encoder,
            encoder_weights=argument,
            in_channels=3,
            classes=num_classes,
            **config.model_options,
        )


def _check_encoder(config: SmpConfig) -> None:
    name = config.encoder
    if name.startswith(TIMM):
        known = timm.list_models()
        if _timm_stem(name) not in known:
            raise ConfigError(f"timm has no model '{_timm_stem(name)}'", _near(_timm_stem(name), known, TIMM))
        tagged = name.removeprefix(TIMM)
        if "." in tagged and tagged not in (tags := timm.list_pretrained(f"{_timm_stem(name)}.*")):
            raise ConfigError(f"timm has no weights '{tagged}'", _near(tagged, tags, TIMM))
    elif config.architecture == "dpt":
        raise ConfigError(f"dpt needs a timm vision transformer, got '{name}'", "for example tu-vit_tiny_patch16_224")
    elif name not in smp.encoders.encoders and not name.startswith("timm-"):
        known = list(smp.encoders.encoders)
        hint = f"timm's is called '{TIMM}{name}'" if timm.is_model(name) else _near(name, known)
        raise ConfigError(f"smp has no encoder '{name}'", hint)


def _check_model_options(config: SmpConfig) -> None:
    """Refuse all that is not on the list: smp drops what it does not know, and timm takes names of files to load."""
    parameters = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[config.architecture]).parameters.values()
    own = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    known = sorted((own - FIXED_OPTIONS) | (ENCODER_OPTIONS if config.encoder.startswith(TIMM) else set()))
    for name in config.model_options:
        if name not in known:
            hint = _near(name, known)
            raise ConfigError(f"{config.architecture} has no model option {name[:60]!r}", hint)


def _timm_stem(encoder: str) -> str:
    return encoder.removeprefix(TIMM).partition(".")[0]


def _timm_model(encoder: str, weights: str) -> str:
    """`resnet18` + `a1_in1k` -> `resnet18.a1_in1k`; "default" and "imagenet" leave the choice to timm."""
    name = encoder.removeprefix(TIMM)
    return name if "." in name or weights in ("default", "imagenet") else f"{name}.{weights}"


def _near(name: str, known: list[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(prefix + one for one in near)}?" if near else "see the lists of smp and timm"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
