"""KLiSH's defaults: layers, position, the cut; each on all zoo generators, scored on photographs with masks.

Training a segmenter for every setting would cost more than the fits. So one small U-Net for each generator learns to
read the generator's own feature maps off its pictures. Any extractor's classifiers then work on photographs: features
read off the photograph, scores, classes. What reading features from pictures loses is the same for all settings.

Clusters are matched to the true classes on 20 photographs (Algorithm 2 of the paper) and scored on others, at 64 px.
`stability` is the adjusted Rand index of two seeds' clusterings of the same generated pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from benchmarks.protocols.common import CASES, Lab, say
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.clustering.extractor import ClusterExtractor
from gsegkit.images import fit_pixels, to_images, to_pixels
from gsegkit.interfaces import Generator
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds

DATA = {
    "blood-cells-64": "wbc2_dev",
    "coffee-leaf-64": "coffee_leaf",
    "lpc-64": "lpc_parts",
    "portraits-64": "fasseg_frontal",
}
EVEN = ("coffee_leaf",)  # its odd files are for testing
SETTINGS: dict[str, dict[str, Any]] = {
    "maps from 32 px": {},
    "maps from 16 px": {"min_size": 16},
    "maps from 16 px, position out, 2 directions": {"min_size": 16, "mirrored": "auto", "position_rank": 2},
}
WIDTHS = (16, 32, 64, 96, 96)  # channels of the reader at 64, 32, 16, 8, 4 px
BATCH = 16
MATCHED, SCORED = 20, 60
HELD = 32  # generated images on which two seeds are compared

Maps = dict[str, Tensor]


class Reader(nn.Module):
    """Feature maps of a generator from its pictures: a U-Net with a head at the size of each map."""

    def __init__(self, channels: Mapping[int, int]) -> None:
        super().__init__()
        w = WIDTHS
        self.down = nn.ModuleList([_block(3 if i == 0 else w[i - 1], w[i]) for i in range(5)])
        self.up = nn.ModuleList([_block(w[i] + w[i + 1], w[i]) for i in range(4)])
        self.heads = nn.ModuleDict({str(s): nn.Conv2d(w[int(math.log2(64 // s))], c, 1) for s, c in channels.items()})

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """[N, 3, 64, 64] in [-1, 1] -> side of the map -> [N, C, side, side]."""
        kept: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if i else x)
            kept.append(x)
        found = {}
        for i in (3, 2, 1, 0):
            x = self.up[i](torch.cat([kept[i], F.interpolate(x, scale_factor=2, mode="bilinear")], dim=1))
            if str(side := 64 >> i) in self.heads:
                found[side] = self.heads[str(side)](x)
        return found


def _block(inside: int, outside: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for c in (inside, outside):
        parts += [nn.Conv2d(c, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def train_reader(generator: Generator, layers: tuple[str, ...], steps: int, pool: int) -> tuple[Reader, Maps, Maps]:
    """The reader and the mean and deviation of each map, [C, 1, 1]; trained on `pool` generated pictures."""
    batches = [generator.sample(part, features=layers) for part in sample_seeds(1, "dataset", 0, pool).split(BATCH)]
    pixels = torch.cat([to_pixels(batch.images) for batch in batches])
    maps = {name: torch.cat([batch.features[name] for batch in batches]) for name in layers}
    middle = {name: m.mean(dim=(0, 2, 3))[:, None, None] for name, m in maps.items()}
    spread = {name: m.std(dim=(0, 2, 3))[:, None, None] + 1e-3 for name, m in maps.items()}
    torch.manual_seed(0)
    reader = Reader({maps[name].shape[2]: maps[name].shape[1] for name in layers})
    optimiser = torch.optim.AdamW(reader.parameters(), 3e-3, weight_decay=0.01)
    for step in range(steps):
        rate = 3e-3 * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        draws = torch.Generator().manual_seed(step)
        rows = torch.randperm(len(pixels), generator=draws)[:BATCH]
        images, target = to_images(pixels[rows]), {n: (m[rows] - middle[n]) / spread[n] for n, m in maps.items()}
        change = torch.rand(3, len(rows), 1, 1, 1, generator=draws) * 0.4 - 0.2  # brightness, contrast, flip
        images = (images * (1 + change[0]) + change[1]).clamp(-1, 1)
        if float(change[2, 0]) < 0:
            images, target = images.flip(-1), {n: m.flip(-1) for n, m in target.items()}
        found = reader(images)
        loss = torch.stack([F.smooth_l1_loss(found[m.shape[2]], m, beta=0.5) for m in target.values()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    say(f"    reader: loss {float(loss):.3f}")
    return reader.eval(), middle, spread


def photographs(lab: Lab, name: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Pictures [N, 3, 64, 64] uint8, masks [N, 64, 64] uint8, classes; a fixed draw, the matched ones first."""
    data = lab.labelled(name)
    order = np.random.default_rng(0).permutation(len(data))
    pixels, masks = [], []
    for i in order:
        sample = data[int(i)]
        if name in EVEN and int("".join(filter(str.isdigit, sample.name))) % 2:
            continue
        if len(pixels) == MATCHED + SCORED:
            break
        pixels.append(fit_pixels(sample.pixels[None], (64, 64), "squash"))
        masks.append(F.interpolate(sample.mask[None, None].float(), (64, 64), mode="nearest-exact")[0].to(torch.uint8))
    return torch.cat(pixels), torch.cat(masks), tuple(data.classes)


def scored(labels: Tensor, masks: Tensor, clusters: int, classes: int, matched: int) -> dict[str, float]:
    """Mean IoU and foreground IoU per image, then mean, after matching on the first photographs."""
    tables = np.stack([contingency(mask, row, classes, clusters) for mask, row in zip(masks, labels, strict=True)])
    targets = np.array(greedy_targets(tables[:matched]))
    counts = (tables[matched:] @ np.eye(classes, dtype=np.int64)[targets]).astype(float)
    inside = np.einsum("nkk->nk", counts)
    union = counts.sum(1) + counts.sum(2) - inside
    per_class = [float((inside[u > 0, k] / u[u > 0]).mean()) for k, u in enumerate(union.T) if (u > 0).any()]
    whole = counts.sum((1, 2)) - counts[:, 0, 0]
    foreground = counts[:, 1:, 1:].sum((1, 2)) / np.maximum(whole, 1)
    return {"miou": mean(per_class), "foreground": float(foreground.mean())}


def one_case(
    lab: Lab, case: str, levels: list[int], fit: dict[str, Any], steps: int, pool: int
) -> dict[str, list[dict[str, Any]]]:
    """For each setting one row a seed."""
    generator = CASES[case].build(lab.device)
    layers = tuple(
        spec.name for spec in generator.info.features if spec.name in ("b16.conv1", "b32.conv1", "b64.conv1")
    )
    reader, middle, spread = train_reader(generator, layers, steps, pool)
    pixels, masks, classes = photographs(lab, DATA[case])
    with torch.no_grad():
        read = reader(to_images(pixels))
    features = {n: read[generator.info.feature(n).height] * spread[n] + middle[n] for n in layers}
    held = generator.sample(sample_seeds(0, "test", 0, HELD), features=layers).features
    matched = min(MATCHED, len(masks) // 2)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, options in SETTINGS.items():
        seen: list[dict[int, np.ndarray]] = []
        for seed in lab.seeds:
            part: ClusterExtractor = installed().build("extractor", "klish", {"kmeans": "torch", **fit, **options})
            began = time.process_time()
            part.fit(generator, lab.context(f"{case}-{name.replace(' ', '-')}-{seed}", "extractor", seed))
            row: dict[str, Any] = {"seed": seed, "auto": part.k, "coarse": part.coarse,
                                   "cpu_seconds": round(time.process_time() - began, 1),
                                   "rank": part.fit_facts.get("position_rank"), "levels": {}}  # fmt: skip
            seen.append({})
            for k in (k for k in levels if k in part.levels):
                labels = part.scores(features, (64, 64), k).argmax(dim=1)
                row["levels"][str(k)] = scored(labels, masks, k, len(classes), matched)
                seen[-1][k] = part.scores(held, (32, 32), k).argmax(dim=1).flatten().numpy()
                if len(seen) > 1 and k in seen[0]:
                    row["levels"][str(k)]["stability"] = float(adjusted_rand_score(seen[0][k], seen[-1][k]))
            rows.setdefault(name, []).append(row)
            say(f"{case} / {name} / {seed}: {row}")
    return rows


def ablation(
    lab: Lab, cases: list[str], levels: list[int], fit: dict[str, Any], steps: int = 150, pool: int = 384
) -> dict[str, Any]:
    """Every setting on every case; means over cases and seeds. `fit`: options of klish that all settings share."""
    if lab.tiny:
        cases, steps, pool = cases[:1], 3, 32
    rows = {case: one_case(lab, case, levels, fit, steps, pool) for case in cases}
    means: dict[str, Any] = {}
    for name in SETTINGS:
        for k in map(str, levels):
            every = [row["levels"][k] for case in rows.values() for row in case[name] if k in row["levels"]]
            if every:
                keys = ("miou", "foreground")
                means.setdefault(name, {})[k] = {key: round(mean(row[key] for row in every), 4) for key in keys}
    return {"rows": rows, "mean": means}
