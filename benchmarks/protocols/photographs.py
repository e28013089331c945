"""Photographs in, named parts out: ours beside what one would do without us, on any annotated set of photographs.

`compare`: for each seed 20 images are drawn. Their labels match clusters to classes, or are all that a method learns
from; the others are scored. Every method also with the photograph's own colours after it (a refiner). No row is chosen
by its score. `predict`: a segmenter on unlabelled photographs: share of pixels of each part, seconds a photograph.
"""

from __future__ import annotations

import functools
import inspect
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gsegkit_baselines
import numpy as np
import torch
from gsegkit_eval.scores import class_ious, mean_defined, number, two_segments
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.protocols import trivial
from benchmarks.protocols.common import Lab, say, weights_folder
from benchmarks.protocols.trivial import Fit, Photographs, baseline
from gsegkit import api
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.dataset import LabelledDataset, Sample, Subset
from gsegkit.errors import GsegkitError
from gsegkit.images import luma
from gsegkit.interfaces import Predict, Refiner
from gsegkit.plugins import installed
from gsegkit.refining import Predictor
from gsegkit.rundir import stage_key
from gsegkit.types import LabelledBatch

LABELLED = 20  # images whose labels may be used
SCORED = 100  # images scored at most
SINGLE = ("foreground", "miou", "pooled_foreground", "pooled_miou", "below_half", "seconds", "colour_seconds")
_CELL, _PARTS = ("cytoplasm", "nucleus"), ("skin", "legs", "torso", "feet", "hair", "headgear", "cape or belt")
#: What the numbers in the masks of known sets mean, after the background.
NAMES = {
    "wbc2_dev": _CELL,
    "wbc": _CELL,
    "coffee_leaf": ("leaf", "symptom"),
    "lpc_parts": _PARTS,
    "lpc_parts_test": _PARTS,
    "fasseg_frontal": ("skin", "hair", "eyes", "nose", "mouth"),
}
MATCHING, LEARNING = "matching", "learning"  # labels say which cluster is which class, or the method learns from them
ALL = "learning, also those of the other scored images"
Tables = NDArray[np.int64]
Refine = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the method.
        fit: see `trivial`.
        labels: what the labels of the drawn images are used for.
        parts: finds parts; otherwise only the foreground is scored.
        ours: of this project.
        first_seed_only: slow, and only there to compare with.
    """

    name: str
    fit: Fit
    labels: str = "none"
    parts: bool = False
    ours: bool = False
    first_seed_only: bool = False


#: Without us.
ROWS = (
    Row("centre prior", baseline("centre-prior"), LEARNING),
    Row("Otsu", baseline("otsu")),
    Row("two-means in Lab", baseline("two-means")),
    Row("GrabCut", trivial.grabcut, "best rectangle"),
    Row("colour k-means, 24", baseline("colour-kmeans"), MATCHING, parts=True),
    Row("feature k-means, 24", baseline("feature-kmeans"), MATCHING, parts=True),
    Row("logistic regression on features", baseline("few-labels"), LEARNING, parts=True),
)
#: The baselines as a user gets them who has no label, beside the rows above.
MORE_ROWS = (
    Row("GrabCut, 2 %", baseline("grabcut", inset=0.02)),
    Row("GrabCut, 10 %", baseline("grabcut", inset=0.10)),
    Row("GrabCut, colour k-means inside", baseline("grabcut-kmeans"), MATCHING, parts=True),
    Row("normalised cut and head", baseline("ncut-head")),
    Row("normalised cut, head and GrabCut", baseline("ncut-head", grabcut=True)),
)


# ---- data ----------------------------------------------------------------------------------------------------------


class Grey(LabelledDataset):
    """The same photographs without their colours."""

    def __init__(self, dataset: LabelledDataset) -> None:
        self.dataset, self.classes = dataset, dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        grey = luma(sample.pixels).round().clamp(0, 255).to(torch.uint8)
        return Sample(sample.name, grey.expand(3, -1, -1).contiguous(), sample.mask)


def annotated(lab: Lab, data: str) -> LabelledDataset:
    """A data set by name; `NAME:even` and `NAME:odd` are files of such numbers, `NAME:grey` is without colours.

    Raises:
        GsegkitError: unknown set or an unknown word after the colon.
    """
    name, *words = data.split(":")
    if not name:
        raise GsegkitError("no set of photographs is named", "say which with -o data=NAME")
    if unknown := set(words) - {"even", "odd", "grey"}:
        raise GsegkitError(f"'{data}': unknown {', '.join(sorted(unknown))}", "say NAME, NAME:even, :odd or :grey")
    named = {"classes": ["background", *NAMES[name]]} if name in NAMES else {}
    found: LabelledDataset = installed().build("dataset", "folder", named).labelled(lab.data(name))
    for word, rest in (("even", 0), ("odd", 1)):
        if word in words:
            found = Subset(found, [i for i in range(len(found)) if _number(found, i) % 2 == rest])
    return Grey(found) if "grey" in words else found


def _number(data: LabelledDataset, index: int) -> int:
    """The digits in a file's name."""
    pairs = getattr(data, "pairs", None)  # of a folder: the name without reading the image
    name = pairs[index][0].stem if pairs else data[index].name
    return int("".join(c for c in name if c.isdigit()) or 0)


def split(data: LabelledDataset, labelled: int, scored: int, seed: int) -> tuple[Subset, Subset]:
    """Images whose labels may be used, and the others, at most `scored` of them.

    Raises:
        GsegkitError: nothing would be left to score.
    """
    if len(data) <= labelled:
        raise GsegkitError(f"{len(data)} images: none is left to score", f"annotate more than {labelled}")
    order = np.random.default_rng(seed).permutation(len(data)).tolist()
    return Subset(data, order[:labelled]), Subset(data, order[labelled : labelled + scored])


# ---- scores --------------------------------------------------------------------------------------------------------


def matched(predict: Predict, labelled: Iterable[Sample], num_classes: int) -> Predict:
    """Unnamed clusters become classes by greedy matching on labelled images: many to one, by gain of mIoU."""
    tables = []
    for sample in labelled:
        probs = predict(sample.pixels[None])[0]
        tables.append(contingency(sample.mask, probs.argmax(dim=0), num_classes, len(probs)))
    targets = torch.tensor(greedy_targets(np.stack(tables)))

    def merged(pixels: Tensor) -> Tensor:
        probs = predict(pixels)
        empty = probs.new_zeros(len(probs), num_classes, *probs.shape[2:])
        return empty.index_add_(1, targets, probs)

    return merged


def colour_step(name: str, options: dict[str, Any] | None = None) -> Refine:
    """A refiner as a function of photographs [N, 3, H, W] uint8 and probabilities [N, K, H, W]."""
    refiner: Refiner = installed().build("refiner", name, options or {})

    def refine(pixels: Tensor, probs: Tensor) -> Tensor:
        seeds, masks = torch.arange(len(pixels)), probs.argmax(dim=1).to(torch.uint8)
        return refiner.refine(LabelledBatch(seeds, pixels, masks, probs)).probs

    return refine


@dataclass(frozen=True)
class Predictions:
    """Probabilities of scored photographs.

    Attributes:
        data: the photographs.
        probs: [K, H, W] each.
        seconds: CPU seconds a photograph.
    """

    data: LabelledDataset
    probs: list[Tensor]
    seconds: float

    @staticmethod
    def make(predict: Predict, data: LabelledDataset) -> Predictions:
        """Predict one photograph after another."""
        began = time.process_time()
        probs = [predict(sample.pixels[None])[0] for sample in data]
        return Predictions(data, probs, (time.process_time() - began) / len(data))

    def counts(self, refine: Refine | None = None) -> tuple[Tables, float]:
        """Pixels by true and predicted class, [n, K, K'], and CPU seconds a photograph of the refinement."""
        tables, seconds = [], 0.0
        for sample, probs in zip(self.data, self.probs, strict=True):
            began = time.process_time()
            labels = (refine(sample.pixels[None], probs[None])[0] if refine else probs).argmax(dim=0)
            seconds += time.process_time() - began
            tables.append(contingency(sample.mask, labels, len(self.data.classes), len(probs)))
        return np.stack(tables), seconds / len(self.probs)


def scores(tables: Tables, classes: Sequence[str], parts: bool = True) -> dict[str, Any]:
    """IoU of foreground and classes, and the same over all pixels at once.

    The foreground's is the mean over images; a class's the mean over the images in which it is or is said to be; mIoU
    is the mean of those.
    """
    foreground = class_ious(two_segments(tables))[:, 1]
    pooled = tables.sum(axis=0, keepdims=True)
    found: dict[str, Any] = {
        "foreground": number(mean_defined(foreground)),
        "pooled_foreground": number(class_ious(two_segments(pooled))[0, 1]),
        "below_half": float((foreground < 0.5).mean()),
    }
    if parts:
        per_class, over_all = mean_defined(class_ious(tables), axis=0), class_ious(pooled)[0]
        found |= {"miou": number(mean_defined(per_class)), "pooled_miou": number(mean_defined(over_all))}
        found["per_class"] = {name: number(iou) for name, iou in zip(classes, per_class, strict=True)}
        found["pooled"] = {name: number(iou) for name, iou in zip(classes, over_all, strict=True)}
    return found


# ---- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What all rows of a table share.

    Attributes:
        lab: where predictions are kept.
        data: name of the set, see `annotated`.
        annotations: all of its images.
        refine: refiner that brings in the photograph's own colours; "" = none.
        labelled, scored: number of images.
    """

    lab: Lab
    data: str
    annotations: LabelledDataset
    refine: str
    labelled: int
    scored: int

    def line(self, row: Row) -> dict[str, Any]:
        """A row over the seeds: "alone", and with "colours"."""
        seeds = self.lab.seeds[:1] if row.first_seed_only else self.lab.seeds
        each = {str(seed): self.seed(row, seed) for seed in seeds}
        found: dict[str, Any] = {"name": row.name, "labels": row.labels, "ours": row.ours}
        for how in next(iter(each.values())):
            found[how] = {**over_seeds([numbers[how] for numbers in each.values()]),
                          "seeds": {seed: numbers[how] for seed, numbers in each.items()}}  # fmt: skip
        return found

    def seed(self, row: Row, seed: int) -> dict[str, dict[str, Any]]:
        """Scores "alone" and with "colours" for one seed."""
        predictions = self.predictions(row, seed)
        steps: dict[str, Refine | None] = {"alone": None}
        if self.refine:
            steps["colours"] = colour_step(self.refine)
        found = {}
        for how, refine in steps.items():
            tables, seconds = predictions.counts(refine)
            found[how] = scores(tables, self.annotations.classes, row.parts)
            found[how] |= {"seconds": round(predictions.seconds, 4), "colour_seconds": round(seconds, 4)}
            shown = {k: round(v, 3) for k, v in found[how].items() if k in SINGLE and v is not None}
            say(f"{self.data} / {row.name} / {how} / seed {seed}: {shown}")
        return found

    def predictions(self, row: Row, seed: int) -> Predictions:
        """Of all scored photographs; kept in the work folder. Of ours the run is kept, see `our_run`."""
        key = stage_key(self.data, row.name, self.labelled, self.scored, seed, self.lab.tiny, _code())
        path = self.lab.work / "probabilities" / f"{key}.safetensors"
        few, others = split(self.annotations, self.labelled, self.scored, seed)
        if path.exists() and not row.ours:
            stored = load_file(path)
            return Predictions(others, [stored[str(i)].float() for i in others.indices], float(stored["seconds"]))
        probs: dict[int, Tensor] = {}
        seconds = []
        for predict, test in self.folds(row, few, others, seed):
            made = Predictions.make(predict, test)
            probs |= dict(zip(test.indices, made.probs, strict=True))
            seconds.append(made.seconds)
        kept = {str(i): p.half().contiguous() for i, p in probs.items()}  # a tenth of a megabyte each
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({**kept, "seconds": torch.tensor(statistics.mean(seconds))}, path)
        return Predictions(others, [probs[i] for i in others.indices], statistics.mean(seconds))

    def folds(self, row: Row, few: Subset, others: Subset, seed: int) -> Iterator[tuple[Predict, Subset]]:
        """Predictors with the images that each is scored on."""
        photographs = [sample.pixels for part in (few, others) for sample in part]
        if row.labels == ALL:
            halves = [others.indices[start::2] for start in (0, 1)]
            for learn, test in (halves, halves[::-1]):
                learned = row.fit(Subset(self.annotations, few.indices + learn), photographs, seed)
                yield learned, Subset(self.annotations, test)
            return
        predict = row.fit(few, photographs, seed)
        unnamed = row.labels == MATCHING and row.ours  # a baseline names its clusters itself
        yield matched(predict, few, len(few.classes)) if unnamed else predict, others


def over_seeds(numbers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation (of the sample) of every number that all seeds have."""
    flat = [{k: n[k] for k in SINGLE if n.get(k) is not None} for n in numbers]
    for group in ("per_class", "pooled"):
        for line, n in zip(flat, numbers, strict=True):
            line |= {f"{group} {k}": v for k, v in n.get(group, {}).items() if v is not None}
    names = [name for name in flat[0] if all(name in line for line in flat)]
    mean = {name: round(statistics.mean(line[name] for line in flat), 4) for name in names}
    if len(flat) == 1:
        return {"mean": mean}
    return {"mean": mean, "std": {name: round(statistics.stdev(line[name] for line in flat), 4) for name in names}}


@functools.cache
def _code() -> str:
    """What kept scores depend on beside their settings."""
    modules = sorted(Path(gsegkit_baselines.__file__).parent.glob("*.py"))
    return stage_key(inspect.getsource(trivial), *(module.read_text(encoding="utf-8") for module in modules))


def compare(
    lab: Lab, data: str, weights: str = "", photos: str = "", refine: str = "colours", labelled: int = LABELLED,
    scored: int = SCORED, ours: bool = True, unets: bool = True, stored: bool = False,
    options: list[str] | None = None, more: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Every row on one set over the lab's seeds.

    Args:
        lab: see `Lab`.
        data: see `annotated`.
        weights: of the StyleGAN2 that ours reads; "" = the default, or (`stored`) a folder beside the data sets.
        photos: unlabelled photographs of the same kind that ours may train itself on; "" = that row is left out.
        refine: refiner that brings in the photograph's own colours; "" = rows without it only.
        labelled: number of images whose labels may be used.
        scored: most images scored.
        ours: with our rows, a run of `gsegkit run` for each seed.
        unets: with U-Nets that learned the labels; the slowest rows.
        stored: see `weights`.
        options: of our run, as after `-o`.
        more: with `MORE_ROWS`.
    """
    setting = Setting(lab, data, annotated(lab, data), refine, labelled, 5 if lab.tiny else scored)
    rows = [*ROWS, *(MORE_ROWS if more else ()), *(unet_rows(lab) if unets else ())]
    if ours:
        chosen = [f"gen.weights={weights_folder(weights) if stored else weights}"] if weights else []
        rows += own_rows(lab, photos, [*chosen, *(options or [])])
    found = [setting.line(row) for row in rows]
    few, others = split(setting.annotations, labelled, setting.scored, 0)
    return {
        "set": data, "classes": list(setting.annotations.classes), "images": len(setting.annotations),
        "labelled": len(few), "scored": len(others), "refine": refine, "rows": found,
    }  # fmt: skip


def unet_rows(lab: Lab) -> list[Row]:
    """Our U-Net with labels: of the drawn images, and of the other half of the scored images too."""
    fit = functools.partial(trivial.supervised_unet, steps=3 if lab.tiny else trivial.STEPS)
    ceiling = Row("U-Net, labels of all", fit, ALL, parts=True, first_seed_only=True)
    return [Row("U-Net, 20 labels", fit, LEARNING, parts=True), ceiling]


def our_run(
    lab: Lab, options: list[str], seed: int, photos: str = "", classes: str = "", extractor: str = "klish"
) -> Path:
    """Folder of `gsegkit run` with default options; finished stages of the same settings are kept.

    Args:
        lab: see `Lab`.
        options: as after `-o`.
        seed: of the run.
        photos: unlabelled photographs to train itself on; "" = none.
        classes: class names that ship with the weights; "" = clusters without names.
        extractor: the method.
    """
    method = [] if extractor == "klish" else [extractor]
    name = "-".join([stage_key(options), str(seed), *(["photos"] if photos else []), *classes.split(), *method])
    folder = lab.work / "runs" / name
    more: dict[str, Any] = {"photos": lab.data(photos)} if photos else {}
    more |= {"classes": classes} if classes else {}
    api.run("stylegan2", extractor, "unet", out=folder, options=options, seed=seed, update=True, smoke=lab.tiny, **more)
    return folder


def own_rows(lab: Lab, photos: str, options: list[str]) -> list[Row]:
    """Ours: a run of each seed, and the same run after training itself on unlabelled photographs."""

    def fit(photos: str, labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
        return Predictor(api.load(our_run(lab, options, seed, photos)))

    found = [Row("ours", functools.partial(fit, ""), MATCHING, parts=True, ours=True)]
    if photos:
        found.append(Row("ours, self-trained", functools.partial(fit, photos), MATCHING, parts=True, ours=True))
    return found


# ---- photographs without labels ------------------------------------------------------------------------------------


def predict(
    lab: Lab, photos: str, weights: str = "", named_by: str = "", refine: str = "colours",
    options: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`gsegkit predict` on all photographs of a folder: share of pixels of each part, seconds a photograph.

    Args:
        lab: see `Lab`.
        photos: unlabelled photographs that no generator saw.
        weights: of the StyleGAN2; "" = the default.
        named_by: annotated set whose labels (20 images) say which cluster is which part; "" = the run's own classes.
        refine: refiner that brings in the photograph's own colours; "" = none.
        options: of our run, as after `-o`.
    """
    given = [*([f"gen.weights={weights}"] if weights else []), *(options or [])]
    each = {str(seed): _shares(lab, photos, named_by, refine, given, seed) for seed in lab.seeds}
    parts = sorted({name for found in each.values() for name in found["share"]})
    mean = {name: round(statistics.mean(f["share"].get(name, 0.0) for f in each.values()), 4) for name in parts}
    return {"photos": photos, "named_by": named_by, "share": mean, "seeds": each}


def _shares(lab: Lab, photos: str, named_by: str, refine: str, options: list[str], seed: int) -> dict[str, Any]:
    folder = our_run(lab, options, seed)
    began, cpu = time.perf_counter(), time.process_time()
    steps = (refine,) if refine else ()
    api.predict(folder, lab.data(photos), lab.work / "predictions" / str(seed), refine=steps, device=str(lab.device))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    images = installed().build("dataset", "folder").images(lab.data(photos))
    predictor = Predictor(api.load(folder))
    names: tuple[str, ...] = tuple(predictor.classes)
    predict: Predict = predictor
    if named_by:
        annotations = annotated(lab, named_by)
        few, _ = split(annotations, LABELLED, 1, seed)
        names, predict = annotations.classes, matched(predictor, few, len(annotations.classes))
    step, counts = colour_step(refine) if refine else None, torch.zeros(len(names), dtype=torch.int64)
    for index in range(len(images)):
        pixels = images[index][None]
        probs = step(pixels, predict(pixels)) if step else predict(pixels)
        counts += torch.bincount(probs[0].argmax(dim=0).flatten(), minlength=len(names))
    share = {name: round(float(s), 4) for name, s in zip(names, counts / counts.sum(), strict=True)}
    return {"photographs": len(images), "seconds_each": round(wall / len(images), 4),
            "cpu_seconds_each": round(cpu / len(images), 4), "share": share}  # fmt: skip
