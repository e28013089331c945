"""What the checks work with: odd sizes throughout, so that nothing fits by luck."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset, UnlabelledImages
from gsegkit.errors import CapabilityError
from gsegkit.images import to_pixels, write_png
from gsegkit.interfaces import Edit, Generator
from gsegkit.seeds import sample_seeds
from gsegkit.taps import Taps
from gsegkit.types import IGNORE, GeneratedBatch, LabelledBatch

NUM = 7  # samples
HEIGHT, WIDTH = 33, 47
#: Sizes of photographs: odd, smaller and larger than the training images.
SIZES = ((33, 47), (17, 19), (64, 40), (50, 81))


def seeds(count: int = NUM, purpose: str = "test") -> Tensor:
    """[count] int64."""
    return sample_seeds(11, purpose, 0, count)


@contextmanager
def context(seed: int = 7, smoke: bool = True) -> Iterator[RunContext]:
    """A context with a folder of its own, every loop cut to three steps."""
    with tempfile.TemporaryDirectory(prefix="gsegkit-kit-") as folder:
        yield RunContext(Path(folder), seed=seed, batch_size=4, smoke=smoke)


def toy(num_classes: int = 3) -> Toy:
    """The partner of extractors: 33 x 47 pictures, latents of 10 numbers."""
    return Toy(ToyConfig(size=HEIGHT, width=WIDTH, num_classes=num_classes))


class LimitedToy(Toy):
    """A toy that lacks one capability."""

    def __init__(self, without: str) -> None:
        super().__init__(ToyConfig(size=HEIGHT, width=WIDTH, num_classes=0 if without == "classes" else 3))
        self.without = without
        if without == "features":
            self.info = replace(self.info, features=())
        if without == "feature-edit":
            self.info = replace(self.info, edit_points=())
            self.taps = Taps({})
        if without == "masks":
            self.info = replace(self.info, mask_classes=())

    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """As the toy, less what is lacking."""
        batch = super().synthesize(latents, labels, features=features, edits=edits)
        return replace(batch, probs=None, layers={}) if self.without == "masks" else batch

    def truth(self, batch: GeneratedBatch) -> Tensor:
        """As the toy, or refused."""
        if self.without in ("truth", "masks"):
            raise CapabilityError("this toy does not provide masks")
        return super().truth(batch)


def labelled_batch(num_classes: int = 4, count: int = NUM) -> LabelledBatch:
    """Pairs for refiners: the toy's, with a band of 255 in the last mask."""
    generator = toy()
    batch = generator.sample(seeds(count))
    assert batch.probs is not None
    probs = batch.probs
    if num_classes == 2:
        probs = torch.stack([probs[:, 0], probs[:, 1:].sum(dim=1)], dim=1)
    masks = probs.argmax(dim=1).to(torch.uint8)
    masks[-1:, :5] = IGNORE
    coverage = 1 - probs[:, 0].mean(dim=(1, 2))
    contrast = torch.linspace(0.1, 1, count)
    scores = {"coverage": coverage, "contrast": contrast, "histogram_peaks": torch.full((count,), 3.0)}
    return LabelledBatch(seeds(count), to_pixels(batch.images), masks, probs, scores)


def pairs(count: int = 12) -> MemoryDataset:
    """Training pairs of one odd size, with some pixels 255."""
    generator = toy()
    batch = generator.sample(seeds(count, "dataset"))
    masks = generator.truth(batch)
    masks[:, :, :3] = IGNORE
    return MemoryDataset(to_pixels(batch.images), masks, generator.info.mask_classes)


def photographs(folder: Path, height: int, width: int, count: int = NUM) -> UnlabelledImages:
    """Files of the toy's pictures in 33 x 47, to be fitted to (height, width)."""
    pixels = to_pixels(toy().sample(seeds(count)).images)
    for i, row in enumerate(pixels):
        write_png(folder / f"picture-{i}.png", row)
    paths = tuple(sorted(folder.glob("*.png")))
    return UnlabelledImages(paths, (height, width))


def rows(batch: GeneratedBatch, keep: slice) -> GeneratedBatch:
    """Some rows of a generated batch."""
    return GeneratedBatch(
        images=batch.images[keep],
        latents=batch.latents[keep],
        labels=None if batch.labels is None else batch.labels[keep],
        seeds=None if batch.seeds is None else batch.seeds[keep],
        features={name: value[keep] for name, value in batch.features.items()},
        probs=None if batch.probs is None else batch.probs[keep],
        layers={name: value[keep] for name, value in batch.layers.items()},
    )


def tensors_of(batch: GeneratedBatch | LabelledBatch) -> dict[str, Tensor]:
    """Every tensor of a batch by name."""
    found: dict[str, Tensor] = {}
    for name, value in vars(batch).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, Mapping):
            found |= {f"{name}[{key!r}]": item for key, item in value.items()}
    return found


def first_difference(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> str:
    """The first name whose tensors differ in a bit or that one side lacks; "" when all are equal."""
    for name in (*one, *two):
        if name not in one or name not in two or not torch.equal(one[name], two[name]):
            return name
    return ""


def clones(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, to see later whether somebody wrote into the originals."""
    return {name: value.detach().clone() for name, value in tensors.items()}


def close(one: Tensor, two: Tensor, mean: float = 1e-3, largest: float = 0.05) -> bool:
    """Equal up to the rounding of another batch size: few values differ, and by little."""
    if one.shape != two.shape:
        return False
    gap = (one.float() - two.float()).abs()
    return gap.numel() == 0 or bool(gap.mean() <= mean and gap.max() <= largest)


def state_of(part: Generator | torch.nn.Module) -> dict[str, Tensor]:
    """Copies of everything in a part's state."""
    return clones(part.state_dict())
