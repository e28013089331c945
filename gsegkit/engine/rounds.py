"""The stages of a run, one method each. Every stage's key holds the key of the stage before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gsegkit.classes.class_map import ClassMap
from gsegkit.classes.colours import class_colours, run_palette
from gsegkit.classes.in_parts import can_be_in_parts, in_parts
from gsegkit.classes.named import Named
from gsegkit.classes.shipped import shipped_names
from gsegkit.classes.targets import automatic_classes
from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.engine.choices import Choices
from gsegkit.engine.followed import left_warnings
from gsegkit.engine.identity import files_identity, recipe_of
from gsegkit.engine.learned import Learned, compare, new_pairs
from gsegkit.engine.next_steps import found_record
from gsegkit.engine.plan import NATIVE, PHOTO_REFINER
from gsegkit.engine.probe import check_varied
from gsegkit.engine.scoring import score, show_new_pairs
from gsegkit.engine.selftrain import Mixed, label_photographs, show_difference
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.sources import Inputs, names_offered, sample_photographs, samples_name, truth_set
from gsegkit.engine.stages import Stage, StageRunner, reading
from gsegkit.engine.synthesis import BYTES_PER_PIXEL, check_space, synthesize
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Evaluator, Generator, MaskExtractor, Segmenter, TrainableGenerator
from gsegkit.parts import load_part
from gsegkit.reading.scaling import DEFAULT_SCALING
from gsegkit.refining import Segments, automatic
from gsegkit.rundir import STAGE_FILE, stage_key, stage_name
from gsegkit.tensors import state_hash
from gsegkit.types import Report

BEFORE_FOLDER = "before"  # of the stage `report`: scores of the segmenter before self-training
IN_ORDER = "this piece follows others: start the run with --launcher, which starts them in order"
SHOWN_METRICS = 4  # in the note beside the scores


class Rounds:
    """Carries out the stages of a plan, in the order in which the pipeline calls them.

    Attributes:
        key: of the last stage: what its result, and all that follows, depends on.
        given: the plan's class names.
        classes: those in use: the given ones, or those of the plan's target.
        cuttable: the extractor's clusters can be named.
        found: what the run found, see `gsegkit.engine.next_steps`; once it is reported.
    """

    def __init__(self, choices: Choices, stages: StageRunner, generator: Generator, inputs: Inputs) -> None:
        self.choices, self.stages, self.generator, self.inputs = choices, stages, generator, inputs
        self.plan, self.ctx = choices.plan, stages.ctx
        self.key = stage_key(choices["gen"].identity, state_hash(generator), self.plan.device.partition(":")[0])
        generator.scaling = inputs.scaling
        if inputs.scaling != DEFAULT_SCALING:  # which changes no key of an earlier version
            self.key = stage_key(self.key, inputs.scaling)
        self.images_identity = files_identity(inputs.images, inputs.revision)
        self.given = self._classes()
        self.classes = self.given
        self.extractor: MaskExtractor | None = None  # of the last round, without names
        self.cuttable = False
        self.found: dict[str, Any] = {}
        self.refiners = choices.build_refiners()
        self.first: Segmenter | None = None  # before it saw a photograph
        self.checked: tuple[LabelledDataset, Learned] | None = None  # new pairs, and what was found on them

    def check_space(self) -> None:
        """StorageError, before anything is computed, when the pairs that are not yet there do not fit on the disk.

        How large PNGs become is known when the extractor is: then `synthesize` asks again.
        """
        if self.plan.format != NATIVE:
            return
        info, count = self.generator.info, self.ctx.limit(self.plan.num_samples, SMOKE_SAMPLES)
        folders = [self.ctx.folder / stage_name("dataset", round) for round in range(self.plan.rounds)]
        unmade = [folder for folder in folders if not (folder / STAGE_FILE).exists()]
        there = sum(path.stat().st_size for folder in unmade for path in folder.glob("shard-*"))
        needed = len(unmade) * count * info.height * info.width * BYTES_PER_PIXEL - there
        if needed > 0:
            check_space(self.ctx.folder, needed)

    def train_generator(self, round: int, segmenter: Segmenter | None) -> None:
        """Train the generator on the plan's images."""
        generator, images = self.generator, self.inputs.images
        self.key = stage_key(self.key, round, self.images_identity, self.plan.seed, self.plan.smoke)
        if not isinstance(generator, TrainableGenerator) or images is None:
            raise ConfigError(
                f"generator '{type(generator).__name__}' cannot be trained here",
                "choose a trainable generator and give --images",
            )
        fit = partial(generator.fit, images, segmenter=segmenter)
        self.stages.fit("generator", round, self.key, generator, self.choices["gen"], fit)

    def fit_extractor(self, round: int) -> MaskExtractor:
        """Fit the extractor to the generator."""
        plan, images = self.plan, self.inputs.images
        extractor: MaskExtractor = self.choices["extractor"].build().to(self.ctx.device)
        extractor.scaling = self.inputs.scaling
        own = self.choices["extractor"].identity
        self.key = stage_key(self.key, own, self.images_identity, plan.seed, plan.batch_size, plan.smoke)
        fit: Callable[..., None] = partial(self._fit, extractor, images)
        if plan.shipped is not None:
            fit = partial(self._take_shipped, extractor, plan.shipped)
            self.key = stage_key(self.key, plan.shipped)
        self.stages.fit("extractor", round, self.key, extractor, self.choices["extractor"], fit)
        return extractor

    def _fit(self, extractor: MaskExtractor, images: UnlabelledImages | None, ctx: RunContext) -> None:
        """Fit the extractor, unless the generator paints nothing that could be told apart."""
        check_varied(self.generator, ctx)
        extractor.fit(self.generator, ctx, images=images)

    def _take_shipped(self, extractor: MaskExtractor, name: str, ctx: RunContext) -> None:
        """Load the fit that the shipped names belong to, in the place of fitting."""
        choice, names = self.choices["extractor"], shipped_names(name, self.stages.registry)
        names.check(choice.name, choice.config, state_hash(self.generator), self.stages.registry.available)
        load_part(extractor, names.folder)
        ctx.info(f"extractor and names '{name}' of the weights '{names.weights}': {names.given}")

    def named(self, extractor: MaskExtractor) -> MaskExtractor:
        """The extractor under the plan's class names, or under those that its target stands for."""
        self.extractor, self.cuttable = extractor, bool(extractor.levels)
        if self.given is None:
            self.classes = automatic_classes(extractor, self.plan.target)
            record = self.classes.model_dump(mode="json") if self.classes is not None else None
            self.stages.run.write_status("running", classes=record)
            if self.classes is not None:
                self.ctx.info(f"{self.plan.target}: {self.classes.summary()}")
        return Named(extractor, self.classes) if self.classes is not None else extractor

    def make_pairs(self, round: int, extractor: MaskExtractor) -> ShardDataset:
        """Make the synthetic pairs with an extractor that has its class names."""
        self.key = self._pairs_key()
        with self.stages.open("dataset", round, self._files_key(self.key)) as stage:
            if not stage.done:
                if stage.ctx.team.first:
                    for text in left_warnings(stage.folder):
                        stage.ctx.warn(text)
                made = self._synthesized(extractor, stage.ctx)
                assert made is not None
                stage.facts.update(pairs=len(made), **made.counts)
                return made
        with reading(stage):
            return ShardDataset(stage.folder, verify=self.ctx.team.first)

    def prepare_pairs(self, round: int) -> Path | None:
        """Prepare the stage of the pairs for `make_share`; see `StageRunner.prepare`."""
        return self.stages.prepare("dataset", round, self._files_key(self._pairs_key()))

    def make_share(self, round: int, extractor: MaskExtractor, share: tuple[int, int]) -> Path | None:
        """Make every n-th shard of pairs that another process prepared and will commit; share = (k, n).

        Returns:
            The folder of the pairs; None where they are finished.

        Raises:
            ConfigError: nobody prepared them.
        """
        ctx, key = self.ctx.stage("dataset", round), self._files_key(self._pairs_key())
        if self.stages.run.stage_done(ctx.folder, key):
            return None
        if not self.stages.run.stage_begun(ctx.folder, key):
            raise ConfigError(f"the pairs in '{ctx.folder}' are not prepared, or of other options", IN_ORDER)
        self._synthesized(extractor, ctx, share)
        return ctx.folder

    def _pairs_key(self) -> str:
        key = stage_key(self.key, [refiner.identity for refiner in self.choices.refiners], self.plan.num_samples)
        if self.classes is None:  # names come after the fit: the extractor's stage does not depend on them
            return key
        return stage_key(key, self.classes.identity)

    def _files_key(self, pairs_key: str) -> str:
        """Of the pairs' stage alone: they are the same in each format, and so is all that follows."""
        return pairs_key if self.plan.format == NATIVE else stage_key(pairs_key, self.plan.format)

    def _synthesized(
        self, extractor: MaskExtractor, ctx: RunContext, share: tuple[int, int] = (0, 1)
    ) -> ShardDataset | None:
        recipe = recipe_of(self.plan.model_copy(update={"classes": self.classes}), extractor)
        return synthesize(
            self.generator, extractor, self.refiners, self.plan.num_samples, ctx, worker=share, recipe=recipe,
            format=self.plan.format,
        )  # fmt: skip

    def fit_segmenter(self, round: int, pairs: LabelledDataset) -> Segmenter:
        """Train a new segmenter on pairs."""
        segmenter: Segmenter = self.choices["seg"].build().to(self.ctx.device)
        segmenter.scaling = self.inputs.scaling
        self.key = stage_key(self.key, self.choices["seg"].identity)
        self.stages.fit("segmenter", round, self.key, segmenter, self.choices["seg"], partial(segmenter.fit, pairs))
        return segmenter

    def check_learned(self, segmenter: Segmenter, extractor: MaskExtractor) -> Learned | None:
        """Warn when the segmenter did not learn its pairs; None when that cannot be said (smoke, nothing to compare).

        Args:
            segmenter: trained on pairs of `extractor`.
            extractor: as the pairs were made, under its class names if it has any.
        """
        if not self.ctx.team.first:  # a few pictures: not worth dividing
            return None
        pairs = None if self.plan.smoke else new_pairs(self.generator, extractor, self.refiners, self.ctx.alone())
        learned = None if pairs is None else compare(segmenter, pairs, self._remedy(extractor))
        self.checked = None if pairs is None or learned is None else (pairs, learned)
        if learned is not None and learned.failed:
            self.ctx.warn(learned.sentence)
        self.stages.run.write_status("running", learned=learned.to_json() if learned else None)
        return learned

    def _remedy(self, extractor: MaskExtractor) -> str:
        if self.given is None and self.plan.target == "clusters" and len(extractor.levels) > 1:
            fewer = max(2, len(extractor.classes) // 2)
            return f"ask for a few parts (--target parts), or for fewer clusters (-o extractor.k={fewer})"
        return f"make more pairs (--samples {2 * self.plan.num_samples}) and train longer"

    def label_photographs(self, round: int, segmenter: Segmenter, pairs: ShardDataset) -> LabelledDataset:
        """Label the plan's photographs with the segmenter so far, and mix them with the synthetic pairs."""
        config, photographs = self.plan.selftrain, self.inputs.photographs
        assert config is not None
        assert photographs is not None
        self.first = self.first or segmenter
        choice = self.choices[PHOTO_REFINER] if config.refine is not None else None
        options = config.model_dump(mode="json", exclude={"rounds", "refine"})
        own = choice.identity if choice is not None else []
        self.key = stage_key(self.key, dict(self.inputs.contents), own, options)
        with self.stages.open("selftrain", round, self.key) as stage:
            if not stage.done:
                refiner = choice.build() if choice is not None else None
                made = label_photographs(segmenter, refiner, photographs, config, stage.ctx)
                stage.facts.update(made.counts)
        with reading(stage):
            return Mixed(pairs, ShardDataset(stage.folder, verify=self.ctx.team.first), config.share)

    def report(self, segmenter: Segmenter) -> Report | None:
        """Score the last segmenter and show it; beside it the one that had not seen the photographs.

        All processes score, where the evaluator divides its work; else the first does, and the others get None.
        """
        view = self._view(segmenter)
        samples = samples_name(self.choices, self.stages.registry)
        parts = view.classes if view is not segmenter else ()
        unnamed = self.given is None and self.cuttable
        names = names_offered(self.choices, self.stages.registry, self.generator) if unnamed else ""
        self.found = found_record(segmenter.classes, unnamed, samples, parts, names)
        colours = class_colours(self.extractor, segmenter.classes) if self.extractor is not None else {}
        self.stages.run.write_status("running", found=self.found, colours=colours)
        plan, inputs = self.plan, self.inputs
        test_set, on_photographs = inputs.test_set, automatic(self.stages.registry)
        if test_set is None and (test_set := truth_set(self.generator, self.ctx)) is not None:
            on_photographs = ()  # generated pictures are what the segmenter learned from
        now = self.ctx.team.told(time.time_ns())
        self.key = stage_key(self.key, self.choices["eval"].identity, str(plan.data), len(test_set or ()), now)
        evaluator: Evaluator = self.choices["eval"].build()
        labels_used = self.classes.labels_used if self.classes else ()
        with self.stages.open("report", 0, self.key) as stage:  # cheap beside the rest, so it is never reused
            note = ""
            if self.first is not None and inputs.photographs is not None:
                if self.ctx.team.first:
                    palette = run_palette(self.stages.run.path, segmenter.classes)
                    changed = show_difference(self.first, segmenter, inputs.photographs, stage.ctx, palette)
                    stage.facts["changed by self-training"] = round(changed, 4)
                note = self._before(stage, evaluator, test_set, labels_used, on_photographs)
            if test_set is None and self.checked is not None:
                show_new_pairs(stage, self.first or segmenter, *self.checked)
            shown = inputs.photographs or inputs.images or sample_photographs(self.choices, self.stages.registry)
            return score(stage, segmenter, evaluator, test_set, labels_used, shown, on_photographs, note, view)

    def _view(self, segmenter: Segmenter) -> Segments:
        """The segmenter as a person looks at it: many clusters without names are shown as a few parts."""
        extractor = self.extractor
        if self.classes is not None or extractor is None or not can_be_in_parts(segmenter, extractor):
            return segmenter
        return in_parts(segmenter, extractor)

    def _before(
        self,
        stage: Stage,
        evaluator: Evaluator,
        test_set: LabelledDataset | None,
        labels_used: Sequence[str],
        on_photographs: Sequence[str],
    ) -> str:
        """Score the segmenter that had not seen the photographs, in a folder of its own; the numbers in a sentence."""
        assert self.first is not None
        if test_set is None:
            return ""
        own = Stage(replace(stage.ctx, folder=stage.folder / BEFORE_FOLDER), done=False)
        found = score(own, self.first, evaluator, test_set, labels_used, None, on_photographs)
        if found is None:  # the first process scores alone
            return ""
        numbers = [f"{name} {value:.4f}" for name, value in found.metrics.items() if value is not None]
        return f"before self-training: {', '.join(numbers[:SHOWN_METRICS])}; all numbers: report/{BEFORE_FOLDER}"

    def _classes(self) -> ClassMap | None:
        if self.plan.smoke and self.plan.classes is not None and self.plan.shipped is None:
            self.ctx.warn(
                "a smoke run fits another extractor, so class names are ignored and its clusters keep their numbers"
            )
            return None
        return self.plan.classes
