"""Frechet distance of generated and real pictures on a named backbone, beside that of two halves of the reals.

    python benchmarks/frechet.py --data FOLDER [--held-out FOLDER] [--gen stylegan2] [--samples 873]

With the backbone of the evaluator `frechet` (resnet18, random weights), as `gsegkit evaluate-generator` takes it; this
adds noise and held-out photographs as marks on the scale. Read the number beside that of the halves, never as an FID.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from gsegkit_eval.frechet import Backbone, frechet_distance
from torch import Tensor

from gsegkit.dataset import UnlabelledImages
from gsegkit.images import fit_pixels, list_images, to_images
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds


def features(network: Backbone, images: Tensor) -> np.ndarray:
    """[N, 3, H, W] float32 in [-1, 1] -> [N, 448] float64."""
    return torch.cat([network(part) for part in images.split(64)]).numpy()


def main() -> None:
    """Print the distances as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the photographs that the generator was trained on")
    parser.add_argument("--held-out", type=Path, help="photographs that it has not seen")
    parser.add_argument(
        "--held-out-size", type=int, nargs=2, metavar=("H", "W"), help="reduce them to the size of --data first"
    )
    parser.add_argument("--gen", default="stylegan2")
    parser.add_argument("--weights", help="folder, or name in the zoo")
    parser.add_argument("--samples", type=int, default=873)
    options = parser.parse_args()
    generator = installed().build("generator", options.gen, {"weights": options.weights} if options.weights else {})
    size = (generator.info.height, generator.info.width)
    network = Backbone()

    def reals(folder: Path, first: tuple[int, int] | None = None) -> np.ndarray:
        files = UnlabelledImages(tuple(list_images(folder)), first or size, generator.info.fit_rule)
        return features(network, to_images(fit_pixels(files.batch(range(len(files))), size, generator.info.fit_rule)))

    real = reals(options.data)
    order = np.random.RandomState(0).permutation(len(real))
    half, other = real[order[: len(real) // 2]], real[order[len(real) // 2 :]]
    seeds = sample_seeds(0, "test", 0, options.samples)
    made = torch.cat([generator.sample(part).images for part in torch.split(seeds, 32)]).clamp(-1, 1)
    fake = features(network, made)
    scale = np.cov(real, rowvar=False).trace()
    found = {
        "backbone": network.title,
        "unit": "share of the reals' total variance",
        "real half - real half": round(frechet_distance(half, other) / scale, 4),
        "generated - real half": round(frechet_distance(fake[: len(half)], half) / scale, 4),
        "noise of the same mean and spread per pixel - real half": round(
            frechet_distance(features(network, torch.randn_like(made) * made.std() + made.mean()), half) / scale, 4
        ),
    }
    if options.held_out:
        held = reals(options.held_out, tuple(options.held_out_size) if options.held_out_size else None)
        found["generated - held out"] = round(frechet_distance(fake, held) / scale, 4)
        found["real half - held out"] = round(frechet_distance(half, held) / scale, 4)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
