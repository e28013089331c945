"""Speed of every segmenter at 64 x 64 pixels: images a second in training, milliseconds for one prediction.

    python benchmarks/segmenters.py [--threads 2] [--device cpu] [--out benchmarks/results/segmenters.json]

The architectures take turns, round after round, so that other work on the machine slows all of them alike: the
ratios to the U-Net hold better than the absolute numbers. Every number is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path

import torch
from gsegkit_smp import ARCHITECTURES
from gsegkit_smp.losses import segmentation_loss
from gsegkit_smp.segmenter import SmpSegmenter
from gsegkit_smp.training import Precision, build_optimizer

from gsegkit.images import to_images
from gsegkit.plugins import installed

SIZE, NUM_CLASSES, ROUNDS, PREDICTIONS = 64, 4, 5, 5


class Subject:
    """One architecture with its default options: a training step and a prediction that can be timed."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.device = device
        self.segmenter: SmpSegmenter = installed().build("segmenter", name)
        classes = [str(i) for i in range(NUM_CLASSES)]
        self.segmenter.to(device).restore({"classes": classes, "train_size": [SIZE, SIZE], "fit_rule": "native"})
        self.config = self.segmenter.config
        self.optimizer = build_optimizer(self.segmenter.network, self.config, device)
        self.precision = Precision(self.config.amp, device)
        self.pixels = torch.randint(0, 256, (self.config.batch_size, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
        self.masks = torch.randint(0, NUM_CLASSES, (len(self.pixels), SIZE, SIZE), device=device)

    def train_step(self) -> None:
        """One update of the weights."""
        self.segmenter.train()
        with self.precision.autocast():
            logits = self.segmenter.logits(to_images(self.pixels))
        self.precision.step(segmentation_loss(logits, self.masks), self.optimizer, self.config.grad_clip)

    def predict(self) -> None:
        """The mask of one image."""
        self.segmenter.eval()
        self.segmenter.predict(self.pixels[:1])

    def seconds(self, work: str, repeats: int) -> float:
        """Wall time of one `train_step` or `predict`."""
        synchronize = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            getattr(self, work)()
        synchronize()
        return (time.perf_counter() - started) / repeats


def measure(device: torch.device) -> list[dict[str, object]]:
    subjects = {name: Subject(name, device) for name in ARCHITECTURES}
    times: dict[str, dict[str, list[float]]] = {name: {"train_step": [], "predict": []} for name in subjects}
    for turn in range(ROUNDS + 1):
        for name, subject in subjects.items():
            for work, repeats in (("train_step", 1), ("predict", PREDICTIONS)):
                seconds = subject.seconds(work, repeats)
                if turn > 0:  # the first round pays for kernels being chosen
                    times[name][work].append(seconds)
    rows = []
    unet = statistics.median(times["unet"]["train_step"])
    for name, subject in subjects.items():
        step, predict = (statistics.median(times[name][work]) for work in ("train_step", "predict"))
        rows.append(
            {
                "segmenter": name,
                "encoder": subject.config.encoder,
                "million_parameters": round(sum(p.numel() for p in subject.segmenter.parameters()) / 1e6, 2),
                "train_images_per_second": round(len(subject.pixels) / step, 1),
                "train_step_ms": round(step * 1e3, 1),
                "train_step_ms_best": round(min(times[name]["train_step"]) * 1e3, 1),
                "predict_ms": round(predict * 1e3, 2),
                "step_time_over_unet": round(step / unet, 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "segmenters.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    load_before = os.getloadavg()[0]
    rows = measure(device)
    versions = {
        name: metadata.version(name) for name in ("gsegkit-smp", "torch", "segmentation-models-pytorch", "timm")
    }
    record = {
        "what": f"default options, {SIZE} x {SIZE} px, {NUM_CLASSES} classes, training batch 16, prediction batch 1",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": options.threads,
        "cpus": os.cpu_count(),
        "load_average": {"before": round(load_before, 2), "after": round(os.getloadavg()[0], 2)},
        "note": "load above the number of threads means that other work ran: trust the ratios, not the times",
        "seed": 0,
        "rounds": ROUNDS,
        "versions": {"python": platform.python_version(), **versions},
        "results": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(*(f"{value:>12}" for value in row.values()))


if __name__ == "__main__":
    main()
