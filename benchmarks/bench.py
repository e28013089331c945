"""What the benchmarks of methods share: cases, rows of a table, and steps that are done once and kept in a folder."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gsegkit_directions.ensemble import Ensemble

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.engine.devices import pick_device
from gsegkit.engine.pipeline import state_hash
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import GsegkitError
from gsegkit.interfaces import Generator, MaskExtractor, Predictor, Segmenter
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.rundir import stage_key
from gsegkit.storage import atomic_write_json, read_json

ROOT = Path(__file__).parents[1]
#: Options of extractors that do not change what is found, only what is made of it: rows share the fit.
READOUT = {
    "directions": ("mask", "level", "max_level", "mask_shift", "sharpness"),
    "labels4free": ("threshold", "hard"),
}
METRICS = ("iou_foreground", "accuracy", "max_f_beta", "precision", "recall")
FOUND = ("cosine", "separation", "coverage", "snapshot", "background", "reals")  # facts of extractors worth a column
BASELINES = ("baseline_centre_prior_iou", "baseline_otsu_iou")


@dataclass(frozen=True)
class Case:
    """A generator and, if there are any, annotated and unlabelled data of the same kind.

    Attributes:
        name, generator, weights: what is built, and what results call it.
        data: annotated photographs to score on.
        photos: photographs without labels.
        train: annotated photographs for a supervised reference; None = `data`.
    """

    name: str
    generator: str
    weights: str = ""
    data: Path | None = None
    photos: Path | None = None
    train: Path | None = None

    @staticmethod
    def parse(text: str) -> Case:
        """NAME=GENERATOR[:WEIGHTS[:DATA[:PHOTOS[:TRAIN]]]]."""
        name, _, rest = text.partition("=")
        parts = [*rest.split(":"), "", "", "", ""]
        return Case(name, parts[0], parts[1], *(Path(part) if part else None for part in parts[2:5]))

    def build(self, device: torch.device) -> Generator:
        """The generator on a device."""
        options = {"weights": self.weights} if self.weights else {}
        generator: Generator = installed().build("generator", self.generator, options).to(device)
        return generator.eval()


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        table: "masks" (paper, Table 3), "weights" (Table 4), "shifts" (Table 7), "others".
        name: what is varied.
        options: of the extractor.
        extractor: its name.
        refine: (refiner, options) in order.
        segmenter: (segmenter, options).
        members: names of rows of the same table whose segmenters are averaged instead.
        photos: the extractor is given the case's photographs.
        match_images: photographs on which unnamed clusters are matched to the truth; they are left out.
    """

    table: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    extractor: str = "directions"
    refine: tuple[tuple[str, dict[str, Any]], ...] = (("components", {}), ("area", {}), ("change", {}))
    segmenter: tuple[str, dict[str, Any]] = ("unet", {})
    members: tuple[str, ...] = ()
    photos: bool = False
    match_images: int | None = None


class Talk(Progress):
    """Prints messages, and each loop's name once."""

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        print(f"    {task}: {total - done}", flush=True)

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        print(f"    {level}: {text}", flush=True)


class Bench:
    """What all parts need: the work folder, the device, and steps that are done once.

    Args:
        work: where steps are kept.
        device: to compute on.
        samples: candidates for a data set.
        fast: three steps of everything; results and figures then go to `work`.
        figures: name of the folder of figures below docs/figures.
    """

    def __init__(self, work: Path, device: str, samples: int, fast: bool, figures: str) -> None:
        self.work, self.device, self.samples, self.fast = work, pick_device(device), samples, fast
        self.results = work / "results" if fast else ROOT / "benchmarks" / "results"
        self.figures = work / "figures" if fast else ROOT / "docs" / "figures" / figures

    def context(self, key: str, name: str, seed: int) -> RunContext:
        """A context in a folder of its own under --work."""
        return RunContext(self.work / name / key, device=self.device, seed=seed, progress=Talk(), smoke=self.fast)

    def environment(self) -> dict[str, Any]:
        """What the numbers depend on beside the seeds."""
        return {"device": str(self.device), "threads": torch.get_num_threads(), "torch": torch.__version__,
                "machine": platform.machine(), "samples": self.samples}  # fmt: skip

    # ---- steps ---------------------------------------------------------------------------------------------------

    def fitted(
        self, generator: Generator, row: Row, seed: int, photos: Path | None = None
    ) -> tuple[MaskExtractor, float, Path]:
        """The row's extractor, the seconds that its fit took, and its folder."""
        searching = {k: v for k, v in row.options.items() if k not in READOUT.get(row.extractor, ())}
        given = (photos.name,) if row.photos and photos is not None else ()
        key = stage_key(state_hash(generator), generator.info, row.extractor, searching, seed, *given)
        ctx = self.context(key, "extractor", seed)
        extractor: MaskExtractor = installed().build("extractor", row.extractor, row.options).to(self.device)
        if not (ctx.folder / COMPONENT_FILE).exists():
            began = time.perf_counter()
            extractor.fit(generator, ctx, images=self.images(generator, photos) if given else None)
            atomic_write_json(ctx.folder / "seconds.json", round(time.perf_counter() - began, 1))
            save_part(extractor, ctx.folder, "extractor", row.extractor)
        load_part(extractor, ctx.folder)
        return extractor.eval(), float(read_json(ctx.folder / "seconds.json")), ctx.folder

    def images(self, generator: Generator, folder: Path | None) -> UnlabelledImages:
        """Photographs, fitted to the generator's size."""
        assert folder is not None
        images: UnlabelledImages = installed().build("dataset", "folder").images(folder)
        info = generator.info
        return images.fitted((info.height, info.width), info.fit_rule)

    def pairs(self, generator: Generator, extractor: MaskExtractor, row: Row, found: Path, seed: int) -> ShardDataset:
        """The row's refined pairs."""
        ctx = self.context(stage_key(found.name, row.options, row.refine, self.samples), "dataset", seed)
        refiners = [(name, installed().build("refiner", name, options)) for name, options in row.refine]
        made = synthesize(generator, extractor, refiners, self.samples, ctx)
        assert made is not None
        return made

    def trained(self, pairs: ShardDataset, row: Row, seed: int) -> Segmenter:
        """The row's segmenter."""
        ctx = self.context(stage_key(pairs.folder.name, row.segmenter), "segmenter", seed)
        name, options = row.segmenter
        segmenter: Segmenter = installed().build("segmenter", name, options).to(self.device)
        if not (ctx.folder / COMPONENT_FILE).exists():
            began = time.perf_counter()
            segmenter.fit(pairs, ctx)
            atomic_write_json(ctx.folder / "seconds.json", round(time.perf_counter() - began, 1))
            save_part(segmenter, ctx.folder, "segmenter", name)
        load_part(segmenter, ctx.folder)
        segmenter.training_seconds = float(read_json(ctx.folder / "seconds.json"))  # type: ignore[assignment]
        return segmenter.eval()

    def measured(
        self, case: Case, row: Row, seed: int, data: LabelledDataset, rows: Sequence[Row] = ()
    ) -> dict[str, Any]:
        """The numbers of a row for one seed; `rows` is where its members are looked up."""
        generator = case.build(self.device)
        matched = () if row.match_images is None else (row.match_images,)
        name = stage_key(state_hash(generator), len(data), row.table, row.name, row.options, row.refine, row.segmenter,
                         self.samples, seed, self.fast, *matched)  # fmt: skip
        path = self.work / "scores" / f"{name}.json"
        if path.exists():
            return dict(read_json(path))
        facts: dict[str, Any] = {}
        if row.members:
            segmenters = []
            for member in (other for other in rows if other.table == row.table and other.name in row.members):
                extractor, _, found = self.fitted(generator, member, seed, case.photos)
                segmenters.append(self.trained(self.pairs(generator, extractor, member, found, seed), member, seed))
            predict: Any = Ensemble(segmenters)
        else:
            extractor, seconds, found = self.fitted(generator, row, seed, case.photos)
            pairs = self.pairs(generator, extractor, row, found, seed)
            segmenter = self.trained(pairs, row, seed)
            facts = {"search_seconds": seconds, "training_seconds": segmenter.training_seconds, "pairs": len(pairs),
                     "dropped": {k: v for k, v in pairs.counts.items() if k not in ("candidates", "kept")}}  # fmt: skip
            facts |= {k: v for k, v in extractor.facts().items() if k in FOUND}
            predict = Predictor(segmenter)
        evaluator = installed().build("evaluator", "masks", {"match_images": row.match_images})
        report = evaluator.evaluate(predict, data, self.context(name, "report", seed))
        metrics = {key: report.metrics[key] for key in (*METRICS, *BASELINES)}
        atomic_write_json(path, {**{k: round(float(v), 4) for k, v in metrics.items() if v is not None}, **facts})
        return dict(read_json(path))


def table(bench: Bench, case: Case, rows: Sequence[Row], seeds: Sequence[int], path: Path) -> None:
    """Measure every row over the seeds; the results' file is rewritten after each row and keeps its other rows."""
    assert case.data is not None
    data = installed().build("dataset", "folder").labelled(case.data)
    for row in rows:
        each: dict[str, Any] = {}
        for seed in seeds:
            print(f"{case.name} / {row.table} / {row.name} / seed {seed}", flush=True)
            try:
                each[str(seed)] = bench.measured(case, row, seed, data, rows)
            except GsegkitError as error:  # a setting that fails is a result
                each[str(seed)] = {"error": str(error).replace(str(bench.work), "WORK")}
            print("   ", each[str(seed)], flush=True)
        old = json.loads(path.read_text()) if path.exists() else {"rows": []}
        entry = {"table": row.table, "name": row.name, "options": row.options, **summary(each), "seeds": each}
        others = [r for r in old["rows"] if (r["table"], r["name"]) != (row.table, row.name)]
        facts = {"case": case.name, "generator": case.generator, "images": len(data), **bench.environment()}
        write_results(path, {**facts, "rows": [*others, entry]})


def summary(each: dict[str, Any]) -> dict[str, Any]:
    """Means over the seeds, and the spread of the IoU."""
    found = {}
    for name in (*METRICS, *BASELINES, "cosine"):
        values = [numbers[name] for numbers in each.values() if name in numbers]
        if values:
            found[name] = round(statistics.mean(values), 4)
            if name == "iou_foreground" and len(values) > 1:
                found["iou_std"] = round(statistics.stdev(values), 4)
    return found


def write_results(path: Path, content: dict[str, Any]) -> None:
    """JSON, indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
