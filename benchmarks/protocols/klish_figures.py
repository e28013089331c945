"""The figures of docs/explanation/klish.md, and the numbers of its three classes in the plane."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish
from PIL import Image
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from benchmarks.protocols.common import Lab
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit.images import to_pixels
from gsegkit.plugins import installed

COLOURS = torch.tensor(
    [[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75], [227, 119, 194],
     [127, 127, 127], [188, 189, 34], [23, 190, 207], [174, 199, 232], [255, 187, 120]], dtype=torch.uint8,
)  # fmt: skip
CUTS = (24, 12, 8, 6, 4, 3)
SEEDS = torch.arange(100, 110)


def plane(seed: int, n: int = 900) -> tuple[Tensor, np.ndarray]:
    """Three classes, linearly separable, one of them long; the data of the golden test."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(0, 1, n)
    top = np.stack([8 * t - 4, 2.6 + 0.25 * rng.standard_normal(n)], 1)
    left = np.stack([-2.6 + 0.42 * rng.standard_normal(n // 3), -0.6 + 0.35 * rng.standard_normal(n // 3)], 1)
    right = np.stack([2.6 + 0.4 * rng.standard_normal(n // 3), -0.6 + 0.35 * rng.standard_normal(n // 3)], 1)
    x = np.concatenate([top, left, right]).astype(np.float32)
    return torch.from_numpy(x), np.repeat([0, 1, 2], [n, n // 3, n // 3])


def scatter(x: Tensor, labels: np.ndarray | Tensor, size: int = 220) -> Tensor:
    """Points on white, [3, size, size] uint8."""
    picture = torch.full((size, size, 3), 255, dtype=torch.uint8)
    low, high = x.amin(0), x.amax(0)
    place = ((x - low) / (high - low) * (size - 13) + 6).long()
    for (column, row), label in zip(place.tolist(), np.asarray(labels).tolist(), strict=True):
        picture[size - row - 2 : size - row + 1, column - 1 : column + 2] = COLOURS[label % len(COLOURS)]
    return picture.permute(2, 0, 1)


def plane_scores(lab: Lab) -> dict[str, Any]:
    """Adjusted Rand index of k-means, ward and KLiSH with the truth, and the figure: truth, k-means, ward, KLiSH."""
    scores: dict[str, list[float]] = {"k-means": [], "ward": [], "klish": []}
    panels = []
    for seed in lab.seeds:
        x, truth = plane(seed)
        n = len(x)
        points = Points(x, torch.zeros(n).long(), torch.arange(n), (1, n), ("plane",))
        with tempfile.TemporaryDirectory() as scratch:
            config = KlishConfig(k0=4, C=100.0, kmeans="torch", filter=False)
            tree = Klish(config).cluster(points, RunContext(Path(scratch), seed=seed))
        found = {
            "k-means": TorchKMeans(KMeansConfig()).fit(x, 3, seed)[1].numpy(),
            "ward": AgglomerativeClustering(3).fit_predict(x.numpy()),
            "klish": torch.tensor(tree.levels[3].leaves)[tree.leaf].numpy(),
        }
        for name, labels in found.items():
            scores[name].append(round(float(adjusted_rand_score(truth, labels)), 3))
        if seed == lab.seeds[0]:
            panels = [scatter(x, labels) for labels in (truth, *found.values())]
    save(torch.cat(panels, dim=2), lab.figures("klish") / "toy.png", 1)
    return {"ari": scores}


def tree(lab: Lab) -> dict[str, Any]:
    """Cuts of one tree, and the confidence maps of one of its merges."""
    folder = lab.figures("klish")
    generator = installed().build("generator", "stylegan2", {"weights": "coffee-leaf-64"})
    part = Klish(KlishConfig())
    with tempfile.TemporaryDirectory() as scratch:
        part.fit(generator, RunContext(Path(scratch)))
    batch = generator.sample(SEEDS, features=part.features(generator.info))
    size = (generator.info.height, generator.info.width)
    rows = [to_pixels(batch.images)]
    colour: dict[int, int] = {}
    for k in CUTS:
        level = part.level(k)
        merges = {part.level(j).facts["into"]: part.level(j).facts for j in part.levels}
        for name in level.ids:  # a merged cluster keeps the colour of its larger half
            child = merges.get(name, {})
            colour.setdefault(name, colour.get(child.get("joins"), colour.get(child.get("weakest"), len(colour))))
        index = part.scores(batch.features, size, k).argmax(1)
        table = torch.stack([COLOURS[colour[name] % len(COLOURS)] for name in level.ids])
        rows.append(table[index].permute(0, 3, 1, 2))
    save(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1), folder / "cuts.png", 2)
    step = next(k for k in range(30, 2, -1) if part.level(k).facts["ecos"] > 0.05)
    facts = part.level(step).facts
    names, wanted = list(part.level(step).ids), [facts["weakest"], facts["joins"]]
    before = part.scores(batch.features, size, step)[:, [names.index(name) for name in wanted]]
    after_names = list(part.level(step - 1).ids)
    after = part.scores(batch.features, size, step - 1)[:, [after_names.index(facts["into"])]]
    confidence = (torch.cat([before, after], dim=1).clamp(-1, 1) + 1) / 2
    maps = (confidence * 255).to(torch.uint8)
    rows = [to_pixels(batch.images)] + [maps[:, [i]].expand(-1, 3, -1, -1) for i in range(3)]
    save(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1), folder / "merge.png", 2)
    return {"merge_at": step, "min_iou": round(facts["min_iou"], 4), "ecos": round(facts["ecos"], 4)}


def save(picture: Tensor, path: Path, times: int) -> None:
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.quantize(64).save(path, optimize=True)
