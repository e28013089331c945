"""Clusterings of a generator's pixels compared, as in Table IV of KLiSH (Xu and Zheng 2022).

    python benchmarks/clusters.py --weights coffee-leaf-64 --data coffee_leaf --k 3 6 10 20 --out results/clusters.json
    python benchmarks/clusters.py --gen dcgan --weights celeba32-dcgan --k 6 10 20 --sheet sheet.png

With `--data` (photographs with masks): a U-Net trained WITH these labels segments the generated images; AMI, ARI and
the greedy maximum-matching mIoU of every method against it, at equal numbers of clusters, over several seeds. The
U-Net's own score on photographs that it has not seen tells how far it can be trusted. Without `--data`: only how stable
a method is, the mean adjusted Rand index between the clusterings of two seeds on the same images.

Each seed has its own images to fit on; all clusterings are scored on the same other images. A method with a hierarchy
is fitted once and cut. Methods that are not installed are left out, with a note in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gsegkit_eval.matching import greedy
from gsegkit_eval.scores import class_ious, mean_defined
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from torch import Tensor

from gsegkit.clustering.extractor import ClusterExtractor
from gsegkit.colours import class_palette, overlay
from gsegkit.config import parse_assignments
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import ConfigError, GsegkitError
from gsegkit.images import centre_crop, fit_pixels, grid, to_pixels
from gsegkit.interfaces import Generator, Predictor, Segmenter
from gsegkit.parts import load_part, save_part
from gsegkit.plugins import installed
from gsegkit.seeds import child_seed, sample_seeds
from gsegkit.storage import atomic_write_json, read_json

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
TILE, MARGIN, LINE = 112, 4, 14  # of the sheet, in pixels; a tile is at least so wide


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
    options: argparse.Namespace, generator: Generator, device: torch.device, folder: Path
) -> tuple[Segmenter, dict[str, Any]]:
    """A U-Net trained with labels on photographs, and how it does on photographs that were held out."""
    kept = options.reference
    if kept is not None and (kept / "facts.json").exists():
        record = read_json(kept / "component.json")
        segmenter: Segmenter = installed().build("segmenter", record["name"], record["config"])
        load_part(segmenter, kept)
        return segmenter.to(device).eval(), read_json(kept / "facts.json")
    reader = installed().build("dataset", "folder")
    data = reader.labelled(options.data)
    order = np.random.RandomState(0).permutation(len(data)).tolist()
    if options.held_out:
        other = reader.labelled(options.held_out)
        train, test = fitted(data, order, generator), fitted(other, list(range(len(other))), generator)
    else:
        count = max(1, len(data) // 4)
        train, test = fitted(data, order[count:], generator), fitted(data, order[:count], generator)
    segmenter = installed().build("segmenter", options.seg, {"steps": options.seg_steps})
    segmenter.to(device).fit(train, RunContext(folder, device=device, seed=0))
    segmenter.eval()
    evaluator = installed().build("evaluator", "masks", {"match": "names", "baselines": False})
    report = evaluator.evaluate(Predictor(segmenter), test, RunContext(folder, device=device, seed=0))
    sure = [float(segmenter.probs(part).amax(dim=1).mean()) * len(part) for part in test.pixels.split(BATCH)]
    facts = {
        "what": f"{options.seg} of gsegkit-smp, trained with labels for {options.seg_steps} steps",
        "train_images": len(train),
        "data": options.data.name,
        "held_out_images": len(test),
        "held_out_from": options.held_out.name if options.held_out else "a random quarter of the data",
        "classes": list(data.classes),
        "miou": round(float(report.metrics["miou"]), 4),
        "iou_foreground": round(float(report.metrics["iou_foreground"]), 4),
        "iou": {name: round(float(row["iou_per_image"] or 0), 4) for name, row in report.per_class.items()},
        "mean_confidence_held_out": round(sum(sure) / len(test), 4),
    }
    if kept is not None:
        save_part(segmenter, kept, "segmenter", options.seg)
        atomic_write_json(kept / "facts.json", facts)
    return segmenter, facts


# ---- the clusterings ---------------------------------------------------------------------------------------------


def fit_all(
    options: argparse.Namespace, generator: Generator, device: torch.device, folder: Path
) -> Iterator[tuple[str, int, int, ClusterExtractor, dict[str, Any]]]:
    """(method, seed, k, fitted extractor, facts of the fit) for everything that was asked for and is installed."""
    names = {entry.component.name for entry in installed().of_kind("extractor") if not entry.missing_modules()}
    extra = parse_assignments(options.option)
    common = {"images": options.images, "min_scale": options.min_scale}
    for method in options.methods:
        extractor, own = METHODS[method]
        if extractor not in names:
            continue
        if extractor == "ahc":  # keeps its own number of pixels: a tree of all would be too large
            own = {**own, **common, "max_levels": max(30, *options.k)}
        else:
            own = {**own, **common, "pixels_per_image": options.pixels}
        for seed in range(options.seeds):
            part: ClusterExtractor | None = None
            for k in sorted(options.k, reverse=True):
                facts: dict[str, Any] = {}
                if part is None or k not in part.levels:
                    part = installed().build("extractor", extractor, {**own, **extra.get(method, {}), "k": k})
                    assert part is not None
                    part.to(device)
                    began = time.process_time()
                    ctx = RunContext(folder / f"{method}-{seed}-{k}", device=device, seed=seed, batch_size=BATCH)
                    part.fit(generator, ctx)
                    facts = {"method": method, "seed": seed, "k": k, "levels": len(part.levels)}
                    facts |= {"cpu_seconds": round(time.process_time() - began, 2), "layers": list(part.layers)}
                    plain = {name: fact for name, fact in part.fit_facts.items() if isinstance(fact, str | int | float)}
                    facts |= {"channels": int(part.weight.shape[1]), "fit": plain}
                    say(f"{method} seed {seed}: fitted in {facts['cpu_seconds']} CPU s, {len(part.levels)} levels")
                yield method, seed, k, part, facts


def score_all(
    options: argparse.Namespace,
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
    seeds = sample_seeds(0, "test", 0, options.eval_images)
    wanted = {name for part in parts.values() for name in part.features(generator.info)}
    layers = tuple(spec.name for spec in generator.info.features if spec.name in wanted)
    quota = min(max(1, options.scored_pixels // options.eval_images), size[0] * size[1])
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
        if len(pictures) * BATCH < options.sheet_images:
            pictures.append(pixels)
            masks.append(truth)
        for key, part in parts.items():
            k = key[2]
            labels = part.scores(batch.features, size, k).argmax(dim=1).cpu()
            one = found[key]
            one.labels.append(np.take_along_axis(labels.flatten(1).numpy().astype(np.uint8), rows, axis=1))
            if reference is not None:
                one.tables.append(_tables(flat, labels.flatten(1).numpy(), num_true, k))
            if len(one.pictures) * BATCH < options.sheet_images:
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
    options: argparse.Namespace, found: Mapping[tuple[str, int, int], Scored], truth: np.ndarray, classes: list[str]
) -> list[dict[str, Any]]:
    """One row for each method and number of clusters, with mean and standard deviation over the seeds."""
    rows = []
    for method in options.methods:
        for k in options.k:
            scored = [found[method, seed, k] for seed in range(options.seeds) if (method, seed, k) in found]
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


# ---- the sheet ---------------------------------------------------------------------------------------------------


def draw_sheet(
    options: argparse.Namespace,
    found: Mapping[tuple[str, int, int], Scored],
    pictures: Tensor,
    masks: Tensor | None,
) -> None:
    """Images in rows, methods in columns; clusters of equal place have nearly equal colours in all columns."""
    count, k = min(options.sheet_images, len(pictures)), options.sheet_k or max(options.k)
    columns = [("image", pictures[:count])]
    if masks is not None:
        columns.append(("reference", overlay(pictures[:count], masks[:count], 0.6)))
    first: Tensor | None = None
    palette = class_palette()
    palette[0] = torch.tensor([70, 70, 70])
    for method in options.methods:
        if (method, 0, k) not in found:
            continue
        labels = torch.cat(found[method, 0, k].pictures)
        if first is None:
            first = labels
        labels = _recoloured(labels, first, k)[:count]
        # class 0 is shown uncoloured by overlay(): every cluster gets a colour here
        columns.append((f"{method}, k={k}", overlay(pictures[:count], labels + 1, 0.65, torch.roll(palette, 1, 0))))
    scale = -(-TILE // pictures.shape[-1])
    tiles = torch.cat([column[:, None] for _, column in columns], dim=1).flatten(0, 1)
    tiles = tiles.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    sheet = grid(tiles, len(columns), MARGIN).permute(1, 2, 0).numpy()
    picture = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + LINE), "white")
    picture.paste(Image.fromarray(sheet), (0, LINE))
    draw = ImageDraw.Draw(picture)
    for i, (name, _) in enumerate(columns):
        draw.text((i * (tiles.shape[-1] + MARGIN) + 2, 1), name, fill="black")
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.sheet, optimize=True)


def _recoloured(labels: Tensor, pattern: Tensor, k: int) -> Tensor:
    """The labels renumbered so that as many pixels as possible have the pattern's number."""
    pairs = torch.bincount(labels.flatten().long() * k + pattern.flatten().long(), minlength=k * k).view(k, k)
    _, columns = linear_sum_assignment(pairs.numpy(), maximize=True)
    return torch.from_numpy(columns).to(torch.uint8)[labels.long()]


# ---- the whole ---------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything; returns the record."""
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(True)
    device = torch.device(options.device)
    load_before = os.getloadavg()[0]
    began = time.perf_counter()
    weights = {"weights": options.weights} if options.weights else {}
    generator: Generator = installed().build("generator", options.gen, weights)
    generator.to(device).eval()
    with tempfile.TemporaryDirectory(prefix="gsegkit-clusters-") as temporary:
        folder = Path(temporary)
        reference, facts = None, None
        if options.data:
            reference, facts = train_reference(options, generator, device, folder / "reference")
            say(f"reference on {facts['held_out_images']} held-out photographs: mIoU {facts['miou']}, {facts['iou']}")
        parts, fits, notes = {}, [], []
        names = {entry.component.name for entry in installed().of_kind("extractor")}
        for method in options.methods:
            if METHODS[method][0] not in names:
                notes.append(f"{method} was left out: the extractor '{METHODS[method][0]}' is not installed")
        for method, seed, k, part, fit_facts in fit_all(options, generator, device, folder):
            parts[method, seed, k] = part
            if fit_facts:
                fits.append(fit_facts)
        if not parts:
            raise ConfigError("none of the methods is installed", "pip install gsegkit-clustering gsegkit-klish")
        classes = facts["classes"] if facts else []
        found, truth, pictures, masks, sure = score_all(options, generator, parts, reference, len(classes))
    if facts is not None:
        facts["mean_confidence_generated"] = round(sure, 4)
        shares = np.bincount(truth, minlength=len(classes)) / len(truth)
        facts["share_of_generated_pixels"] = {c: round(float(s), 4) for c, s in zip(classes, shares, strict=True)}
    rows = rows_of(options, found, truth, classes)
    if options.sheet:
        draw_sheet(options, found, pictures, masks)
    distributions = ("gsegkit", "gsegkit-clustering", "gsegkit-klish", "gsegkit-faiss", "faiss-cpu", "torch",
                     "scikit-learn", "scipy", "numpy")  # fmt: skip
    shared = {key: fits[0][key] for key in ("layers", "channels")}
    return {
        "what": "clusterings of a generator's pixels against " + ("a supervised segmenter" if facts else "each other"),
        "command": shown_command(sys.argv),
        "definitions": {name: METRICS[name] for name in METRICS if any(name in row for row in rows)},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        "threads": options.threads,
        "cpus": os.cpu_count(),
        "load_average": {"before": round(load_before, 2), "after": round(os.getloadavg()[0], 2)},
        "wall_seconds": round(time.perf_counter() - began, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": {"python": platform.python_version(), **_versions(distributions)},
        "seeds": list(range(options.seeds)),
        "generator": {
            "name": options.gen,
            "weights": Path(options.weights).name if options.weights else "default",
            "size": [generator.info.height, generator.info.width],
            **shared,
        },
        "data": options.data.name if options.data else None,
        "fitted_on": f"{options.images} images, {options.pixels} pixels of each (ahc: see its fits); others each seed",
        "scored_on": f"{options.eval_images} other images, the same for all; all but mIoU on {len(truth):,} of their "
        "pixels, equally many of each image",
        "notes": notes,
        "reference": facts,
        "results": rows,
        "klish_above_the_others": claim(rows),
        "fits": [{key: value for key, value in fit.items() if key not in shared} for fit in fits],
    }


def shown_command(argv: list[str]) -> str:
    """The command without the folders that this machine keeps things in."""
    words = [Path(word).name if "/" in word else word for word in argv[1:]]
    return " ".join(["python benchmarks/clusters.py", *words])


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gen", default="stylegan2")
    parser.add_argument("--weights", help="folder of weights, or name in the zoo; none = the generator's default")
    parser.add_argument("--data", type=Path, help="photographs with masks; none = stability only")
    parser.add_argument("--held-out", type=Path, help="photographs with masks to test the reference on")
    parser.add_argument("--k", type=int, nargs="+", default=[3, 6, 10, 20], help="numbers of clusters")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(TABLE_IV), choices=list(METHODS))
    parser.add_argument("--images", type=int, default=256, help="images that each clustering is fitted on; paper 256")
    parser.add_argument("--pixels", type=int, default=256, help="pixels of each; paper: all 65,536")
    parser.add_argument("--min-scale", type=float, default=0.25, help="smallest maps that all methods read; paper 0")
    parser.add_argument("--eval-images", type=int, default=1000, help="images that are scored; paper 10,000")
    parser.add_argument("--scored-pixels", type=int, default=200_000, help="pixels that AMI, ARI and stability see")
    parser.add_argument("-o", dest="option", action="append", default=[], help="METHOD.option=value of an extractor")
    parser.add_argument("--seg", default="unet", help="segmenter that is trained with labels")
    parser.add_argument("--seg-steps", type=int, default=1000)
    parser.add_argument("--reference", type=Path, help="folder to keep that segmenter in; taken from there next time")
    parser.add_argument("--sheet", type=Path, help="PNG: images with the clusters of all methods, seed 0")
    parser.add_argument("--sheet-k", type=int, help="number of clusters there; none = the largest")
    parser.add_argument("--sheet-images", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file; none = print it")
    options = parser.parse_args()
    if options.sheet_k is not None and options.sheet_k not in options.k:
        parser.error(f"--sheet-k {options.sheet_k} is not among --k")
    return options


def main() -> None:
    """Run and write the record."""
    options = parse()
    try:
        record = json.dumps(run(options), indent=1, ensure_ascii=False) + "\n"
    except GsegkitError as error:
        sys.exit(f"error: {error}")
    if options.out is None:
        print(record, end="")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(record, encoding="utf-8")


if __name__ == "__main__":
    main()
