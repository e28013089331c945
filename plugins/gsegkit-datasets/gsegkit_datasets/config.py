"""Options of the dataset readers. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gsegkit.config import Config
from gsegkit.reading.scaling import AUTO, check_scaling


def _scaling(text: str) -> str:
    return text if text == AUTO else check_scaling(text)


Scaling = Annotated[
    Annotated[str, AfterValidator(_scaling)],
    Field(
        description="how more than 8 bits become 8 bits: percentile (0.1 to 99.9), percentile:LOW:HIGH, full, "
        "range:LOW:HIGH; auto = as generator or segmenter learned it, else percentile",
    ),
]


class FolderConfig(Config):
    """Options of the dataset reader `folder`."""

    images: str | None = Field(None, description="sub-folder of the images; None = images/ if there is one, else all")
    masks: str | None = Field(None, description="sub-folder of the masks; None = masks/, else files with the suffix")
    mask_suffix: str = Field("_mask", min_length=1, description="end of a mask's stem when both lie in one folder")
    annotations: str | None = Field(
        None, description="file of COCO annotations below the folder; None = the only one there, if there are no masks"
    )
    values: Literal["auto", "index", "binary"] = Field("auto", description="what masks store; see the README's rule")
    scaling: Scaling = AUTO
    classes: tuple[str, ...] | None = Field(
        None, description="class names from 0 on; None = those of classes.yaml or .txt"
    )
    max_classes: int = Field(
        64, ge=2, le=255, description="most classes allowed without names; more are probably grey levels"
    )


# ---- data sets of the papers -------------------------------------------------------------------------------------


class SetConfig(Config):
    """Options that the readers of all published data sets have."""

    layout: str | None = Field(None, description="how it lies on the disk; None = what its marker files say")
    crop: Literal["none", "centre-square"] = Field(
        "none", description="cut out of image and mask before anything else; centre-square = as wide as the short side"
    )
    size: int | None = Field(
        None, ge=8, le=4096, description="short side after the crop, in pixels; None = as stored. Masks: nearest"
    )
    missing: Literal["error", "skip"] = Field(
        "error",
        description="what to do about listed images without a file or a mask; skip = leave out, and say so",
    )
    count: Literal["warn", "refuse"] = Field(
        "warn", description="what to do when a split has another number of images than the published one"
    )
    leave_out: tuple[str, ...] = Field((), description="names of samples to leave out")
    resize_mask: Literal["refuse", "nearest"] = Field(
        "refuse", description="what to do with a mask of another size than its image"
    )
    limit: int | None = Field(None, ge=1, description="at most as many images, drawn by `seed`; None = all")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of the draw of `limit`")
    scaling: Scaling = AUTO


class BoxedConfig(SetConfig):
    """Options of sets that have a box for each object."""

    crop: Literal["none", "centre-square", "box-1.5"] = Field(  # type: ignore[assignment]
        "none",
        description="cut out of image and mask before anything else; box-1.5 = square of 1.5 times the longer side of "
        "the annotated box, which is ground truth",
    )


class CubConfig(BoxedConfig):
    """Options of the dataset reader `cub`."""

    split: Literal["all", "official-train", "official-test", "redo-train", "redo-val", "redo-test"] = Field(
        "all",
        description="images; redo-* = ReDO's split, which papers score on and whose list is not in the archive",
    )
    split_file: str | None = Field(
        None, description="ReDO's train_val_test_split.txt; None = looked for in the folder and beside it"
    )
    ignore_soft: bool = Field(False, description="pixels that some annotators marked, but no majority, become 255")


class Flowers102Config(SetConfig):
    """Options of the dataset reader `flowers102`."""

    split: Literal["all", "official-train", "official-val", "official-test", "redo-train", "redo-val", "redo-test"] = (
        Field(
            "all",
            description="images; papers score on redo-test, which is official-train; redo-train is official-test",
        )
    )
    mask_rule: Literal["redo", "tolerant"] = Field(
        "redo", description="which pixels are blue ground: exactly as ReDO and the papers after it, or as JPEG blurs it"
    )


class Flowers17Config(SetConfig):
    """Options of the dataset reader `flowers17`."""

    split: Literal[
        "all", "official-train-1", "official-val-1", "official-test-1", "official-train-2", "official-val-2",
        "official-test-2", "official-train-3", "official-val-3", "official-test-3",
    ] = Field("all", description="images; of a split those that have a trimap")  # fmt: skip
    border: tuple[int, int, int] | None = Field(
        None,
        description="colour of what is not labelled; None = the one that touches the flowers most, of several",
    )


class SaliencyConfig(SetConfig):
    """Options of the dataset readers `dut-omron` and `ecssd`."""

    split: Literal["all"] = Field("all", description="images; the set has one")
    threshold: int = Field(127, ge=0, le=254, description="values above it are foreground")
    ignore_soft: bool = Field(False, description="values between 0 and 255 become 255")
    invert: bool = Field(False, description="0 is the foreground: some copies have it so")


class DutsConfig(SaliencyConfig):
    """Options of the dataset reader `duts`."""

    split: Literal["official-test", "official-train"] = Field(  # type: ignore[assignment]
        "official-test", description="images: DUTS-TE, which papers score on, or DUTS-TR"
    )


class CelebaMaskConfig(SetConfig):
    """Options of the dataset reader `celebamask-hq`."""

    split: Literal["all", "official-train", "official-val", "official-test"] = Field(
        "all", description="images, by CelebA's own parts of the photographs"
    )
    classes: Literal["official", "bisenet", "klish15", "foreground", "foreground-without-cloth"] = Field(
        "official", description="the masks' classes, in the order of this code base; foreground = any part at all"
    )
    order: Literal["official", "bisenet", "klish15"] | None = Field(
        None, description="what index PNGs store; needed for them, since the files do not say it"
    )
    background: Literal["class", "ignore"] = Field(
        "class", description="ignore = what is no part becomes 255, as KLiSH scores; class = it is class 0"
    )

    @model_validator(mode="after")
    def _scored(self) -> Self:
        if self.background == "ignore" and self.classes.startswith("foreground"):
            raise ValueError("without background there is only one class left: choose other classes")
        return self


class CarsConfig(BoxedConfig):
    """Options of the dataset reader `stanford-cars`."""

    split: Literal["all", "official-train", "official-test", "drc-train", "drc-test"] = Field(
        "all", description="images; drc-* = of the layout data_mrcnn"
    )


class DogsConfig(CarsConfig):
    """Options of the dataset reader `stanford-dogs`."""


class ApcConfig(SetConfig):
    """Options of the dataset reader `apc`."""

    split: Literal["all", "genesis-train", "genesis-val", "genesis-test"] = Field(
        "all", description="images, by scenes, as GENESIS draws them"
    )
    mask_rule: Literal["genesis", "nonzero"] = Field(
        "genesis", description="which values are the object: 255 alone, as GENESIS reads them, or all but 0"
    )


class VocConfig(SetConfig):
    """Options of the dataset reader `voc`."""

    split: Literal["official-train", "official-val", "official-trainval"] = Field(
        "official-val", description="images, by ImageSets/Segmentation"
    )
    year: int | None = Field(None, ge=2005, le=2012, description="of VOC20xx; None = the only one there")
    classes: tuple[str, ...] | None = Field(
        None, min_length=1, description='only images with these classes, such as ["car"]; None = all 20'
    )
    least_share: float = Field(0.0, ge=0, le=1, description="share of the pixels that the chosen classes must exceed")
    others: Literal["background", "ignore"] = Field(
        "background", description="what objects of other classes become when `classes` is given"
    )


class PetsConfig(SetConfig):
    """Options of the dataset reader `oxford-pets`."""

    split: Literal["all", "official-trainval", "official-test"] = Field("all", description="images")
    border: Literal["ignore", "foreground", "background"] = Field(
        "ignore", description="what the trimap's border around a pet becomes"
    )


class CustomConfig(SetConfig):
    """Options of the dataset reader `labels4free-custom`."""

    split: Literal["faces", "cats", "horses", "cars"] = Field("faces", description="class of the ten images")
