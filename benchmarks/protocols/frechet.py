"""Frechet distance of generated and real pictures on a named backbone, beside that of two halves of the reals.

`evaluator` and `lite` are what `gsegkit evaluate-generator` says, on a random resnet18 and on EfficientNet-Lite0;
`distances` adds noise and held-out photographs as marks on the former's scale. Read the number beside that of the
halves, never as an FID.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gsegkit_eval.frechet import FALLBACK, Backbone, LiteBackbone, frechet_distance
from gsegkit_eval.pictures import IMAGES, generated, halves, photographed
from torch import Tensor

from benchmarks.protocols.common import CASES, Lab
from gsegkit.dataset import UnlabelledImages
from gsegkit.images import fit_pixels, list_images, to_images
from gsegkit.plugins import installed
from gsegkit.rundir import stage_key
from gsegkit.seeds import sample_seeds
from gsegkit.storage import atomic_write_json, read_json


def features(network: Backbone, images: Tensor) -> np.ndarray:
    """[N, 3, H, W] float32 in [-1, 1] -> [N, 448] float64."""
    return torch.cat([network(part) for part in images.split(64)]).numpy()


def distances(
    lab: Lab, case: str, data: str, held_out: str, samples: int, held_out_size: list[int] | None = None
) -> dict[str, Any]:
    """Of the case's generator to the photographs `data` that it was trained on, and to some it has not seen.

    `held_out_size` [H, W]: these are reduced to it first.
    """
    generator = CASES[case].build(lab.device)
    size, rule = (generator.info.height, generator.info.width), generator.info.fit_rule
    network = Backbone()

    def reals(name: str, first: tuple[int, ...] | None = None) -> np.ndarray:
        files = UnlabelledImages(tuple(list_images(lab.data(name) / "images")), first or size, rule)
        return features(network, to_images(fit_pixels(files.batch(range(len(files))), size, rule)))

    real = reals(data)
    order = np.random.RandomState(0).permutation(len(real))
    half, other = real[order[: len(real) // 2]], real[order[len(real) // 2 :]]
    seeds = sample_seeds(0, "test", 0, samples)
    made = torch.cat([generator.sample(part).images for part in torch.split(seeds, 32)]).clamp(-1, 1)
    fake, held = features(network, made), reals(held_out, tuple(held_out_size) if held_out_size else None)
    scale = np.cov(real, rowvar=False).trace()
    noise = features(network, torch.randn_like(made) * made.std() + made.mean())
    pairs = {
        "real half - real half": (half, other),
        "generated - real half": (fake[: len(half)], half),
        "noise of the same mean and spread per pixel - real half": (noise, half),
        "generated - held out": (fake, held),
        "real half - held out": (half, held),
    }
    found = {name: round(float(frechet_distance(one, two) / scale), 4) for name, (one, two) in pairs.items()}
    return {"backbone": network.title, "unit": "share of the reals' total variance", **found}


def evaluator(lab: Lab, cases: dict[str, str]) -> dict[str, Any]:
    """What the evaluator `frechet` says of generators on a random resnet18; case -> photographs."""
    found: dict[str, Any] = {}
    for name, data in cases.items():
        generator = CASES[name].build(lab.device)
        images = installed().build("dataset", "folder").images(lab.data(data))
        judge = installed().build("generator-evaluator", "frechet", {"backbone": FALLBACK})
        report = judge.evaluate(generator, images, lab.context(name, "frechet", 0))
        found[name] = {k: round(float(v), 4) for k, v in report.metrics.items() if isinstance(v, int | float)}
    return found


def lite(lab: Lab, cases: list[dict[str, str]], samples: int) -> dict[str, Any]:
    """FD(efficientnet-lite0) of generators, a process for each of the `cases`; see `lite_row` for what they hold."""
    rows = []
    for row in cases:
        path = _kept(lab, samples=samples, **row)
        rows.append(read_json(path) if path.exists() else lab.process("frechet.lite_row", **row, samples=samples))
    return {"rows": rows}


def lite_row(lab: Lab, name: str, case: str, data: str, samples: int) -> dict[str, Any]:
    """FD(efficientnet-lite0) of `samples` images and photographs, and of half as many on both sides.

    The latter, `equal`, has as many images as each of the `halves` of the photographs has, so the two compare.

    Args:
        lab: work folder, device.
        name: of the row.
        case: the generator.
        data: photographs.
        samples: number of images, and of photographs at most.
    """
    generator = CASES[case].build(lab.device)
    images = installed().build("dataset", "folder").images(lab.data(data))
    ctx = lab.context(name, "lite", 0)
    start = time.process_time()
    network = LiteBackbone().to(lab.device)
    made = generated(generator, network, samples, ctx)[IMAGES]
    real = photographed(generator, images, network, samples, ctx)
    whole = frechet_distance(made.numpy(), real.numpy())
    seconds = time.process_time() - start
    one, other = halves(real, ctx)
    found = {
        "name": name,
        "fd": round(whole, 2),
        "equal": round(frechet_distance(made[: len(one)].numpy(), one.numpy()), 2),
        "halves": round(frechet_distance(one.numpy(), other.numpy()), 2),
        "num_samples": len(made),
        "num_images": len(real),
        "cpu_seconds": round(seconds, 1),
    }
    atomic_write_json(_kept(lab, name, case, data, samples), found)
    return found


def _kept(lab: Lab, name: str, case: str, data: str, samples: int) -> Path:
    """Where a row's numbers are kept, so that the same command continues."""
    return lab.work / "rows" / f"{stage_key('lite', name, case, data, samples, lab.tiny)}.json"
