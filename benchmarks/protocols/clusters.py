"""Clusterings of a generator's pixels compared, as in Table IV of KLiSH (Xu, Zhang and Hu 2022).

`compared`, with `data` (photographs with masks): a U-Net trained WITH these labels segments the generated images;
AMI, ARI and the greedy maximum-matching mIoU of every method against it, at equal numbers of clusters, over several
seeds. The U-Net's own score on photographs that it has not seen tells how far it can be trusted. Without `data`: only
how stable a method is, the mean adjusted Rand index between the clusterings of two seeds on the same images. Each
seed has its own images to fit on; all clusterings are scored on the same other images. A method with a hierarchy is
fitted once and cut.

`toy`: foreground IoU with the toy's exact masks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from gsegkit_eval.matching import greedy
from gsegkit_eval.scores import class_ious, mean_defined
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from torch import Tensor

from benchmarks.protocols.cluster_sheet import draw_sheet
from benchmarks.protocols.common import CASES, Lab, say
from gsegkit.clustering.extractor import ClusterExtractor
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.images import centre_crop, fit_pixels, to_pixels
from gsegkit.interfaces import Generator, Segmenter
from gsegkit.plugins import installed
from gsegkit.refining import Predictor
from gsegkit.seeds import child_seed, sample_seeds

#: name in the results -> extractor and its options
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "klish": ("klish", {}),
    "kmeans": ("kmeans", {}),
    "kmeans-arccos": ("kmeans", {"metric": "arccos"}),
    "kasp": ("kasp", {}),
    "ahc-ward": ("ahc", {"metric": "ward"}),
    "ahc-arccos": ("ahc", {"metric": "arccos"}),
}
TABLE_IV = ("klish", "kmeans", "kasp", "ahc-ward", "ahc-arccos")
METRICS = {
    "ami": "adjusted mutual information with the reference over the scored pixels",
    "ari": "adjusted Rand index with the reference over the scored pixels",
    "miou_greedy": "KLiSH's Algorithm 2: every cluster joins the class that raises mIoU most; IoU per image, then the "
    "mean over the images that have the class in either, then the plain mean over all classes, background included",
    "stability": "mean adjusted Rand index between the clusterings of two seeds on the same pixels",
    "largest_cluster": "share of the scored pixels in the largest cluster: near 1 where merging snowballed, and then "
    "stability says little",
}
BATCH = 32


@dataclass(frozen=True)
class Setting:
    """What `compared` was asked for, see there."""

    k: tuple[int, ...]
    methods: tuple[str, ...]
    images: int
    pixels: int
    min_scale: float
    eval_images: int
    scored_pixels: int
    sheet_images: int


@dataclass
class Scored:
    """What is kept of one clustering's labels.

    Attributes:
        tables: for each batch of images, [N, K1, K] counts by (reference class, cluster).
        labels: clusters of the scored pixels.
        pictures: label maps of the first images.
    """

    tables: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    pictures: list[Tensor] = field(default_factory=list)


# ---- the reference -----------------------------------------------------------------------------------------------


def fitted(dataset: LabelledDataset, rows: list[int], generator: Generator) -> MemoryDataset:
    """Labelled photographs at the generator's size, by the rule that its own photographs were fitted with."""
    size, rule = (generator.info.height, generator.info.width), generator.info.fit_rule
    pixels, masks = [], []
    for row in rows:
        sample = dataset[row]
        # a mask goes through the same resizing as a picture, one class at a time; the largest share wins
        kinds = torch.unique(sample.mask)
        shares = [centre_crop(fit_pixels(_grey(sample.mask == kind), size, rule), size)[0, 0] for kind in kinds]
        masks.append(kinds[torch.stack(shares).argmax(dim=0)])
        pixels.append(centre_crop(fit_pixels(sample.pixels[None], size, rule), size)[0])
    return MemoryDataset(torch.stack(pixels), torch.stack(masks), dataset.classes, fit_rule="native")


def _grey(mask: Tensor) -> Tensor:
    return (mask.to(torch.uint8) * 255).expand(1, 3, *mask.shape)


def train_reference(
    lab: Lab, generator: Generator, data: str, held_out: str, steps: int
) -> tuple[Segmenter, dict[str, Any]]:
    """A U-Net trained with labels on photographs, and how it does on photographs that were held out."""
    annotated = lab.labelled(data)
    order = np.random.RandomState(0).permutation(len(annotated)).tolist()
    if held_out:
        other = lab.labelled(held_out)
        train, test = fitted(annotated, order, generator), fitted(other, list(range(len(other))), generator)
    else:
        count = max(1, len(annotated) // 4)
        train, test = fitted(annotated, order[count:], generator), fitted(annotated, order[:count], generator)
    segmenter: Segmenter = installed().build("segmenter", "unet", {"steps": steps}).to(lab.device)
    segmenter.fit(train, lab.context(f"{data}-{steps}", "reference", 0))
    segmenter.eval()
    evaluator = installed().build("evaluator", "masks", {"match": "names", "baselines": False})
    report = evaluator.evaluate(Predictor(segmenter), test, lab.context(data, "report", 0))
    sure = [float(segmenter.probs(part).amax(dim=1).mean()) * len(part) for part in test.pixels.split(BATCH)]
    return segmenter, {
        "what": f"unet of gsegkit-smp, trained with labels for {steps} steps",
        "train_images": len(train),
        "data": data,
        "held_out_images": len(test),
        "held_out_from": held_out or "a random quarter of the data",
        "classes": list(annotated.classes),
        "miou": round(float(report.metrics["miou"]), 4),
        "iou_foreground": round(float(report.metrics["iou_foreground"]), 4),
        "iou": {name: round(float(row["iou_per_image"] or 0), 4) for name, row in report.per_class.items()},
        "mean_confidence_held_out": round(sum(sure) / len(test), 4),
    }


# ---- the clusterings ---------------------------------------------------------------------------------------------


def fit_all(
    lab: Lab, setting: Setting, generator: Generator
) -> Iterator[tuple[str, int, int, ClusterExtractor, dict[str, Any]]]:
    """(method, seed, k, fitted extractor, facts of the fit) for everything that was asked for."""
    common = {"num_images": setting.images, "min_scale": setting.min_scale, "min_size": None}
    for method in setting.methods:
        extractor, own = METHODS[method]
        if extractor == "ahc":  # keeps its own number of pixels: a tree of all would be too large
            own = {**own, **common, "max_levels": max(30, *setting.k)}
        else:
            own = {**own, **common, "pixels_per_image": setting.pixels}
        for seed in lab.seeds:
            part: ClusterExtractor | None = None
            for k in sorted(setting.k, reverse=True):
                facts: dict[str, Any] = {}
                if part is None or k not in part.levels:
                    part = installed().build("extractor", extractor, {**own, "k": k}).to(lab.device)
                    assert part is not None
                    facts = {
                        "method": method,
                        "seed": seed,
                        "k": k,
                        **_fit(lab, part, generator, f"{method}-{seed}-{k}", seed),
                    }
                yield method, seed, k, part, facts


def _fit(lab: Lab, part: ClusterExtractor, generator: Generator, name: str, seed: int) -> dict[str, Any]:
    began = time.process_time()
    part.fit(generator, lab.context(name, "extractor", seed, batch_size=BATCH))
    seconds = round(time.process_time() - began, 2)
    say(f"{name}: fitted in {seconds} CPU s, {len(part.levels)} levels")
    plain = {name: fact for name, fact in part.fit_facts.items() if isinstance(fact, str | int | float)}
    return {"levels": len(part.levels), "cpu_seconds": seconds, "layers": list(part.layers),
            "channels": int(part.weight.shape[1]), "fit": plain}  # fmt: skip


def score_all(
    setting: Setting,
    generator: Generator,
    parts: Mapping[tuple[str, int, int], ClusterExtractor],
    reference: Segmenter | None,
    num_true: int,
) -> tuple[dict[tuple[str, int, int], Scored], np.ndarray, Tensor, Tensor | None, float]:
    """One pass over the common images, for all clusterings at once.

    Returns:
        What each clustering said; the reference's classes of the scored pixels; the first images and the reference's
        masks of them; the reference's mean confidence.
    """
    found: dict[tuple[str, int, int], Scored] = defaultdict(Scored)
    size = (generator.info.height, generator.info.width)
    seeds = sample_seeds(0, "test", 0, setting.eval_images)
    wanted = {name for part in parts.values() for name in part.features(generator.info)}
    layers = tuple(spec.name for spec in generator.info.features if spec.name in wanted)
    quota = min(max(1, setting.scored_pixels // setting.eval_images), size[0] * size[1])
    truths: list[np.ndarray] = []
    pictures: list[Tensor] = []
    masks: list[Tensor] = []
    sure = 0.0
    for number, part_seeds in enumerate(torch.split(seeds, BATCH)):
        batch = generator.sample(part_seeds, features=layers)
        pixels = to_pixels(batch.images).cpu()
        rows = np.stack([_choice(size[0] * size[1], quota, int(seed)) for seed in part_seeds])
        truth = torch.zeros(len(pixels), *size, dtype=torch.uint8)
        if reference is not None:
            probs = reference.probs(pixels).cpu()
            truth = probs.argmax(dim=1).to(torch.uint8)
            sure += float(probs.amax(dim=1).mean()) * len(pixels)
        flat = truth.flatten(1).numpy()
        truths.append(np.take_along_axis(flat, rows, axis=1))
        if len(pictures) * BATCH < setting.sheet_images:
            pictures.append(pixels)
            masks.append(truth)
        for key, part in parts.items():
            k = key[2]
            labels = part.scores(batch.features, size, k).argmax(dim=1).cpu()
            one = found[key]
            one.labels.append(np.take_along_axis(labels.flatten(1).numpy().astype(np.uint8), rows, axis=1))
            if reference is not None:
                one.tables.append(_tables(flat, labels.flatten(1).numpy(), num_true, k))
            if len(one.pictures) * BATCH < setting.sheet_images:
                one.pictures.append(labels.to(torch.uint8))
        if number % 8 == 7:
            say(f"{(number + 1) * BATCH} of {len(seeds)} images scored")
    shown = torch.cat(masks) if reference is not None else None
    return found, np.concatenate(truths).ravel(), torch.cat(pictures), shown, sure / len(seeds)


def _choice(total: int, count: int, seed: int) -> np.ndarray:
    order = np.random.RandomState(child_seed(seed, "scored pixels") % 2**32).permutation(total)
    return order[:count]


def _tables(truth: np.ndarray, labels: np.ndarray, num_true: int, k: int) -> np.ndarray:
    """[N, P] classes and clusters -> [N, num_true, k] counts."""
    pairs = (np.arange(len(truth))[:, None] * num_true + truth) * k + labels
    return np.bincount(pairs.ravel(), minlength=len(truth) * num_true * k).reshape(len(truth), num_true, k)


# ---- numbers -----------------------------------------------------------------------------------------------------


def rows_of(
    setting: Setting,
    seeds: tuple[int, ...],
    found: Mapping[tuple[str, int, int], Scored],
    truth: np.ndarray,
    classes: list[str],
) -> list[dict[str, Any]]:
    """One row for each method and number of clusters, with mean and standard deviation over the seeds."""
    rows = []
    for method in setting.methods:
        for k in setting.k:
            scored = [found[method, seed, k] for seed in seeds if (method, seed, k) in found]
            if not scored:
                continue
            labels = [np.concatenate(one.labels).ravel() for one in scored]
            row: dict[str, Any] = {"method": method, "k": k}
            pairs = [adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]
            if pairs:
                row["stability"] = spread(pairs)
            row["largest_cluster"] = spread([float(np.bincount(one).max() / len(one)) for one in labels])
            if classes:
                row["ami"] = spread([adjusted_mutual_info_score(truth, one) for one in labels])
                row["ari"] = spread([adjusted_rand_score(truth, one) for one in labels])
                ious = []
                for one in scored:
                    tables = np.concatenate(one.tables)
                    ious.append(np.nan_to_num(mean_defined(class_ious(greedy(tables).apply(tables)), axis=0)))
                row["miou_greedy"] = spread([float(iou.mean()) for iou in ious])
                row["iou"] = {name: spread([float(iou[i]) for iou in ious]) for i, name in enumerate(classes)}
            rows.append(row)
            say(" ".join(f"{name} {v['mean']:.3f}" if isinstance(v, dict) and "mean" in v else f"{v}"
                         for name, v in row.items() if name != "iou"))  # fmt: skip
    return rows


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1) and the values themselves."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "std": round(deviation, 4),
            "values": [round(float(v), 4) for v in values]}  # fmt: skip


def claim(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Where klish is above every other method: by metric and k, the best other one and the gap of the means."""
    verdicts: dict[str, Any] = {}
    for metric in ("ami", "ari", "miou_greedy"):
        for row in rows:
            if row["method"] != "klish" or metric not in row:
                continue
            others = {r["method"]: r[metric] for r in rows if r["k"] == row["k"] and r["method"] != "klish"}
            if not others:
                continue
            best = max(others, key=lambda name: others[name]["mean"])
            gaps = [a - b for a, b in zip(row[metric]["values"], others[best]["values"], strict=False)]
            verdicts[f"{metric} at k={row['k']}"] = {
                "best_other": best,
                "klish_minus_best_other": round(row[metric]["mean"] - others[best]["mean"], 4),
                "seeds_in_which_klish_is_above": f"{sum(gap > 0 for gap in gaps)} of {len(gaps)}",
            }
    return verdicts


# ---- the whole ---------------------------------------------------------------------------------------------------


def compared(
    lab: Lab, case: str, k: list[int], methods: list[str], data: str = "", held_out: str = "", min_scale: float = 0.5,
    images: int = 256, pixels: int = 256, eval_images: int = 1000, scored_pixels: int = 200_000,
    reference_steps: int = 1000, sheet: str = "", sheet_images: int = 8,
) -> dict[str, Any]:  # fmt: skip
    """Everything.

    Args:
        lab: seeds of the fits.
        case: the generator.
        k: numbers of clusters.
        methods: keys of `METHODS`.
        data: photographs with masks for the reference.
        held_out: to test it on; empty: a quarter of `data`.
        min_scale: smallest maps that all methods read; paper 0.
        images: that each clustering is fitted on; paper 256.
        pixels: of each image; paper all 65,536.
        eval_images: images that are scored; paper 10,000.
        scored_pixels: that AMI, ARI and stability see.
        reference_steps: of the reference's training.
        sheet: a PNG of docs/figures/klish; first seed, largest k.
        sheet_images: in it.
    """
    if lab.tiny:
        images, eval_images, reference_steps, methods, k = 8, 8, 2, methods[:2], k[:1]
    setting = Setting(tuple(k), tuple(methods), images, pixels, min_scale, eval_images, scored_pixels, sheet_images)
    generator = CASES[case].build(lab.device)
    reference, facts = train_reference(lab, generator, data, held_out, reference_steps) if data else (None, None)
    parts, fits = {}, []
    for method, seed, count, part, fit_facts in fit_all(lab, setting, generator):
        parts[method, seed, count] = part
        if fit_facts:
            fits.append(fit_facts)
    classes = facts["classes"] if facts else []
    found, truth, pictures, masks, sure = score_all(setting, generator, parts, reference, len(classes))
    if facts is not None:
        facts["mean_confidence_generated"] = round(sure, 4)
        shares = np.bincount(truth, minlength=len(classes)) / len(truth)
        facts["share_of_generated_pixels"] = {c: round(float(s), 4) for c, s in zip(classes, shares, strict=True)}
    rows = rows_of(setting, lab.seeds, found, truth, classes)
    if sheet:
        shown = {f"{m}, k={max(k)}": found[m, lab.seeds[0], max(k)].pictures for m in methods}
        draw_sheet(lab.figures("klish") / sheet, min(sheet_images, len(pictures)), max(k), shown, pictures, masks)
    shared = {key: fits[0][key] for key in ("layers", "channels")}
    size = [generator.info.height, generator.info.width]
    return {
        "definitions": {name: METRICS[name] for name in METRICS if any(name in row for row in rows)},
        "generator": {"name": CASES[case].generator, "weights": CASES[case].weights, "size": size, **shared},
        "fitted_on": f"{images} images, {pixels} pixels of each (ahc: see its fits); others each seed",
        "scored_on": f"{eval_images} other images, the same for all; all but mIoU on {len(truth):,} of their pixels, "
        "equally many of each image",
        "reference": facts,
        "rows": rows,
        "klish_above_the_others": claim(rows),
        "fits": [{key: value for key, value in fit.items() if key not in shared} for fit in fits],
    }


#: extractor and options for the toy: few pixels, as in the tests
ON_TOY: dict[str, tuple[str, dict[str, Any]]] = {
    "kmeans": ("kmeans", {"pixels_per_image": 32, "kmeans": "torch"}),
    "kmeans, arccos": ("kmeans", {"pixels_per_image": 32, "kmeans": "torch", "metric": "arccos"}),
    "kasp": ("kasp", {"pixels_per_image": 32, "kmeans": "torch", "k0": 50}),
    "ahc, ward": ("ahc", {"pixels_per_image": 6}),
    "ahc, arccos": ("ahc", {"pixels_per_image": 6, "metric": "arccos"}),
}


@torch.no_grad()
def toy(lab: Lab, k: list[int], images: int = 24) -> dict[str, Any]:
    """Foreground IoU of `images` of the toy, clusters named by the truth."""
    generator, rows = CASES["toy"].build(lab.device), []
    for method, (extractor, options) in ON_TOY.items():
        for count in k:
            ious = [_toy_iou(lab, generator, extractor, {**options, "k": count}, seed, images) for seed in lab.seeds]
            rows.append({"method": method, "k": count, "iou_foreground": spread(ious)})
            say(str(rows[-1]))
    return {"images": images, "rows": rows}


def _toy_iou(lab: Lab, generator: Generator, name: str, options: dict[str, Any], seed: int, images: int) -> float:
    part: ClusterExtractor = installed().build("extractor", name, options).to(lab.device)
    part.fit(generator, lab.context(f"{name}-{options.get('metric')}-{options['k']}-{seed}", "toy", seed))
    batch = generator.sample(sample_seeds(seed, "test", 0, images), features=part.features(generator.info))
    found, truth = part.extract(batch, generator).probs.argmax(dim=1), generator.truth(batch) > 0
    inside = [bool(truth[found == c].float().mean() > 0.5) for c in range(len(part.classes))]
    named = torch.tensor(inside)[found]
    ious = (named & truth).sum((1, 2)) / (named | truth).sum((1, 2)).clamp_min(1)
    return float(ious.mean())
