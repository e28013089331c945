"""What lies in folders, opened: stored parts, pairs, photographs, test sets; and the toy's own test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gsegkit.classes.shipped import shipped_names
from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, UnlabelledImages
from gsegkit.engine.choices import Choices
from gsegkit.engine.identity import contents_identity
from gsegkit.engine.readers import build_reader
from gsegkit.engine.shards import MANIFEST_FILE, ShardDataset
from gsegkit.errors import CapabilityError, DataError, GsegkitError, and_more
from gsegkit.images import list_images, to_pixels
from gsegkit.interfaces import DatasetReader, Generator, Samples, Weights
from gsegkit.parts import STATE_FILE, PartRecord, find_part, load_part
from gsegkit.plugins import Registry
from gsegkit.reading.scaling import AUTO, DEFAULT_SCALING
from gsegkit.records.memory import Budget
from gsegkit.rundir import CONFIG_FILE, last_round
from gsegkit.seeds import child_seed
from gsegkit.tensors import state_hash

TRUTH_SAMPLES = 200
FEWEST_PHOTOGRAPHS = 2  # a segmenter cannot be trained on fewer


@dataclass(frozen=True)
class Inputs:
    """What a plan's folders hold, opened.

    Attributes:
        images: what generator or extractor are fitted to, at the generator's size; None = the plan names none.
        photographs: what the segmenter trains itself on, at their own sizes; None = the plan names none.
        contents: their names, each with the hash of its bytes.
        test_set: annotated photographs at their own sizes; None = the plan names none.
        revision: of the contents of `images`, see `gsegkit.engine.claim.claim_images`.
        scaling: of images with more than 8 bits, see `run_scaling`.
    """

    images: UnlabelledImages | None = None
    photographs: UnlabelledImages | None = None
    contents: Mapping[str, str] = field(default_factory=dict)
    test_set: LabelledDataset | None = None
    revision: str = ""
    scaling: str = DEFAULT_SCALING


def open_inputs(choices: Choices, generator: Generator, ctx: RunContext) -> Inputs:
    """Open every folder of the plan, and read each photograph that is needed late once, early.

    Raises:
        DataError: a folder without usable files, or files that cannot be read.
    """
    scaling = run_scaling(choices, generator)
    images, photographs = open_images(choices, generator), open_photographs(choices, scaling)
    test_set = open_test_set(choices, scaling)
    for note in test_set.notes if test_set is not None else ():
        ctx.info(note)
    contents: dict[str, str] = {}
    if ctx.team.first:
        if photographs is not None:
            check_readable(photographs, "photographs", ctx.stage("selftrain"))
        if test_set is not None:
            check_readable(test_set, "test pairs", ctx.stage("report"))
        contents = contents_identity(photographs.paths, ctx.folder) if photographs is not None else {}
    return Inputs(images, photographs, ctx.team.told(contents), test_set, scaling=scaling)


def run_scaling(choices: Choices, generator: Generator) -> str:
    """How a run's images of more than 8 bits are scaled: as its reader says, else as the generator's own were."""
    reader = choices.parts.get("data_reader")
    given = getattr(reader.config, "scaling", AUTO) if reader is not None else AUTO
    return generator.scaling if given == AUTO else str(given)


def _reader(choices: Choices, scaling: str) -> DatasetReader:
    choice = choices["data_reader"]
    if getattr(choice.config, "scaling", None) == AUTO:
        choice = replace(choice, config=choice.config.model_copy(update={"scaling": scaling}))
    reader: DatasetReader = choice.build()
    return reader


def open_photographs(choices: Choices, scaling: str = AUTO) -> UnlabelledImages | None:
    """The photographs to self-train on, at most as many as the plan wants: a random choice, in a stable order.

    Raises:
        DataError: fewer than two.
    """
    plan = choices.plan
    if plan.photos is None or plan.selftrain is None:
        return None
    found = _reader(choices, scaling).images(plan.photos)
    if len(found) < FEWEST_PHOTOGRAPHS:
        raise DataError(f"self-training needs at least 2 photographs, '{plan.photos}' holds {len(found)}", "add some")
    order = torch.Generator().manual_seed(child_seed(plan.seed, "photographs"))
    rows = torch.randperm(len(found), generator=order)[: plan.selftrain.num_photos].sort().values
    return replace(found, paths=tuple(found.paths[i] for i in rows.tolist()))


def open_images(choices: Choices, generator: Generator) -> UnlabelledImages | None:
    """The plan's photographs, fitted to the generator's size; None when it names none."""
    folder = choices.plan.images
    if folder is None:
        return None
    info = generator.info
    reader = _reader(choices, run_scaling(choices, generator))
    return reader.images(folder).fitted((info.height, info.width), info.fit_rule)


def samples_name(choices: Choices, registry: Registry) -> str:
    """Name of the photographs that ship with the generator's weights; "" when there are none."""
    weights = _shipped_weights(choices, registry)
    return weights.samples if weights is not None and weights.samples in registry.available("samples") else ""


def names_offered(choices: Choices, registry: Registry, generator: Generator) -> str:
    """Class names that ship with the generator's weights and fit the run's extractor; "" when there are none."""
    weights, choice = _shipped_weights(choices, registry), choices["extractor"]
    if weights is None or not weights.names:
        return ""
    try:
        names = shipped_names(weights.names, registry)
        names.check(choice.name, choice.config, state_hash(generator), registry.available)
    except GsegkitError:  # other options, a trained generator, a damaged file: nothing to offer
        return ""
    return names.name


def _shipped_weights(choices: Choices, registry: Registry) -> Weights | None:
    """The generator's weights where they came with a plugin."""
    name = getattr(choices["gen"].config, "weights", None)
    if not isinstance(name, str) or name not in registry.available("weights"):
        return None
    found: Weights = registry.build("weights", name)
    return found


def sample_photographs(choices: Choices, registry: Registry) -> UnlabelledImages | None:
    """Photographs that ship with the generator's weights, at their own sizes; None when there are none."""
    name = samples_name(choices, registry)
    if not name:
        return None
    samples: Samples = registry.build("samples", name)
    return UnlabelledImages(tuple(list_images(samples.folder())))


def open_shown(choices: Choices, registry: Registry, folder: str | Path | None = None) -> UnlabelledImages | None:
    """Photographs to show a run's results on, at their own sizes; None when there are none.

    Args:
        choices: of the run.
        registry: where samples come from.
        folder: these; None = those that the run learned from, where they are still there, else those of its weights.

    Raises:
        DataError: the folder is missing, or holds no image.
    """
    own = [path for path in (choices.plan.photos, choices.plan.images) if path is not None and path.is_dir()]
    chosen = Path(folder) if folder is not None else next(iter(own), None)
    if chosen is None:
        return sample_photographs(choices, registry)
    return UnlabelledImages(tuple(list_images(chosen)))


def open_test_set(choices: Choices, scaling: str = AUTO) -> LabelledDataset | None:
    """The plan's annotated photographs at their own sizes; None when it names none."""
    folder = choices.plan.data
    if folder is None:
        return None
    return _reader(choices, scaling).labelled(folder)


def open_labelled(
    folder: str | Path, registry: Registry, reader_options: Mapping[str, Any] | None = None, scaling: str = AUTO
) -> LabelledDataset:
    """Pairs from a run folder, a folder of shards, or an annotated image folder (read with the reader's options).

    Args:
        folder: see above.
        registry: where the reader comes from.
        reader_options: options of the reader of annotated folders, and its `name`.
        scaling: of images with more than 8 bits, where the options name none.

    Raises:
        DataError: a run without a finished data set, or a folder that cannot be read as pairs.
    """
    folder = Path(folder)
    if (folder / MANIFEST_FILE).exists():
        return ShardDataset(folder)
    if (folder / CONFIG_FILE).exists():
        made = last_round(folder, "dataset", MANIFEST_FILE)
        if made is None:
            raise DataError(f"run '{folder}' has no finished data set", "finish the run first")
        return ShardDataset(made)
    return build_reader(reader_options, registry, scaling=scaling).labelled(folder)


def open_part(folder: str | Path, kind: str, registry: Registry, device: torch.device) -> Any:
    """The part of a kind that a folder holds (see `find_part`), loaded, ready for use.

    Raises:
        ArtifactError: the folder holds no such part, or it is damaged.
    """
    record = find_part(folder, kind)
    with Budget(_stored_bytes(record), str(record.source)):
        part = registry.build(record.kind, record.name, dict(record.config), stored=True)
    if record.folder is not None:
        load_part(part, record.folder)
    return part.to(device).eval()


def _stored_bytes(record: PartRecord) -> int | None:
    """Size of the file of tensors that will be loaded into a part; None when it has none."""
    if record.folder is None:
        return None
    path = record.folder / STATE_FILE
    return path.stat().st_size if path.is_file() else 0


def check_readable(dataset: LabelledDataset | UnlabelledImages, what: str, ctx: RunContext) -> None:
    """Read every item once, so that a damaged one is told before hours of work and not after them.

    Raises:
        DataError: names up to ten of the files that cannot be used.
    """
    bad: list[str] = []
    for index in ctx.track(range(ctx.limit(len(dataset), SMOKE_SAMPLES)), f"reading the {what}"):
        try:
            dataset[index]
        except GsegkitError as error:
            bad.append(error.message)
    if bad:
        raise DataError(
            f"{len(bad)} of {len(dataset)} {what} cannot be used: {and_more(bad, 10)}",
            "fix or remove them, then run the same command again",
        )


def truth_set(generator: Generator, ctx: RunContext, count: int = TRUTH_SAMPLES) -> LabelledDataset | None:
    """Unseen samples with exact masks from a generator that knows them (capability `truth`), else None."""
    pixels, masks = [], []
    for seeds in ctx.batches("test", count):
        batch = generator.sample(seeds)
        try:
            masks.append(generator.truth(batch).cpu())
        except CapabilityError:
            return None
        pixels.append(to_pixels(batch.images).cpu())
    return MemoryDataset(torch.cat(pixels), torch.cat(masks), generator.info.mask_classes)
