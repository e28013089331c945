"""Where is the loss? From the best that labels can do down to ours, one cause at a time, on one annotated set.

The teacher is the baseline `few-labels`: it labels whatever it is shown. Each rung replaces one
thing, and the difference between neighbours is that thing's price:

    teacher -> student on photographs (network) -> student on generated pictures (generator)
            -> student on merged clusters (clusters) -> our run (pairs of all clusters, matched on labelled photographs)
    our run -> with the photograph's colours -> with the best weight of the colours for each photograph (oracle)

Beside them, on generated pictures against the teacher: the best merge of the clusters at every level, and how well our
segmenter learned its own pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from gsegkit_eval.scores import class_ious, mean_defined
from torch import Tensor

from benchmarks.protocols import trivial
from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import (
    LABELLED,
    SCORED,
    Predictions,
    Refine,
    annotated,
    colour_step,
    matched,
    our_run,
    scores,
    split,
)
from gsegkit import api
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor, Predict
from gsegkit.plugins import installed
from gsegkit.refining import Predictor
from gsegkit.rundir import stage_key
from gsegkit.seeds import sample_seeds
from gsegkit.storage import atomic_write_json, read_json

BATCH = 50
STEPS = 300  # of each student; what our segmenter takes by default
WEIGHTS = (0.0, 0.3, 0.6, 1.0, 1.3, 2.0)  # of the colours that the oracle chooses from


def ladder(
    lab: Lab, data: str, photos: str, weights: str = "", refine: str = "colours", weight_option: str = "weight",
    samples: int = 600, levels: list[int] | None = None, options: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The rungs for each seed, and the clusters' best merges.

    Args:
        lab: see `Lab`.
        data: annotated set, see `photographs.annotated`.
        photos: unlabelled photographs of the same kind.
        weights: of the StyleGAN2; "" = the default.
        refine: refiner that brings in the photograph's colours; "" = without those rungs.
        weight_option: its option for how much the colours count.
        samples: generated pictures, and photographs, that a student learns from.
        levels: numbers of clusters to merge; those that the extractor lacks are left out.
        options: of our run, as after `-o`.
    """
    annotations, found = annotated(lab, data), {}
    for seed in lab.seeds:
        given = [*([f"gen.weights={weights}"] if weights else []), *(options or [])]
        climb = Climb(lab, data, annotations, given, 12 if lab.tiny else samples, seed)
        found[str(seed)] = climb.rungs(photos) | climb.clusters(levels or [2, 3, 4, 6, 8, 12, 16, 24, 32, 48])
        if refine:
            found[str(seed)]["rungs"] += climb.colours(refine, weight_option)
    return {"set": data, "labelled": LABELLED, "samples": samples, "seeds": found}


class Climb:
    """One seed: what its rungs share. Finished rungs are kept in the work folder."""

    def __init__(
        self, lab: Lab, data: str, annotations: LabelledDataset, options: list[str], samples: int, seed: int
    ) -> None:
        self.lab, self.data, self.seed, self.samples = lab, data, seed, samples
        self.key = stage_key(data, options, samples, seed, lab.tiny)
        self.classes = annotations.classes
        self.few, self.others = split(annotations, LABELLED, 5 if lab.tiny else SCORED, seed)
        self.teacher = trivial.baseline("few-labels")(self.few, [], seed)
        folder = our_run(lab, options, seed)
        self.segmenter = Predictor(api.load(folder))
        self.generator: Generator = api.load(folder, "generator")
        self.extractor: MaskExtractor = api.load(folder, "extractor")
        self.cut = len(self.extractor.classes)
        self.ours = matched(self.segmenter, self.few, len(self.classes))

    # ---- rungs: scores on photographs ------------------------------------------------------------------------------

    def rungs(self, photos: str) -> dict[str, Any]:
        """From the teacher down to ours."""
        pictures, merged = self.pictures()
        taught, clusters = self.by_teacher(pictures), MemoryDataset(pictures, merged, self.classes)
        made: list[tuple[str, Callable[[], Predict]]] = [
            ("teacher: 20 labels, frozen features", lambda: self.teacher),
            ("student on photographs", lambda: self.student(self.by_teacher(self.photographs(photos)))),
            ("student on generated pictures", lambda: self.student(taught)),
            ("student on clusters merged by the teacher", lambda: self.student(clusters)),
            ("ours", lambda: self.ours),
        ]  # fmt: skip
        return {"rungs": [self.kept(name, partial(self.scored, make)) for name, make in made]}

    def score(self, predict: Predict, refine: Refine | None = None) -> dict[str, Any]:
        """On the photographs whose labels nobody saw."""
        return scores(Predictions.make(predict, self.others).counts(refine)[0], self.classes)

    def scored(self, make: Callable[[], Predict]) -> dict[str, Any]:
        """The score of what is made only now."""
        return self.score(make())

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A rung, from the work folder if it was finished before."""
        path = self.lab.work / "ladder" / self.key / f"{stage_key(name)}.json"
        if not path.exists():
            atomic_write_json(path, {"name": name, **make()})
        found = dict(read_json(path))
        say(f"{self.data} / seed {self.seed} / {name}: foreground {found['foreground']:.3f}, mIoU {found['miou']:.3f}")
        return found

    def student(self, learn: LabelledDataset) -> Predict:
        """Our U-Net, trained on these pairs."""
        return trivial.supervised_unet(learn, [], self.seed, 3 if self.lab.tiny else STEPS)

    def photographs(self, name: str) -> Tensor:
        """Unlabelled photographs at the generator's size, [N, 3, H, W] uint8, drawn by the seed."""
        info = self.generator.info
        images = installed().build("dataset", "folder").images(self.lab.data(name))
        chosen = np.random.default_rng(self.seed).permutation(len(images))[: self.samples].tolist()
        return images.fitted((info.height, info.width), info.fit_rule).batch(chosen)

    def by_teacher(self, pixels: Tensor) -> MemoryDataset:
        """Pictures with the teacher's masks."""
        masks = [self.teacher(part).argmax(dim=1).to(torch.uint8) for part in pixels.split(BATCH)]
        return MemoryDataset(pixels, torch.cat(masks), self.classes)

    def pictures(self) -> tuple[Tensor, Tensor]:
        """Generated pictures, and our clusters on them, merged as the teacher sees them."""
        pixels, found = self.generated(self.samples, "dataset", [self.cut])
        targets = greedy_targets(self.tables(self.by_teacher(pixels).masks, found[self.cut], self.cut))
        return pixels, torch.tensor(targets, dtype=torch.uint8)[found[self.cut]]

    def generated(self, count: int, purpose: str, cuts: list[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """Pictures [N, 3, H, W] uint8, and for each cut their clusters [N, H, W] int64."""
        pixels: list[Tensor] = []
        found: dict[int, list[Tensor]] = {cut: [] for cut in cuts}
        for seeds in sample_seeds(self.seed, purpose, 0, count).split(BATCH):
            batch = self.generator.sample(seeds, features=self.extractor.features(self.generator.info))
            pixels.append(to_pixels(batch.images))
            for cut in cuts:
                if self.extractor.levels:
                    self.extractor.cut(cut)
                found[cut].append(self.extractor.extract(batch, self.generator).probs.argmax(dim=1))
        return torch.cat(pixels), {cut: torch.cat(parts) for cut, parts in found.items()}

    def tables(self, taught: Tensor, found: Tensor, count: int) -> Any:
        """Counts by (picture, teacher's class, found class)."""
        rows = [contingency(t, f, len(self.classes), count) for t, f in zip(taught, found, strict=True)]
        return np.stack(rows)

    # ---- clusters: scores on generated pictures ----------------------------------------------------------------------

    def clusters(self, levels: list[int]) -> dict[str, Any]:
        """The best merge at each level against the teacher, and our segmenter's agreement with its own pairs."""
        cuts = sorted({*(k for k in levels if k in self.extractor.levels), self.cut})
        pixels, found = self.generated(max(2, self.samples // 5), "validation", cuts)
        taught, lines, targets = self.by_teacher(pixels).masks, [], {}
        for cut in cuts:
            counts = self.tables(taught, found[cut], cut)
            targets[cut] = torch.tensor(greedy_targets(counts), dtype=torch.uint8)
            lines.append({"clusters": cut, **self.agreement(taught, targets[cut][found[cut]])})
        said = torch.cat([self.segmenter(part).argmax(dim=1) for part in pixels.split(BATCH)])
        own = self.agreement(targets[self.cut][found[self.cut]], targets[self.cut][said])
        return {"best merges": lines, "segmenter against its own pairs": own}

    def agreement(self, truth: Tensor, found: Tensor) -> dict[str, Any]:
        """Scores of classes [N, H, W] against what is taken for true."""
        return scores(self.tables(truth, found, len(self.classes)), self.classes)

    # ---- colours -----------------------------------------------------------------------------------------------------

    def colours(self, refine: str, option: str) -> list[dict[str, Any]]:
        """Ours with the colours as they are, and with the weight that the truth prefers, photograph by photograph."""

        def oracle() -> dict[str, Any]:
            steps = [colour_step(refine, {option: weight}) if weight else None for weight in WEIGHTS]
            predictions = Predictions.make(self.ours, self.others)
            each = [predictions.counts(step)[0] for step in steps]
            quality = np.stack([_miou(tables) for tables in each])  # [W, n]
            best = np.stack([each[w][i] for i, w in enumerate(quality.argmax(axis=0))])
            return scores(best, self.classes)

        return [
            self.kept("ours, with colours", lambda: self.score(self.ours, colour_step(refine))),
            self.kept("ours, best weight of the colours for each photograph", oracle),
        ]


def _miou(tables: Any) -> Any:
    """Of each image, over the classes that are there or are said to be: [n, K, K] -> [n]."""
    return mean_defined(class_ious(tables), axis=1)
