"""Frechet distance of generated and real pictures on a named backbone, beside that of two halves of the reals.

`evaluator` and `lite` are what `gsegkit evaluate-generator` says, on a random resnet18 and on EfficientNet-Lite0;
`distances` adds noise and held-out photographs as marks on the former's scale. Read the number beside that of the
halves, never as an FID.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from gsegkit_eval.frechet import FALLBACK, LITE_LABEL, Backbone, frechet_distance
from torch import Tensor

from benchmarks.protocols.common import CASES, Lab
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.held_out import InMemory
from gsegkit.images import fit_pixels, list_images, to_images, to_pixels
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds


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
    """FD(efficientnet-lite0) of generators: of `samples` images and photographs, and of half as many.

    The latter, `equal`, has as many images on each side as the halves of the photographs, so the two compare.

    Args:
        lab: work folder, device.
        cases: `name` of the row, `case` (a generator), `data` (photographs; "" = other pictures of the generator).
        samples: number of images, and of photographs.
    """
    rows = []
    for row in cases:
        generator = CASES[row["case"]].build(lab.device)
        if row["data"]:
            images = installed().build("dataset", "folder").images(lab.data(row["data"]))
        else:
            batches = torch.split(sample_seeds(0, "validation", 0, samples), 32)
            pixels = torch.cat([to_pixels(generator.sample(part).images) for part in batches])
            images = InMemory((), pixels=pixels)
        reports = []
        for count in (samples, samples // 2):
            judge = installed().build("generator-evaluator", "frechet", {"backbone": "lite", "num_samples": count})
            start = time.process_time()
            metrics = judge.evaluate(generator, images, lab.context(row["name"], "lite", 0)).metrics
            reports.append((metrics, time.process_time() - start))
        (whole, seconds), (half, _) = reports
        rows.append(
            {
                "name": row["name"],
                "fd": round(float(whole[LITE_LABEL]), 2),
                "equal": round(float(half[LITE_LABEL]), 2),
                "halves": round(float(whole[f"{LITE_LABEL}_halves"]), 2),
                "num_samples": whole["num_samples"],
                "num_images": whole["num_images"],
                "cpu_seconds": round(seconds, 1),
            }
        )
    return {"rows": rows}
