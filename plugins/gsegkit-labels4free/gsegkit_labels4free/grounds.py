"""Banks of pictures: the real ones that the discriminator compares with, and grounds that a user gives."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import list_images, to_images, to_pixels
from gsegkit.interfaces import Generator
from gsegkit.types import GeneratorInfo

FIRST = 1 << 24  # identities of the bank's samples, far from those of the training
SAMPLES = 1024  # generated pictures that stand in for real ones
LEAST = 16  # pictures that a bank needs
MEMORY = 1 << 30  # bytes of decoded pictures


class Bank:
    """Pictures in memory, [M, 3, H, W] uint8, drawn at random.

    Args:
        pixels: the pictures.
        mirror: turn half of what is drawn.
    """

    def __init__(self, pixels: Tensor, mirror: bool) -> None:
        self.pixels, self.mirror = pixels, mirror

    def draw(self, count: int, device: torch.device) -> Tensor:
        """[count, 3, H, W] float32 in [-1, 1], by torch's global generator."""
        chosen = self.pixels[torch.randint(len(self.pixels), (count,))]
        if self.mirror:
            turned = torch.rand(count) < 0.5
            chosen = torch.where(turned[:, None, None, None], chosen.flip(3), chosen)
        return to_images(chosen.to(device))

    @staticmethod
    def of_folder(folder: str, info: GeneratorInfo, ctx: RunContext) -> Bank:
        """Grounds from a folder, fitted as the generator's photographs were."""
        size = (info.height, info.width)
        images = UnlabelledImages(tuple(list_images(Path(folder))), size, info.fit_rule)
        return load_bank(images, size, ctx)


def load_bank(images: UnlabelledImages, size: tuple[int, int], ctx: RunContext, mirror: bool = True) -> Bank:
    """Photographs of the generator's size; evenly chosen ones when all would not fit into memory.

    Raises:
        DataError: of another size, fewer than 16, or one that cannot be read.
    """
    if images.size is not None and tuple(images.size) != size:
        raise DataError(
            f"the real pictures are fitted to {images.size[0]} x {images.size[1]}, the generator makes "
            f"{size[0]} x {size[1]}",
            "fit them: images.fitted((info.height, info.width), info.fit_rule)",
        )
    if len(images) < LEAST:
        raise DataError(
            f"{len(images)} real pictures are too few for the discriminator",
            f"give at least {LEAST}, or none: then generated images are used instead",
        )
    most = max(LEAST, MEMORY // (3 * size[0] * size[1]))
    chosen = [i * len(images) // most for i in range(most)] if len(images) > most else list(range(len(images)))
    if len(chosen) < len(images):
        ctx.info(f"labels4free: {len(chosen)} of {len(images)} pictures are used, more would not fit into memory")
    pixels = images.batch(chosen)
    if tuple(pixels.shape[1:]) != (3, *size):
        raise DataError(
            f"the real pictures are {pixels.shape[2]} x {pixels.shape[3]}, the generator makes {size[0]} x {size[1]}",
            "fit them: images.fitted((info.height, info.width), info.fit_rule)",
        )
    return Bank(pixels, mirror)


@torch.no_grad()
def sample_bank(generator: Generator, ctx: RunContext) -> Bank:
    """Generated pictures in place of real ones."""
    info = generator.info
    count = max(LEAST, min(SAMPLES, MEMORY // (3 * info.height * info.width)))
    seeds = ctx.seeds("fit", ctx.limit(count, LEAST), FIRST)
    chunks = list(torch.split(seeds, ctx.batch_size))
    pixels = [
        to_pixels(generator.sample(chunk).images).cpu() for chunk in ctx.track(chunks, "pictures to compare with")
    ]
    return Bank(torch.cat(pixels), mirror=False)
