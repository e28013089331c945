"""Banks of images: the real ones that the discriminator compares with, and backgrounds that a user gives."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import list_images, to_images, to_pixels
from gsegkit.interfaces import Generator
from gsegkit.training import ImageBank, flip_where
from gsegkit.types import GeneratorInfo

FIRST = 1 << 24  # identities of the bank's samples, far from those of the training
SAMPLES = 1024  # generated images that stand in for real ones
LEAST = 16  # images that a bank needs


class Bank:
    """Images of the generator's size, drawn at random.

    Args:
        images: the images.
        mirror: mirror half of what is drawn.
    """

    def __init__(self, images: ImageBank, mirror: bool) -> None:
        self.images, self.mirror = images, mirror

    def draw(self, count: int) -> Tensor:
        """[count, 3, H, W] float32 in [-1, 1] on the bank's device, by torch's global generator."""
        chosen = self.images.batch(torch.randint(len(self.images), (count,)))
        return to_images(flip_where(chosen, torch.rand(count) < 0.5 if self.mirror else None))

    @staticmethod
    def of_folder(folder: str, info: GeneratorInfo, ctx: RunContext) -> Bank:
        """Backgrounds from a folder, fitted as the generator's photographs were."""
        images = UnlabelledImages(tuple(list_images(Path(folder))), None, info.fit_rule)
        return load_bank(images, (info.height, info.width), ctx)


def load_bank(images: UnlabelledImages, size: tuple[int, int], ctx: RunContext, mirror: bool = True) -> Bank:
    """Photographs fitted to the generator's size by their own rule.

    Raises:
        DataError: fitted to another size, fewer than 16, or too many that cannot be read.
    """
    if images.size is not None and tuple(images.size) != size:
        raise DataError(
            f"the real images are fitted to {images.size[0]} x {images.size[1]}, the generator makes "
            f"{size[0]} x {size[1]}",
            "fit them: images.fitted((info.height, info.width), info.fit_rule)",
        )
    return Bank(ImageBank(images, size, images.fit_rule, ctx, least=LEAST, device=ctx.device), mirror)


@torch.no_grad()
def sample_bank(generator: Generator, ctx: RunContext) -> Bank:
    """Generated images in place of real ones."""
    seeds = ctx.seeds("fit", ctx.limit(SAMPLES, LEAST), FIRST)
    chunks = list(torch.split(seeds, ctx.batch_size))
    pixels = [to_pixels(generator.sample(chunk).images).cpu() for chunk in ctx.track(chunks, "images to compare with")]
    return Bank(ImageBank.of_pixels(torch.cat(pixels), ctx.device), mirror=False)
