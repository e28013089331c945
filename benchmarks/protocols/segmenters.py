"""Segmenters at 64 x 64 pixels: speed of every architecture, and what some learn from the toy's exact masks.

`speed`: the architectures take turns, round after round, so that other work on the machine slows all of them alike: the
ratios to the U-Net hold better than the absolute numbers. Every number is the median of the rounds.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from gsegkit_smp import ARCHITECTURES
from gsegkit_smp.losses import segmentation_loss
from gsegkit_smp.segmenter import SmpSegmenter
from gsegkit_smp.training import Precision, build_optimizer

from benchmarks.protocols.common import CASES, Lab, say
from gsegkit.dataset import MemoryDataset
from gsegkit.images import to_images, to_pixels
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds

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
        self.precision = Precision(self.config.dtype, device)
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


def speed(lab: Lab) -> dict[str, Any]:
    """A training step and a prediction of every architecture with its default options."""
    torch.manual_seed(0)
    subjects = {name: Subject(name, lab.device) for name in (ARCHITECTURES if not lab.tiny else ("unet", "fpn"))}
    times: dict[str, dict[str, list[float]]] = {name: {"train_step": [], "predict": []} for name in subjects}
    for turn in range(2 if lab.tiny else ROUNDS + 1):
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
    return {"rounds": ROUNDS, "rows": rows}


def toy(lab: Lab, rows: list[dict[str, Any]], train_images: int = 2000, test_images: int = 200) -> dict[str, Any]:
    """Foreground IoU on the toy's test pictures after training on its exact masks; a row: segmenter, its options."""
    if lab.tiny:
        train_images, test_images = 40, 10
    train, test = _toy_pairs(lab, "dataset", train_images), _toy_pairs(lab, "test", test_images)
    found = []
    for number, row in enumerate(rows):
        ctx = lab.context(str(number), "segmenter", lab.seeds[0])
        segmenter: SmpSegmenter = (
            installed().build("segmenter", row["segmenter"], row.get("options", {})).to(lab.device)
        )
        began = time.process_time()
        segmenter.fit(train, ctx)
        seconds = time.process_time() - began
        masks = torch.cat([segmenter.eval().predict(pixels) for pixels in test.pixels.split(32)]) > 0
        truth = test.masks > 0
        ious = (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2)).clamp_min(1)
        facts = {"encoder": segmenter.config.encoder, "steps": segmenter.config.steps}
        found.append({**row, **facts, "cpu_seconds": round(seconds, 1), "iou_foreground": round(float(ious.mean()), 4)})
        say(str(found[-1]))
    return {"train_images": train_images, "test_images": test_images, "rows": found}


def _toy_pairs(lab: Lab, purpose: str, count: int) -> MemoryDataset:
    generator = CASES["toy"].build(lab.device)
    pixels, masks = [], []
    for seeds in sample_seeds(lab.seeds[0], purpose, 0, count).split(100):
        batch = generator.sample(seeds)
        pixels.append(to_pixels(batch.images))
        masks.append(generator.truth(batch).to(torch.uint8))
    names = ("background", *(f"part-{number}" for number in range(1, NUM_CLASSES)))
    return MemoryDataset(torch.cat(pixels), torch.cat(masks), names, fit_rule="native")
