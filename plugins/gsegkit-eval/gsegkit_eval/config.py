"""Options of the evaluators. Imports neither torch, SciPy nor scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gsegkit.config import Config

MATCH_RULES = ("auto", "names", "index", "greedy", "hungarian")
MATCH_FILES = (".yaml", ".yml", ".json", ".toml")

AUTO, LITE, FALLBACK = "auto", "lite", "resnet18"  # backbones of `frechet`
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class MasksConfig(Config):
    """Options of the evaluator `masks`."""

    renamed: ClassVar[Mapping[str, str]] = {"match_images": "num_match_images"}

    match: str = Field("auto", description="auto, names, index, greedy, hungarian, or a file (see the README)")
    num_match_images: int | None = Field(
        20,
        ge=0,
        description="match greedy / hungarian on this many images, at most half of them, and leave those out of the "
        "score; 0 or null = on the images that are scored, as in the KLiSH paper",
    )
    beta2: float = Field(0.3, gt=0, description="squared beta of F_beta; 0.3 in the saliency literature")
    threshold: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="foreground where its probability is greater, as 0.9 in Labels4Free; for two predicted classes; "
        "null = the most probable class",
    )
    thresholds: Literal[254, 255] = Field(255, description="of max F_beta: k/255 from k=0 (255) or from k=1 (254)")
    empty_iou: Literal["zero", "one", "skip"] = Field("zero", description="IoU where truth and prediction are empty")
    baselines: bool = Field(True, description="also score a constant centre mask and Otsu's threshold")

    @field_validator("match")
    @classmethod
    def _known_rule(cls, value: str) -> str:
        if value not in MATCH_RULES and not value.endswith(MATCH_FILES):
            raise ValueError(f"must be one of {', '.join(MATCH_RULES)}, or a {' / '.join(MATCH_FILES)} file")
        return value


class ClustersConfig(Config):
    """Options of the evaluator `clusters`."""

    max_pixels: int = Field(1_000_000, ge=1000, description="pixels used for AMI, ARI and NMI, spread over the images")


class FrechetConfig(Config):
    """Options of the generator evaluator `frechet`."""

    backbone: str = Field(
        AUTO,
        description="lite (EfficientNet-Lite0 of the extra [lite], ImageNet labels: FD(efficientnet-lite0)), any timm "
        "network with feature maps (`distance`), or auto: lite where its package is installed, else a random resnet18",
    )
    pretrained: bool = Field(
        False, description="of a timm network: timm's weights, downloaded, learned from labels; false = random ones"
    )
    backbone_seed: int = Field(0, ge=0, lt=2**63, description="of a timm network: seed of the random weights")
    stages: tuple[int, ...] = Field(
        (1, 2, 3), min_length=1, description="of a timm network: stages of it whose channel means are used"
    )
    num_samples: int = Field(1000, ge=8, description="number of generated images, and maximum number of photographs")

    @model_validator(mode="after")
    def _of_a_timm_network(self) -> FrechetConfig:
        given = [
            name
            for name in ("pretrained", "backbone_seed", "stages")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if given and self.backbone in (AUTO, LITE):
            raise ValueError(f"{given[0]} is an option of a timm network: name one too, such as backbone={FALLBACK}")
        return self


class InceptionConfig(Config):
    """Options of the generator evaluator `fid`, and common to those that see with Inception."""

    weights: str = Field(
        "", description=f"file of Inception's weights: {INCEPTION_FILE}; read as data, never downloaded"
    )
    sha256: str = Field(
        INCEPTION_SHA256,
        pattern="^[0-9a-f]{64}$",
        description="that the file must have; the default is the published file's, any other is never called FID",
    )
    num_samples: int = Field(10_000, ge=8, description="number of generated images; papers use 10,000 or 50,000")
    num_images: int | None = Field(None, ge=8, description="maximum number of photographs; null = all")


class KidConfig(InceptionConfig):
    """Options of the generator evaluator `kid`."""

    subsets: int = Field(100, ge=1, description="number of random subsets")
    subset_size: int = Field(
        1000, ge=2, description="images of each subset; all of the smaller side where it has fewer"
    )


class PrecisionRecallConfig(InceptionConfig):
    """Options of the generator evaluator `precision-recall`."""

    neighbours: int = Field(3, ge=1, description="the radius of an image's neighbourhood is the distance to this one")
