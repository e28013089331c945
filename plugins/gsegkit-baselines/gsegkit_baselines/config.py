"""Options of the baselines. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gsegkit.config import Config

Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LITE = "lite"  # backbone: EfficientNet-Lite0 of the package behind the extra [lite]


class OtsuConfig(Config):
    """Options of the segmenter `otsu`: none."""


class TwoMeansConfig(Config):
    """Options of the segmenter `two-means`."""

    pixels: int = Field(65_536, ge=2, description="of a photograph that the clusters are found on, at most")
    seed: int = Field(0, ge=0, description="of the first centres and of the choice of pixels")


class GrabCutConfig(Config):
    """Options of the segmenter `grabcut`."""

    inset: float = Field(
        0.02, gt=0, lt=0.5, description="between the border and the first rectangle, as a share of each side"
    )
    rounds: int = Field(5, ge=1, le=100, description="of the colour mixtures and the cut")
    side: int = Field(640, ge=16, le=4096, description="longest side that it works at, in pixels; masks are enlarged")
    seed: int = Field(0, ge=0, lt=2**31, description="of the first mixtures")


class CentrePriorConfig(Config):
    """Options of the segmenter `centre-prior`: none."""


class ColourKMeansConfig(Config):
    """Options of the segmenter `colour-kmeans`."""

    k: int = Field(24, ge=2, le=255, description="number of clusters")
    num_images: int = Field(500, ge=1, description="photographs that it looks at, at most")
    pixels: int = Field(2_000, ge=1, description="of each photograph that it looks at, at most")


class GrabCutKMeansConfig(GrabCutConfig):
    """Options of the segmenter `grabcut-kmeans`."""

    k: int = Field(24, ge=2, le=254, description="number of clusters inside the foreground")
    num_images: int = Field(500, ge=1, description="photographs that it looks at, at most")
    pixels: int = Field(2_000, ge=1, description="of each foreground that it looks at, at most")


class FeaturesConfig(Config):
    """Options of the frozen network whose features are used."""

    backbone: str = Field(
        LITE,
        min_length=1,
        max_length=100,
        description="lite (EfficientNet-Lite0 of the extra [lite], ImageNet labels), or a timm name with `weights`",
    )
    weights: str | None = Field(
        None, description="file with the weights of a timm backbone (.safetensors, .pth), read as data; None for lite"
    )
    side: int = Field(256, ge=32, le=1024, description="photographs are squashed to a square of this side, in pixels")
    pixels: int = Field(500, ge=1, description="of a photograph that are learned from, at most")


class FeatureKMeansConfig(FeaturesConfig):
    """Options of the segmenter `feature-kmeans`."""

    k: int = Field(24, ge=2, le=255, description="number of clusters")
    num_images: int = Field(500, ge=1, description="photographs that it looks at, at most")


class FewLabelsConfig(FeaturesConfig):
    """Options of the segmenter `few-labels`."""

    num_images: int = Field(500, ge=1, description="labelled photographs or pairs that it learns from, at most")
    penalty: float = Field(10.0, gt=0, allow_inf_nan=False, description="of large weights: 1 / C of the regression")


class NCutHeadConfig(FeaturesConfig):
    """Options of the segmenter `ncut-head`."""

    num_images: int = Field(300, ge=1, description="photographs that are cut, at most")
    grid: int = Field(16, ge=8, le=64, description="the cut works on a grid of this side")
    sharpness: float = Field(
        8.0, gt=0, le=100, description="how fast the tie between two places falls with 1 - the cosine of their features"
    )
    penalty: float = Field(10.0, gt=0, allow_inf_nan=False, description="of large weights: 1 / C of the regression")
    grabcut: bool = Field(False, description="GrabCut after the head, on the colours of each photograph")
    rounds: int = Field(5, ge=1, le=100, description="of GrabCut")


class OnnxMaskConfig(Config):
    """Options of the segmenter `onnx-mask`."""

    file: str | None = Field(None, description="the ONNX file; its content is stored with the segmenter")
    input: str | None = Field(None, description="name of the input that takes the photograph; None = the only one")
    output: str | None = Field(None, description="name of the output that is used; None = the first")
    size: tuple[int, int] | None = Field(
        None, description="(height, width) that photographs are squashed to; None = that of the file"
    )
    mean: tuple[Finite, Finite, Finite] = Field(
        (0.485, 0.456, 0.406), description="of red, green and blue in 0 .. 1, subtracted"
    )
    std: tuple[Deviation, Deviation, Deviation] = Field((0.229, 0.224, 0.225), description="divided by, after the mean")
    values: Literal["probs", "logits"] = Field(
        "probs", description="what the file gives: probabilities, or logits for a sigmoid (one channel) or a softmax"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="of one channel: foreground above it")
    classes: tuple[str, ...] | None = Field(
        None, description="names of the channels; None = background, class-1 ...; of one channel background, foreground"
    )
