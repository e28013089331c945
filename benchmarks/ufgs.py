"""Unsupervised fine-grained segmentation: generator -> extractor -> pairs -> segmenter -> real annotated photographs.

    python benchmarks/ufgs.py --data FOLDER [--weights FOLDER] [--extractor klish] [--seeds 3] --out results.json

No real photograph is used for fitting. Clusters are matched to the true classes by KLiSH's greedy rule on 20 labelled
photographs that are then left out. Beside each row: a constant centre mask, Otsu's threshold, two-means on each
photograph's colours (foreground = the one that touches the edge less), all for the foreground; and a U-Net trained WITH
the labels of --train (default: half of --data, scored on the other half), which is the ceiling.
Finished runs lie in --runs and are not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import gsegkit
from gsegkit import api
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.interfaces import Predictor
from gsegkit.plugins import installed
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.types import IGNORE

MATCH_IMAGES = 20
SHOWN = ("iou_foreground", "miou", "accuracy", "baseline_centre_prior_iou", "baseline_otsu_iou")


def two_means(pixels: Tensor) -> Tensor:
    """Foreground [H, W] bool of one photograph [3, H, W] uint8: colours in two clusters."""
    _, height, width = pixels.shape
    labels = TorchKMeans(KMeansConfig()).fit(pixels.flatten(1).T.float().contiguous(), 2, 0)[1].view(height, width)
    edge = torch.cat([labels[0], labels[-1], labels[:, 0], labels[:, -1]]).float().mean()
    return labels == (0 if edge > 0.5 else 1)


def two_means_iou(dataset: LabelledDataset) -> float:
    """Mean IoU of the foreground over photographs."""
    ious = []
    for i in range(len(dataset)):
        sample = dataset[i]
        valid, truth = sample.mask != IGNORE, (sample.mask != 0) & (sample.mask != IGNORE)
        found = two_means(sample.pixels) & valid
        ious.append(float((found & truth).sum()) / max(float((found | truth).sum()), 1))
    return float(np.mean(ious))


def supervised(train: Path | None, data: LabelledDataset, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The ceiling: a U-Net trained with labels."""
    if train is not None:
        learn, test = api.open_labelled(train, api.Session.default()), data
    else:
        learn, test = halves(data)
    segmenter = installed().build("segmenter", "unet", {"steps": args.ceiling_steps})
    ctx = RunContext(folder, seed=0)
    segmenter.fit(learn, ctx)
    report = installed().build("evaluator", "masks", {"match": "index"}).evaluate(Predictor(segmenter), test, ctx)
    return {
        "trained_on": len(learn),
        "scored_on": len(test),
        **{name: report.metrics[name] for name in SHOWN[:3]},
        "per_class": {name: row["iou"] for name, row in report.per_class.items()},
    }


def halves(data: LabelledDataset) -> tuple[MemoryDataset, MemoryDataset]:
    """Every second photograph for learning, the others for the score, all in 64 x 64."""
    from gsegkit.images import fit_pixels

    made = []
    for start in (0, 1):
        samples = [data[i] for i in range(start, len(data), 2)]
        pixels = torch.cat([fit_pixels(s.pixels[None], (64, 64), "squash") for s in samples])
        masks = torch.cat([F.interpolate(s.mask[None, None], (64, 64), mode="nearest-exact")[0] for s in samples])
        made.append(MemoryDataset(pixels, masks, data.classes))
    return made[0], made[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--gen", default="stylegan2")
    parser.add_argument("--extractor", default="klish")
    parser.add_argument("--seg", default="unet")
    parser.add_argument("--refine", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--option", action="append", default=[])
    parser.add_argument("--ceiling-steps", type=int, default=600)
    parser.add_argument("--runs", type=Path, default=Path("runs/ufgs"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    options = [*args.option, f"eval.match_images={MATCH_IMAGES}"]
    options += [f"gen.weights={args.weights}"] if args.weights else []
    session = api.Session.default()
    data = api.open_labelled(args.data, session)
    rows = []
    for seed in range(args.seeds):
        folder = args.runs / f"{args.data.name}-{args.extractor}-{args.seg}-{seed}"
        done = folder / "report" / "metrics.json"
        if not done.exists():
            api.run(args.gen, args.extractor, args.seg, refine=args.refine, out=folder, options=options,
                    data=args.data, seed=seed, num_samples=2000)  # fmt: skip
        metrics, status = read_json(done), read_json(folder / "run.json")
        rows.append(
            {
                "seed": seed,
                "seconds": status["seconds"],
                **{name: metrics[name] for name in SHOWN},
                "per_class": {name: row["iou"] for name, row in metrics["per_class"].items()},
                "notes": metrics["notes"],
            }
        )
        print(rows[-1], flush=True)
    result = {
        "command": f"benchmarks/ufgs.py --data {args.data.name} --extractor {args.extractor} --seg {args.seg} "
        + " ".join(f"-o {option}" for option in args.option)
        + (f" --weights {Path(args.weights).name}" if args.weights else ""),
        "gsegkit": gsegkit.__version__,
        "torch": torch.__version__,
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "match_images": MATCH_IMAGES,
        "seeds": rows,
        "mean": {name: float(np.mean([row[name] for row in rows])) for name in SHOWN},
        "std": {name: float(np.std([row[name] for row in rows])) for name in SHOWN},
        "two_means_on_colour_iou": two_means_iou(data),
        "supervised_unet": supervised(args.train, data, args, args.runs / f"{args.data.name}-supervised"),
    }
    atomic_write_json(args.out, result)
    print(result["mean"], result["two_means_on_colour_iou"], result["supervised_unet"])


if __name__ == "__main__":
    main()
