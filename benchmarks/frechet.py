"""Frechet distance of generated and real pictures on a named backbone, beside that of two halves of the reals.

    python benchmarks/frechet.py --data FOLDER [--held-out FOLDER] [--gen stylegan2] [--samples 873]

The backbone is timm's resnet18 with random weights (seed 0): pretrained weights were learned from labels, and are
not at hand offline. Read the number beside that of the halves, never as an FID. Features are the channel means of
stages 1 to 3.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor

from gsegkit.dataset import UnlabelledImages
from gsegkit.images import fit_pixels, list_images, to_images
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds

BACKBONE = "resnet18, random weights, torch seed 0, means of stages 1-3 (448 numbers)"


def backbone() -> torch.nn.Module:
    """The feature extractor; the same on every machine with this torch."""
    torch.manual_seed(0)
    return timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1, 2, 3)).eval()


@torch.no_grad()
def features(network: torch.nn.Module, images: Tensor) -> np.ndarray:
    """[N, 3, H, W] float32 in [-1, 1] -> [N, 448] float64."""
    rows = [torch.cat([stage.mean((2, 3)) for stage in network(part)], dim=1) for part in images.split(64)]
    return torch.cat(rows).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features, [N, D] and [M, D]."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (A B)^(1/2) by eigenvalues: the product is often singular, and they stay well-defined then
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(min=0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * root)


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
    network = backbone()

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
        "backbone": BACKBONE,
        "unit": "share of the reals' total variance",
        "real half - real half": round(frechet(half, other) / scale, 4),
        "generated - real half": round(frechet(fake[: len(half)], half) / scale, 4),
        "noise of the same mean and spread per pixel - real half": round(
            frechet(features(network, torch.randn_like(made) * made.std() + made.mean()), half) / scale, 4
        ),
    }
    if options.held_out:
        held = reals(options.held_out, tuple(options.held_out_size) if options.held_out_size else None)
        found["generated - held out"] = round(frechet(fake, held) / scale, 4)
        found["real half - held out"] = round(frechet(half, held) / scale, 4)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
