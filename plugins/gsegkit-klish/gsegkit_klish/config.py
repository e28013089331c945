"""Options of `klish`. Light: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gsegkit.clustering.config import ClusterConfig


class KlishConfig(ClusterConfig):
    """Options of the extractor `klish`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Xu et al., Sec. 3.2 and 4.1: every pixel, all of them to k-means, maps of any size up to 1,000 channels
        "paper": {
            "min_scale": 0.0,
            "pixels_per_image": None,
            "init_points": None,
            "storage": "disk",
            "memory_mib": 65_536,
        },
    }

    profile: Literal["default", "paper"] = Field(
        "default", description="paper = its settings: every pixel, maps of any size"
    )
    k0: int = Field(100, ge=2, le=1000, description="k-means clusters that merging starts from; paper 100")
    C: float = Field(5000.0, gt=0, description="weight of the SVMs' mean squared hinge loss, as in the published code")
    tol: float = Field(
        1e-6, gt=0, le=1e-2, description="relative accuracy of every SVM; the tree does not change below 1e-5"
    )
    init_points: int | None = Field(
        262_144, ge=1, description="maximum number of points for k-means; null = all, as in the paper"
    )
    filter: bool = Field(True, description="drop initial clusters of unusually low IoU: those across two parts")
    min_iou: float | None = Field(
        None, gt=0, lt=1, description="cut where every cluster first reaches this IoU; null = cut by k, or automatic"
    )
    max_share: float | None = Field(
        None, gt=0, le=1, description="guard: a cluster with more than this share of the pixels absorbs no others"
    )
    filter_sigmas: float = Field(
        1.0, ge=0, le=10, description="drop clusters whose logit(IoU) is this many deviations below the mean; paper 1"
    )
    lloyd_steps: int = Field(
        100, ge=1, le=10_000, description="most k-means iterations after the filter; published code 2000"
    )
    lloyd_tol: float = Field(1e-3, ge=0, description="they stop when no coordinate of a centre moves by more than this")
    auto_iou: float = Field(0.45, gt=0, lt=1, description="automatic cut: every cluster reaches this IoU")
    auto_max: int = Field(24, ge=2, le=255, description="automatic cut: at most this many clusters")
    svm_rounds: int = Field(30, ge=1, description="most working sets of one SVM; 2 or 3 is what happens")
    newton_steps: int = Field(60, ge=1, description="most Newton steps on one working set; about 10 is what happens")
    snowball_levels: int = Field(20, ge=2, description="last merges that are looked at for snowballing")
    snowball_share: float = Field(
        0.75, gt=0, le=1, description="warn when more than this share of them went into the largest cluster"
    )
    refit: Literal["none", "softmax"] = Field(
        "none", description="classifier of the first cut: its SVMs, or a multinomial classifier fitted to it"
    )
    refit_steps: int = Field(100, ge=1, le=10_000, description="refit=softmax: most L-BFGS iterations")
    refit_decay: float = Field(1e-4, ge=0, description="refit=softmax: weight of the mean squared weight")

    def suggested_refiners(self) -> Mapping[str, Mapping[str, Any]]:
        """Feature maps are coarse: the picture's own colours know where a border is. The paper has no such step."""
        return {} if self.profile == "paper" else {"colours": {"smooth": 1.5}}

    @model_validator(mode="after")
    def _check_counts(self) -> KlishConfig:
        if self.k is not None and self.k > self.k0:
            raise ValueError(f"k={self.k} is more than the {self.k0} clusters that merging starts from (k0)")
        if self.k is not None and self.min_iou is not None:
            raise ValueError("give k or min_iou, not both")
        return self
