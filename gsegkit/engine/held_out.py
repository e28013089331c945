"""Pairs that nothing in a run has seen, and how far one set of pictures is from another of equal size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.classes.class_map import stored_class_map
from gsegkit.classes.named import Named
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.engine import sources
from gsegkit.engine.choices import choose
from gsegkit.engine.learned import new_pairs
from gsegkit.engine.plan import Plan
from gsegkit.errors import ContractError, DataError
from gsegkit.images import to_images
from gsegkit.interfaces import Generator, GeneratorEvaluator, MaskExtractor
from gsegkit.plugins import Registry
from gsegkit.rundir import RunFolder
from gsegkit.types import GeneratedBatch, GeneratorInfo


def held_out_pairs(run_folder: Path, count: int, registry: Registry, ctx: RunContext) -> LabelledDataset:
    """New pairs as the run made its own, of the test identities: no pair of the run, and no step of it, has them.

    Args:
        run_folder: a finished run.
        count: candidates; the run's refiners may drop some.
        registry: where its parts come from.
        ctx: device and progress; seed and micro-batch are the run's.

    Returns:
        The pairs, under the classes that the run's own pairs have.

    Raises:
        ArtifactError: the run has no extractor.
        DataError: the refiners dropped everything.
    """
    record = RunFolder(run_folder).read_config()
    choices = choose(Plan.from_record(record, registry), registry).as_recorded(record, registry.available)
    plan = choices.plan
    generator: Generator = sources.open_part(run_folder, "generator", registry, ctx.device)
    extractor: MaskExtractor = sources.open_part(run_folder, "extractor", registry, ctx.device)
    if (own := stored_class_map(run_folder)) is not None:
        extractor = Named(extractor, own)
    ctx = replace(ctx, run_seed=plan.seed, batch_size=plan.batch_size)
    pairs = new_pairs(generator, extractor, choices.build_refiners(), ctx, count, "test")
    if pairs is None:
        raise DataError(
            f"the run's refiners dropped all of {count} new pairs, so there is nothing to score on", "take more samples"
        )
    return pairs


@dataclass(frozen=True)
class InMemory(UnlabelledImages):
    """Pictures in memory where photographs are asked for; they have their size already.

    Attributes:
        pixels: [N, 3, H, W] uint8.
    """

    pixels: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.pixels is None else len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        """[3, H, W] uint8."""
        assert self.pixels is not None
        return self.pixels[index]

    def fitted(self, size: tuple[int, int], fit_rule: str = "squash") -> UnlabelledImages:
        """The same."""
        return self


class Shown(Generator):
    """Pictures where a generator is asked for: the i-th test identity has the i-th picture.

    Args:
        pixels: [N, 3, H, W] uint8.
        first: the first of the identities, which are consecutive.
    """

    def __init__(self, pixels: Tensor, first: int, config: Any) -> None:
        super().__init__(config)
        self.pixels, self.first = pixels, first
        self.info = GeneratorInfo(height=pixels.shape[2], width=pixels.shape[3], latent_shape=(1,))

    def latents(self, seeds: Tensor) -> Tensor:
        """The rows of the pictures, [N, 1] float32."""
        return (seeds.cpu() - self.first)[:, None].float()

    def synthesize(
        self, latents: Tensor, labels: Tensor | None = None, *, features: tuple[str, ...] = (), edits: Any = None
    ) -> GeneratedBatch:
        """The pictures themselves."""
        rows = latents[:, 0].long()
        if bool((rows < 0).any() or (rows >= len(self.pixels)).any()):
            raise ContractError(f"there are {len(self.pixels)} pictures, and others were asked for")
        return GeneratedBatch(images=to_images(self.pixels[rows]), latents=latents)


def distance(
    evaluator: GeneratorEvaluator, pictures: Tensor, true: Tensor, ctx: RunContext
) -> tuple[dict[str, float | None], Sequence[str]]:
    """What a generator evaluator says of pictures beside as many true ones, and its notes.

    Args:
        evaluator: takes as many samples as there are pictures.
        pictures: [N, 3, H, W] uint8.
        true: [N, 3, H, W] uint8.
        ctx: seeds and device.
    """
    shown = Shown(pictures, int(ctx.seeds("test", 1)), evaluator.config)
    report = evaluator.evaluate(shown, InMemory((), pixels=true), ctx)
    return dict(report.metrics), report.notes
