"""Pictures for a person to annotate, with what an extractor sees in them as a first mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.editing.folder import DRAFTS, IMAGES, MASKS
from gsegkit.exports.places import place
from gsegkit.images import png_bytes, to_pixels
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.records.annotated import ANNOTATED_FILE, AnnotatedRecord, Picture
from gsegkit.storage import atomic_write, atomic_write_json
from gsegkit.types import IGNORE

CONFIDENCE = 0.5  # of the draft: what is less probable is left to the person


@dataclass(frozen=True)
class DraftMaker:
    """Fills a folder.

    Attributes:
        generator: on its device.
        extractor: fitted, on the same device, under the names of the folder's classes.
        source: fingerprint of the fit, as drafts are noted; "" = masks begin all unknown.
        palette: [256, 3] uint8, colours in the files of masks.
    """

    generator: Generator
    extractor: MaskExtractor
    source: str
    palette: Tensor

    def fill(self, folder: Path, record: AnnotatedRecord, count: int, ctx: RunContext) -> AnnotatedRecord:
        """Make pictures until `count` were made in all; no file that is there is written again.

        Pictures that were made and are gone are not made again: a person has removed them.

        Args:
            folder: to annotate; its annotate.json is renewed after each micro-batch.
            record: what its annotate.json says.
            count: pictures, of the first identities of purpose "annotate".
            ctx: its batch size is the micro-batch.

        Returns:
            The new record.
        """
        known = {picture.seed for picture in record.pictures}
        chunks = torch.split(ctx.seeds("annotate", count), ctx.batch_size)  # whole ones, whatever is there already
        for seeds in ctx.track([chunk for chunk in chunks if not known.issuperset(chunk.tolist())], "pictures"):
            pixels, masks = self.pairs(seeds)
            made = []
            for seed, picture, mask in zip(seeds.tolist(), pixels, masks, strict=True):
                if seed not in known:
                    self._write(folder, f"{seed}.png", picture, mask)
                    made.append(Picture(seed=seed, draft=self.source))
            record = record.model_copy(update={"pictures": (*record.pictures, *made)})
            atomic_write_json(folder / ANNOTATED_FILE, record.model_dump(mode="json"))
        return record

    @torch.no_grad()
    def pairs(self, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and drafts of one micro-batch.

        Returns:
            pixels: [N, 3, H, W] uint8 on the CPU.
            masks: [N, H, W] uint8 on the CPU; 255 where no class is more probable than `CONFIDENCE`, where the
                extractor ignores the pixel, and everywhere without drafts.
        """
        wanted = self.extractor.features(self.generator.info) if self.source else ()
        batch = self.generator.sample(seeds, features=wanted)
        pixels = to_pixels(batch.images).cpu()
        if not self.source:
            return pixels, torch.full((len(pixels), *pixels.shape[2:]), IGNORE, dtype=torch.uint8)
        found = self.extractor.extract(batch, self.generator)
        confidence, classes = found.probs.max(dim=1)
        unknown = confidence < CONFIDENCE
        unknown = unknown if found.ignore is None else unknown | found.ignore
        return pixels, classes.to(torch.uint8).masked_fill(unknown, IGNORE).cpu()

    def _write(self, folder: Path, name: str, pixels: Tensor, mask: Tensor) -> None:
        data = png_bytes(mask, self.palette)
        files = {IMAGES: png_bytes(pixels), DRAFTS: data, MASKS: data}
        for inner, content in files.items():
            path = place(folder, inner, name)
            if not path.exists():  # an earlier call was interrupted, and a person may have painted since
                atomic_write(path, content)
