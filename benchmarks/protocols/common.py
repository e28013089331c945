"""What protocols share: cases, rows of a table, and a `Lab` whose steps are done once and kept in a folder."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Subset, UnlabelledImages
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import GsegkitError
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.refining import Predictor
from gsegkit.rundir import stage_key
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.tensors import state_hash
from gsegkit.testing.data import DATA_VARIABLE, data_root
from gsegkit.training.ensemble import Ensemble

ROOT = Path(__file__).parents[2]
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
        name, generator, weights: what is built, and what results call it. Weights are the zoo's or, for `stored`,
            a folder beside the data sets.
        data: annotated photographs to score on.
        photos: photographs without labels.
        train: annotated photographs for a supervised reference; empty = `data`.
    """

    name: str
    generator: str
    weights: str = ""
    data: str = ""
    photos: str = ""
    train: str = ""
    stored: bool = False

    def build(self, device: torch.device) -> Generator:
        """The generator on a device."""
        weights = str(weights_folder(self.weights)) if self.stored else self.weights
        options = {"weights": weights} if weights else {}
        generator: Generator = installed().build("generator", self.generator, options).to(device)
        return generator.eval()


CASES = {
    case.name: case
    for case in (
        Case("toy", "toy"),
        Case("coffee-leaf-64", "stylegan2", "coffee-leaf-64", "coffee_leaf"),
        Case("lpc-64", "stylegan2", "lpc-64", "lpc_parts_test", "lpc_parts", "lpc_parts"),
        Case("blood-cells-64", "stylegan2", "blood-cells-64"),
        Case("blood-cells-128", "stylegan2", "blood-cells-128"),
        Case("portraits-64", "stylegan2", "portraits-64"),
        Case("portraits-128", "stylegan2", "portraits-128"),
        Case("celeba-dcgan", "dcgan", "celeba32-dcgan", stored=True),
        Case("cifar10-dcgan", "dcgan", "cifar10-32-dcgan", stored=True),
        Case("svhn-dcgan", "dcgan", "svhn32-dcgan", stored=True),
        Case("mnist-dcgan", "dcgan", "mnist28-dcgan", stored=True),
        Case("mnist-wgangp", "dcgan", "mnist28-wgangp", stored=True),
    )
}


def weights_folder(name: str) -> Path:
    """A folder of weights that are not in the zoo: below `weights` beside the data sets."""
    root = data_root(ROOT)
    if root is None or not (root.parent / "weights" / name).is_dir():
        raise GsegkitError(f"the weights '{name}' are not here", f"set {DATA_VARIABLE} to a folder beside 'weights'")
    return root.parent / "weights" / name


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
        say(f"    {task}: {total - done}")

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        say(f"    {level}: {text}")


@dataclass(frozen=True)
class Lab:
    """What every protocol is given, and steps that are done once and kept.

    Attributes:
        work: where steps are kept.
        device: to compute on.
        seeds: of the recipe.
        tiny: three steps of everything, to see that it works.
    """

    work: Path
    device: torch.device
    seeds: tuple[int, ...] = (0,)
    tiny: bool = False

    def data(self, name: str) -> Path:
        """A data set's folder.

        Raises:
            GsegkitError: it is not there.
        """
        root = data_root(ROOT)
        if root is None or not (root / name).is_dir():
            raise GsegkitError(f"the data set '{name}' is not here", f"set {DATA_VARIABLE} to the folder with it")
        return root / name

    def labelled(self, name: str) -> LabelledDataset:
        """Annotated photographs; ten of them when tiny."""
        found: LabelledDataset = installed().build("dataset", "folder").labelled(self.data(name))
        return Subset(found, range(10)) if self.tiny else found

    def figures(self, name: str) -> Path:
        """Where figures of a page go: below docs, or when tiny below the work folder."""
        folder = (self.work if self.tiny else ROOT / "docs") / "figures" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def context(self, key: str, name: str, seed: int, batch_size: int | None = None) -> RunContext:
        """A context in a folder of its own under the work folder."""
        size = {} if batch_size is None else {"batch_size": batch_size}
        return RunContext(
            self.work / name / key, device=self.device, seed=seed, progress=Talk(), smoke=self.tiny, **size
        )

    def process(self, protocol: str, **options: Any) -> dict[str, Any]:
        """Values of a protocol that is run in a process of its own, so that its peak memory is its own."""
        setting = {"work": str(self.work), "device": str(self.device), "seeds": self.seeds, "tiny": self.tiny,
                   "threads": options.pop("threads", torch.get_num_threads()), "options": options}  # fmt: skip
        command = [sys.executable, "-m", "benchmarks", "part", protocol, json.dumps(setting)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise GsegkitError(f"'{protocol}' failed: {done.stderr[-500:]}", f"run it by hand: {command}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    # ---- steps ---------------------------------------------------------------------------------------------------

    def fitted(self, generator: Generator, row: Row, seed: int, photos: str = "") -> tuple[MaskExtractor, float, Path]:
        """The row's extractor, the seconds that its fit took, and its folder."""
        searching = {k: v for k, v in row.options.items() if k not in READOUT.get(row.extractor, ())}
        given = (photos,) if row.photos and photos else ()
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

    def images(self, generator: Generator, name: str) -> UnlabelledImages:
        """Photographs, fitted to the generator's size."""
        images: UnlabelledImages = installed().build("dataset", "folder").images(self.data(name))
        info = generator.info
        return images.fitted((info.height, info.width), info.fit_rule)

    def pairs(
        self, generator: Generator, extractor: MaskExtractor, row: Row, found: Path, seed: int, samples: int
    ) -> ShardDataset:
        """The row's refined pairs."""
        ctx = self.context(stage_key(found.name, row.options, row.refine, samples), "dataset", seed)
        refiners = [(name, installed().build("refiner", name, options)) for name, options in row.refine]
        made = synthesize(generator, extractor, refiners, samples, ctx)
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
        self, case: Case, row: Row, seed: int, data: LabelledDataset, samples: int, rows: Sequence[Row] = ()
    ) -> dict[str, Any]:
        """The numbers of a row for one seed; `rows` is where its members are looked up."""
        generator = case.build(self.device)
        matched = () if row.match_images is None else (row.match_images,)
        name = stage_key(state_hash(generator), len(data), row.table, row.name, row.options, row.refine, row.segmenter,
                         samples, seed, self.tiny, *matched)  # fmt: skip
        path = self.work / "scores" / f"{name}.json"
        if path.exists():
            return dict(read_json(path))
        facts: dict[str, Any] = {}
        if row.members:
            segmenters = []
            for member in (other for other in rows if other.table == row.table and other.name in row.members):
                extractor, _, found = self.fitted(generator, member, seed, case.photos)
                segmenters.append(
                    self.trained(self.pairs(generator, extractor, member, found, seed, samples), member, seed)
                )
            predict: Any = Ensemble(segmenters)
        else:
            extractor, seconds, found = self.fitted(generator, row, seed, case.photos)
            pairs = self.pairs(generator, extractor, row, found, seed, samples)
            segmenter = self.trained(pairs, row, seed)
            facts = {"search_seconds": seconds, "training_seconds": segmenter.training_seconds, "pairs": len(pairs),
                     "dropped": {k: v for k, v in pairs.counts.items() if k not in ("candidates", "kept")}}  # fmt: skip
            facts |= {k: v for k, v in extractor.facts().items() if k in FOUND}
            predict = Predictor(segmenter)
        evaluator = installed().build("evaluator", "masks", {"num_match_images": row.match_images})
        report = evaluator.evaluate(predict, data, self.context(name, "report", seed))
        metrics = {key: report.metrics[key] for key in (*METRICS, *BASELINES)}
        atomic_write_json(path, {**{k: round(float(v), 4) for k, v in metrics.items() if v is not None}, **facts})
        return dict(read_json(path))


def table(lab: Lab, case: Case, rows: Sequence[Row], samples: int) -> dict[str, Any]:
    """Every row over the lab's seeds."""
    data = lab.labelled(case.data)
    entries = []
    for row in rows:
        each: dict[str, Any] = {}
        for seed in lab.seeds:
            say(f"{case.name} / {row.table} / {row.name} / seed {seed}")
            try:
                each[str(seed)] = lab.measured(case, row, seed, data, samples, rows)
            except GsegkitError as error:  # a setting that fails is a result
                each[str(seed)] = {"error": str(error).replace(str(lab.work), "WORK")}
            say(f"    {each[str(seed)]}")
        entries.append({"table": row.table, "name": row.name, "options": row.options, **summary(each), "seeds": each})
    return {"case": case.name, "generator": case.generator, "images": len(data), "samples": samples, "rows": entries}


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


def say(text: str) -> None:
    """Tell how far it is; values are written by the runner."""
    print(text, file=sys.stderr, flush=True)
