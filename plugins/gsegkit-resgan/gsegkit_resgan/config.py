"""Shape of a residual generator, as data, and the options that its generators share. Light: no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gsegkit.config import Available, Config
from gsegkit.errors import ConfigError

MAX_SIDE = 1024
MAX_NAMES_BYTES = 1 << 20  # of a file of class names


class BlockSpec(Config):
    """One residual block."""

    inputs: int = Field(ge=1, le=8192, description="channels in")
    outputs: int = Field(ge=1, le=8192, description="channels out")
    up: bool = Field(True, description="doubles the side of the maps")
    attention: bool = Field(False, description="self-attention behind it")


class Arch(Config):
    """A whole generator. What tells BigGAN, SNGAN, SelfCondGAN ... apart is here, not in code."""

    block: Literal["resnet", "deep", "plain"] = Field(
        description="resnet: 3x3, 3x3; deep: 1x1, 3x3, 3x3, 1x1; plain: 3x3, 3x3 without normalisation"
    )
    blocks: tuple[BlockSpec, ...] = Field(min_length=1, max_length=24, description="from the noise to the image")
    start: int = Field(4, ge=2, le=64, description="side of the first maps")
    z_dim: int = Field(ge=1, le=8192, description="numbers of noise")
    num_classes: int = Field(0, ge=0, le=100_000, description="class labels, 0 = unconditional")
    class_dim: int = Field(0, ge=0, le=8192, description="numbers that stand for a class, 0 = none")
    chunk: int = Field(0, ge=0, le=8192, description="the noise is cut into parts of so many numbers, 0 = it is not")
    first: Literal["z", "chunk", "class+z"] = Field("z", description="what the first layer takes")
    norm: Literal["none", "affine", "table", "class", "class+chunk", "class+z"] = Field(
        description="what gains and biases of a normalisation come from; affine: nothing, table: a row for each class"
    )
    eps: float = Field(1e-5, gt=0, le=0.1, description="epsilon of the normalisations in blocks")
    last_eps: float = Field(1e-5, gt=0, le=0.1, description="epsilon of the last normalisation")
    statistics: int = Field(1, ge=1, le=1001, description="sets of statistics, one for each truncation from 0 to 1")
    cross_replica: bool = Field(False, description="trained with BigGAN-PyTorch's --cross_replica")
    feature: Literal["block", "layer", "res"] = Field("block", description="what the feature maps are called")

    @model_validator(mode="after")
    def _consistent(self) -> Arch:
        for i, (before, after) in enumerate(pairwise(self.blocks)):
            if before.outputs != after.inputs:
                raise ValueError(f"block {i} makes {before.outputs} channels, block {i + 1} takes {after.inputs}")
        if not 8 <= self.side <= MAX_SIDE:
            raise ValueError(f"images of {self.side} px; 8 to {MAX_SIDE} are supported")
        if ("chunk" in self.first + self.norm) != bool(self.chunk):
            raise ValueError("the size of a part of the noise, and a layer that takes one, go together")
        if self.chunk and self.chunk * (len(self.blocks) + 1) != self.z_dim:
            raise ValueError(f"{self.z_dim} numbers of noise are not {len(self.blocks) + 1} parts of {self.chunk}")
        by_class = self.class_dim > 0 or self.norm == "table"
        if by_class != bool(self.num_classes) or (self.norm == "class" and not self.class_dim):
            raise ValueError("a number of classes, and layers that depend on the class, go together")
        if (self.block == "plain" and self.norm != "none") or (self.block != "plain" and self.norm == "none"):
            raise ValueError("plain blocks, and only those, have no normalisation")
        return self

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.start * 2 ** sum(block.up for block in self.blocks)

    @property
    def vector(self) -> int:
        """Numbers from which each normalisation in a block computes its gains and biases; 0 = from none."""
        if self.norm not in ("class", "class+chunk", "class+z"):
            return 0
        return self.class_dim + {"class": 0, "class+chunk": self.chunk, "class+z": self.z_dim}[self.norm]

    @property
    def first_inputs(self) -> int:
        """Numbers that the first layer takes."""
        return {"z": self.z_dim, "chunk": self.chunk, "class+z": self.class_dim + self.z_dim}[self.first]

    def features(self) -> list[tuple[str, int, bool, int, int]]:
        """(name, block, whether it is the attention behind it, channels, side) of the maps, shallow to deep.

        Of `res` every second block has a name: the last one of each size.
        """
        found, side = [], self.start
        single = sum(block.attention for block in self.blocks) == 1
        for i, block in enumerate(self.blocks):
            side *= 2 if block.up else 1
            if self.feature != "res" or i % 2 == 1:
                number = i // 2 if self.feature == "res" else i
                found.append((f"{self.feature}{number}", i, False, block.outputs, side))
            if block.attention:
                found.append(("attn" if single else f"attn{i}", i, True, block.outputs, side))
        return found


class SampleOptions(Config):
    """Where weights come from, and what is drawn."""

    weights: str = Field("none", description="zoo name, folder of a part or run, checkpoint file, or none = random")
    truncation: float = Field(
        1.0, gt=0, le=1, description="below 1 the noise is cut at 2 deviations and multiplied by this; 1 = as trained"
    )

    def new_arch(self) -> Arch:
        """Shape of a new network, by these options."""
        raise NotImplementedError


class ClassOptions(SampleOptions):
    """Options of a generator with classes."""

    classes: tuple[int | str, ...] = Field((), description="draw these classes only, by number or name; none = all")
    class_names: str = Field("", description="text file with the names of the classes, one a line, from class 0 on")

    @field_validator("classes", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        if isinstance(value, str):  # -o gen.classes=3,7 or a single name
            value = [int(part) if part.strip().isdigit() else part.strip() for part in value.split(",")]
        return [value] if isinstance(value, int) else value

    def resolved(self, available: Available) -> Self:
        """With names of classes written as numbers, so that a replay needs no file."""
        numbers = self.class_numbers()
        return self.model_copy(update={"classes": numbers, "class_names": ""}) if numbers else self

    def class_numbers(self) -> tuple[int, ...]:
        """The wanted classes as numbers, rising, each once; () = all.

        Raises:
            ConfigError: a name without `class_names`, not in it, or a file that cannot be read.
        """
        names = _read_names(self.class_names) if self.class_names else []
        return tuple(sorted({item if isinstance(item, int) else _number(item, names) for item in self.classes}))


def _read_names(file: str) -> list[str]:
    path = Path(file).expanduser()
    try:
        if path.stat().st_size > MAX_NAMES_BYTES:
            raise ConfigError(f"'{path}' is too large for a list of names", "give a text file with one name a line")
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        hint = "give a text file with one name a line"
        raise ConfigError(f"cannot read the class names in '{path}': {reason}", hint) from None


def _number(name: str, names: Sequence[str]) -> int:
    if not names:
        raise ConfigError(f"class '{name[:80]}' is a name", "give class_names=FILE, one name a line, or use its number")
    if names.count(name) != 1:
        found = "twice" if name in names else "not"
        raise ConfigError(f"class '{name[:80]}' is {found} in the class names", "use its number, from 0 on")
    return names.index(name)


# ---- new networks ------------------------------------------------------------------------------------------------

#: Channels behind the first layer and behind each block, in units of `channels`.
STUDIO_WIDTHS: dict[int, tuple[int, ...]] = {
    32: (4, 4, 4, 4),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
BIG_WIDTHS = {**STUDIO_WIDTHS, 64: (16, 16, 8, 4, 2)}  # of BigGAN-PyTorch


def resnet_blocks(widths: Sequence[int], channels: int, attention: int) -> tuple[BlockSpec, ...]:
    """Blocks that each double the side, from 4 px on; attention behind the one that makes maps of `attention` px."""
    pairs = enumerate(pairwise(widths))
    return tuple(
        BlockSpec(inputs=a * channels, outputs=b * channels, attention=8 * 2**i == attention) for i, (a, b) in pairs
    )


class NewResNet(SampleOptions):
    """Options of a new network of residual blocks; the shape of one with weights is read from them."""

    resolution: Literal[32, 64, 128, 256, 512] = Field(64, description="image side in pixels of a new network")
    channels: int = Field(16, ge=1, le=256, description="channels before the image of a new network; papers 64 to 96")
    z_dim: int = Field(128, ge=1, le=8192, description="size of the input noise of a new network")
    attention: Literal[0, 8, 16, 32, 64, 128, 256] = Field(
        0, description="self-attention of a new network at this side, 0 = none"
    )

    @model_validator(mode="after")
    def _attention_fits(self) -> NewResNet:
        if self.attention > self.resolution:
            raise ValueError(f"attention at {self.attention} px in a network of {self.resolution} px")
        return self

    def new_arch(self) -> Arch:
        """StudioGAN's unconditional network."""
        return Arch(norm="affine", **self._resnet())

    def _resnet(self) -> dict[str, Any]:
        blocks = resnet_blocks(STUDIO_WIDTHS[self.resolution], self.channels, self.attention)
        return {"block": "resnet", "blocks": blocks, "z_dim": self.z_dim, "eps": 1e-4, "last_eps": 1e-4}


class NewClassResNet(NewResNet, ClassOptions):
    """The same with a table of gains and biases for each class."""

    num_classes: int = Field(10, ge=1, le=100_000, description="class labels of a new network")

    def new_arch(self) -> Arch:
        """StudioGAN's conditional network."""
        return Arch(norm="table", num_classes=self.num_classes, **self._resnet())


class NewBigResNet(NewResNet):
    """BigGAN's network without classes: a part of the noise goes to each block."""

    z_dim: int = Field(20, ge=1, le=1024, description="size of each part of the noise of a new network")

    def new_arch(self) -> Arch:
        """BigBiGAN's network."""
        return Arch(**self._big(BIG_WIDTHS))

    def _big(self, widths: dict[int, tuple[int, ...]]) -> dict[str, Any]:
        blocks = resnet_blocks(widths[self.resolution], self.channels, self.attention)
        parts = {"z_dim": self.z_dim * (len(blocks) + 1), "chunk": self.z_dim, "first": "chunk"}
        return {"block": "resnet", "blocks": blocks, "norm": "class+chunk", "eps": 1e-4, **parts}


class NewClassBigResNet(NewBigResNet, ClassOptions):
    """BigGAN's network."""

    num_classes: int = Field(10, ge=1, le=100_000, description="class labels of a new network")
    class_dim: int = Field(128, ge=1, le=8192, description="numbers that stand for a class in a new network")
    cross_replica: Literal["multiply", "add"] = Field(
        "multiply",
        description="gains of files trained with --cross_replica: multiply, as their training on several GPUs did; "
        "add, as BigGAN-PyTorch does at evaluation (and trained on one GPU)",
    )
    statistics: Literal["interpolated", "reference"] = Field(
        "interpolated",
        description="BigGAN-deep's statistics between two stored truncations: interpolated, or as the reference "
        "code takes them, with the two weights swapped",
    )

    def new_arch(self) -> Arch:
        """BigGAN's network."""
        return Arch(num_classes=self.num_classes, class_dim=self.class_dim, **self._big(BIG_WIDTHS))


class NewStudioBigResNet(NewClassBigResNet):
    """BigGAN's network with StudioGAN's widths."""

    def new_arch(self) -> Arch:
        """ContraGAN's network."""
        shape = {**self._big(STUDIO_WIDTHS), "last_eps": 1e-4}
        return Arch(num_classes=self.num_classes, class_dim=self.class_dim, **shape)


class NewPlain(SampleOptions):
    """Options of a new network of plain blocks, two for each size."""

    resolution: Literal[32, 64, 128, 256] = Field(64, description="image side in pixels of a new network")
    channels: int = Field(16, ge=1, le=256, description="channels before the image of a new network; paper 64")
    z_dim: int = Field(256, ge=1, le=8192, description="size of the input noise of a new network")

    def new_arch(self) -> Arch:
        """UncondGAN's network."""
        return Arch(**self._plain())

    def _plain(self) -> dict[str, Any]:
        widths = [min(16, 2**i) * self.channels for i in range(self.resolution.bit_length() - 3, -1, -1)]
        return {"block": "plain", "norm": "none", "feature": "res", "z_dim": self.z_dim, "blocks": plain_blocks(widths)}


class NewClassPlain(NewPlain, ClassOptions):
    """The same with classes that were found by clustering."""

    num_classes: int = Field(10, ge=1, le=100_000, description="class labels of a new network; paper 100 clusters")
    class_dim: int = Field(256, ge=1, le=8192, description="numbers that stand for a class in a new network")
    clusterer: str = Field(
        "", description="the checkpoint's *_clusterer.pkl: classes are drawn by the sizes of its clusters"
    )

    def new_arch(self) -> Arch:
        """SelfCondGAN's network."""
        return Arch(num_classes=self.num_classes, class_dim=self.class_dim, first="class+z", **self._plain())


def plain_blocks(widths: Sequence[int]) -> tuple[BlockSpec, ...]:
    """Two plain blocks for each size: the first one enters it and changes the width."""
    blocks = []
    for i, (before, width) in enumerate(pairwise([widths[0], *widths])):
        blocks += [BlockSpec(inputs=before, outputs=width, up=i > 0), BlockSpec(inputs=width, outputs=width, up=False)]
    return tuple(blocks)
