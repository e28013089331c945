"""Small generators trained on the toy's pictures with the same CPU time each, and what methods make of them.

For every generator: steps that fit into the CPU seconds given (found by two short trainings), the Frechet distance of
its pictures to the toy's beside that of two sets of the toy, and the masks that an extractor's segmenter puts on toy
pictures, against the exact ones. The toy itself is the last row: what a perfect generator would give.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gsegkit_eval.frechet import Backbone, frechet_distance

from benchmarks.protocols.common import Case, Lab, Row, say
from benchmarks.protocols.frechet import features
from gsegkit.api import train_generator
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import GsegkitError
from gsegkit.images import to_pixels, write_png
from gsegkit.seeds import sample_seeds
from gsegkit.storage import atomic_write_json, read_json

SHORT = (32, 96)  # steps of the two trainings that tell how long a step takes
TRUTH = 500  # toy pictures with exact masks that segmenters are scored on
STYLEGAN2 = "stylegan2"  # is told images, not steps


def toy(lab: Lab, generators: dict[str, dict[str, Any]], size: int, photographs: int, cpu_seconds: float,
        samples: int, extractors: dict[str, dict[str, Any]]) -> dict[str, Any]:  # fmt: skip
    """Train, compare, segment; see above.

    Args:
        lab: work folder, seeds (the first one is used), device.
        generators: name -> options.
        size: side of the pictures.
        photographs: toy pictures to train on; as many others and generated ones are compared with them.
        cpu_seconds: for each training, on one thread.
        samples: pairs of each segmenter.
        extractors: name -> options.
    """
    source, seed = Toy(ToyConfig(size=size)), lab.seeds[0]
    photographs, samples = (64, 32) if lab.tiny else (photographs, samples)
    seen, unseen = (source.sample(sample_seeds(seed, role, 0, photographs)) for role in ("dataset", "validation"))
    folder = lab.work / f"toy-{size}-{photographs}"
    if not folder.exists():
        for i, pixels in enumerate(to_pixels(seen.images)):
            write_png(folder.with_name(f"{folder.name}.part") / f"{i:05d}.png", pixels)
        folder.with_name(f"{folder.name}.part").rename(folder)
    truth = source.sample(sample_seeds(seed, "preview", 0, 20 if lab.tiny else TRUTH))
    data = MemoryDataset(to_pixels(truth.images), (source.truth(truth) > 0).to(torch.uint8), ("background", "object"))
    network = Backbone()
    real = features(network, seen.images)
    spread = float(real.var(axis=0, ddof=1).sum())
    floor = float(frechet_distance(features(network, unseen.images), real)) / spread
    rows = []
    for name, options in generators.items():
        found = _trained(lab, name, {**options, "resolution": size}, folder, cpu_seconds)
        case = Case(name, name, str(found.pop("folder")))
        generator = case.build(lab.device)
        made = torch.cat(
            [generator.sample(part).images for part in sample_seeds(seed, "test", 0, photographs).split(64)]
        )
        distance = float(frechet_distance(features(network, made), real)) / spread
        found |= {"distance": round(distance, 4), "parameters": sum(p.numel() for p in generator.parameters())}
        rows.append({"generator": name, **found, **_segmented(lab, case, data, samples, extractors)})
        say(str(rows[-1]))
    perfect = _Toy("toy", "toy", size=size)
    rows.append(
        {"generator": "toy", "distance": round(floor, 4), **_segmented(lab, perfect, data, samples, extractors)}
    )
    say(str(rows[-1]))
    return {"size": size, "photographs": photographs, "backbone": network.title, "floor": round(floor, 4), "rows": rows}


@dataclass(frozen=True)
class _Toy(Case):
    """The toy itself, at another size than its default."""

    size: int = 32

    def build(self, device: torch.device) -> Toy:
        """See `Case.build`."""
        return Toy(ToyConfig(size=self.size)).to(device)


def _segmented(
    lab: Lab, case: Case, data: MemoryDataset, samples: int, extractors: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Foreground IoU of each extractor's segmenter on the toy."""
    found: dict[str, Any] = {}
    for name, options in extractors.items():
        row = Row("trained", name, options, extractor=name, match_images=None if name == "directions" else 20)
        try:
            numbers = lab.measured(case, row, lab.seeds[0], data, samples)
        except GsegkitError as error:  # a method that fails is a result
            found[name] = {"error": str(error).replace(str(lab.work), "WORK")}
            continue
        found[name] = {key: numbers[key] for key in ("iou_foreground", "accuracy", "search_seconds")}
        found |= {key: numbers[key] for key in ("baseline_otsu_iou", "baseline_centre_prior_iou")}
    return found


def _trained(lab: Lab, name: str, options: dict[str, Any], photographs: Path, cpu_seconds: float) -> dict[str, Any]:
    """A training of about so many CPU seconds: its folder, steps and seconds."""
    short = [_part(lab, name, options, photographs, 2 * (i + 1) if lab.tiny else n) for i, n in enumerate(SHORT)]
    (few, one), (many, other) = ((part["steps"], part["cpu_seconds"]) for part in short)
    each = max((other - one) / (many - few), 1e-4)
    steps = 4 if lab.tiny else max(many, round(cpu_seconds / each))
    found = _part(lab, name, options, photographs, steps)
    say(f"{name}: {each:.4f} CPU seconds a step; {found}")
    return found


def _part(lab: Lab, name: str, options: dict[str, Any], photographs: Path, steps: int) -> dict[str, Any]:
    return lab.process("trained.one", generator=name, settings=options, photographs=str(photographs), steps=steps)


def one(lab: Lab, generator: str, settings: dict[str, Any], photographs: str, steps: int) -> dict[str, Any]:
    """Train once; a process of its own."""
    batch = settings.get("batch_size", 16)
    length = {"kimg": steps * batch / 1000, "batch_size": batch} if generator == STYLEGAN2 else {"steps": steps}
    folder = lab.work / f"{generator}-{steps}"
    record = folder.with_suffix(".json")
    if not record.exists():
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted one, whose time is not known
        began, wall = time.process_time(), time.perf_counter()
        train_generator(
            generator, photographs, folder, options={**settings, **length}, seed=lab.seeds[0], device=str(lab.device)
        )
        spent = {"cpu_seconds": round(time.process_time() - began, 2), "seconds": round(time.perf_counter() - wall, 1)}
        atomic_write_json(record, {"folder": str(folder), "steps": steps, **spent})
    return dict(read_json(record))
