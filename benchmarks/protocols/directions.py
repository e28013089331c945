"""Directions, measured: the papers' ablations on our generators, the toy, speed, cosines and figures.

`toy`: exact masks. `tables`: generator -> directions -> refiners -> segmenter -> annotated photographs, for every row
and seed. `speed`: seconds a step beside a plain reading. `pictures`: cosines, and the figures of
docs/explanation/directions.md.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from gsegkit_directions.directions import Directions, Search
from gsegkit_directions.figures import mask_pixels
from gsegkit_directions.latents import SPREAD_SAMPLES
from gsegkit_directions.losses import luma, terms
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.protocols.common import CASES, Lab, Row, say, table
from gsegkit.context import RunContext, read_metrics
from gsegkit.engine.synthesis import label_samples
from gsegkit.images import grid
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.plugins import installed
from gsegkit.taps import frozen

SHOWN = 8
COLOURS = 96  # of a figure: a third of the bytes
#: Paper, Table 5: cosine of the two directions.
PAPER_COSINES = {"BigBiGAN": -0.4376, "SelfCondGAN": -0.7854, "UncondGAN": -0.3522, "ContraGAN": -0.3297,
                 "SAGAN": -0.4648}  # fmt: skip


LARGE = {"max_area": 0.8}  # the published limit of 0.5 would leave no leaf
ROWS = (
    Row("masks", "both"),
    Row("masks", "light", {"mask": "light"}),
    Row("masks", "dark", {"mask": "dark"}),
    Row("masks", "ensemble of light and dark", members=("light", "dark")),
    Row("masks", "both, level zero as in the paper", {"level": "zero"}),
    Row("weights", "lambda / 4", {"prior_weight": 0.1}),
    Row("weights", "lambda", {}),
    Row("weights", "lambda x 4", {"prior_weight": 1.6}),
    Row("weights", "lambda x 16", {"prior_weight": 6.4}),
    Row("shifts", "search 0.05", {"shift": 0.05}),
    Row("shifts", "search 0.19", {}),
    Row("shifts", "search 0.46", {"shift": 0.46}),
    Row("shifts", "search 0.92", {"shift": 0.92}),
    Row("shifts", "masks 0.19", {"mask_shift": 0.19}),
    Row("shifts", "masks 0.92", {"mask_shift": 0.92}),
    Row("others", "default", {}),
    Row("others", "profile reference", {"profile": "reference"}),
    Row("others", "profile paper", {"profile": "paper"}),
    Row("others", "refiner voynov", refine=(("voynov", LARGE),)),
    Row("others", "refiner voynov, strict", refine=(("voynov", {"profile": "strict", **LARGE}),)),
    Row("others", "no refiner", refine=()),
    Row("others", "segmenter unet-paper", segmenter=("unet-paper", {})),
    Row("others", "colour-maps", extractor="colour-maps"),
    Row("others", "klish, 2 clusters", {"k": 2}, extractor="klish"),
)


# ---- toy ---------------------------------------------------------------------------------------------------------


def toy(lab: Lab) -> dict[str, Any]:
    """IoU with the exact masks for both directions and each alone, for our level and the paper's, over 5 seeds."""
    rows = []
    generator = CASES["toy"].build(lab.device)
    for seed in lab.seeds:
        numbers: dict[str, Any] = {"seed": seed}
        for level in ("otsu", "zero"):
            for mask in ("both", "light", "dark"):
                row = Row("toy", mask, {"mask": mask, "level": level})
                extractor, seconds, _ = lab.fitted(generator, row, seed)
                numbers[f"{mask}, level {level}"] = _toy_iou(extractor, generator, seed, lab)
        assert isinstance(extractor, Directions)
        extra, _, _ = lab.fitted(generator, Row("toy", "colour-maps", extractor="colour-maps"), seed)
        numbers |= {"colour-maps": _toy_iou(extra, generator, seed, lab), "cosine": extractor.found["cosine"],
                    "seconds": seconds}  # fmt: skip
        say(f"toy {numbers}")
        rows.append(numbers)
    names = [name for name in rows[0] if name != "seed"]
    mean = {name: round(statistics.mean(row[name] for row in rows), 4) for name in names}
    return {"samples": 256, "mean": mean, "rows": rows}


@torch.no_grad()
def _toy_iou(extractor: MaskExtractor, generator: Generator, seed: int, lab: Lab) -> float:
    batch = generator.sample(lab.context("", "toy", seed).seeds("test", 256))
    found, truth = extractor.extract(batch, generator).probs.argmax(dim=1) == 1, generator.truth(batch) > 0
    ious = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp_min(1)
    return round(float(ious.mean()), 4)


# ---- speed -------------------------------------------------------------------------------------------------------


def speed(lab: Lab, cases: list[str], rounds: int = 12) -> dict[str, Any]:
    """Seconds a step for both directions: ours, and a plain reading; they take turns, the medians count."""
    rows = []
    for case in (CASES[name] for name in cases):
        generator = case.build(lab.device)
        extractor = Directions(installed().find("extractor", "directions").config_class()())
        ctx = lab.context(case.name, "speed", 0)
        with frozen(generator):
            extractor._measure_space(generator, ctx)
            term = extractor._measure_edges(generator, ctx)
            search = Search(extractor.space.free_shape, ctx).to(lab.device)
            times: dict[str, list[float]] = {"ours": [], "plain": []}
            for step in range((1 if lab.tiny else rounds) + 1):
                for name in times:
                    began = time.perf_counter()
                    search.free.grad = None
                    if name == "ours":
                        extractor._accumulate(generator, term, search, step, ctx)
                    else:
                        _plain_step(extractor, generator, search.free, step, ctx)
                    if lab.device.type == "cuda":
                        torch.cuda.synchronize()
                    if step:  # the first pays for kernels being chosen
                        times[name].append(time.perf_counter() - began)
        ours, plain = (statistics.median(times[name]) for name in times)
        config = extractor.config
        row = {"generator": case.name, "batch": config.batch_size, "ours_seconds": round(ours, 4),
               "plain_seconds": round(plain, 4), "ratio": round(plain / ours, 2), "steps": config.steps,
               "search_seconds": round(ours * config.steps, 1)}  # fmt: skip
        say(f"speed {row}")
        rows.append(row)
    return {"rows": rows}


def _plain_step(extractor: Directions, generator: Generator, free: Tensor, step: int, ctx: RunContext) -> None:
    """The plain reading: for each direction two full forward passes, both in the graph, nothing shared."""
    config = extractor.config
    term = terms("code", generator.info.height, generator.info.width, ctx.device)
    for index, sign in enumerate((1.0, -1.0)):
        seeds = ctx.seeds("fit", config.batch_size, SPREAD_SAMPLES + step * config.batch_size)
        latents = generator.latents(seeds).detach().requires_grad_()
        labels = generator.labels(seeds)
        v = free[index] / free[index].norm()
        shifted = generator.synthesize(latents + config.shift * extractor.space.spread * v, labels).images
        original = generator.synthesize(latents, labels).images
        edges = term.edge_change(shifted, term.edges(original)).mean()
        loss = config.edge_weight * edges - sign * config.prior_weight * (luma(shifted)[:, 0] * term.prior).mean()
        loss.backward()


# ---- pictures ----------------------------------------------------------------------------------------------------


def pictures(lab: Lab, cases: list[str]) -> dict[str, Any]:
    """Per generator: cosine, figure (original, light, dark, difference, mask, refined), loss curves."""
    rows, folder = [], lab.figures("directions")
    for case in (CASES[name] for name in cases):
        generator = case.build(lab.device)
        extractor, seconds, found = lab.fitted(generator, Row("pictures", "default"), 0)
        assert isinstance(extractor, Directions)
        sheet = Image.fromarray(_sheet(extractor, generator, lab).permute(1, 2, 0).numpy())
        sheet.quantize(COLOURS).save(folder / f"{case.name}.png", optimize=True)
        _curves(read_metrics(found / "metrics.jsonl")).save(folder / f"{case.name}-loss.png", optimize=True)
        row = {"generator": case.name, **{k: extractor.found[k] for k in ("cosine", "coverage", "contrast")},
               "seconds": seconds, "size": generator.info.height}  # fmt: skip
        say(f"pictures {row}")
        rows.append(row)
    return {"paper": PAPER_COSINES, "rows": rows}


@torch.no_grad()
def _sheet(extractor: Directions, generator: Generator, lab: Lab) -> Tensor:
    """Six rows of eight samples that were not chosen, enlarged to 64 pixels; what a refiner dropped is left blank."""
    seeds = lab.context("", "pictures", 0).seeds("preview", SHOWN)
    rows = extractor.rows(generator.sample(seeds), generator)
    labelled, _ = label_samples(generator, extractor, seeds)
    for name, options in Row("", "").refine:
        labelled = installed().build("refiner", name, options).refine(labelled)
    refined = torch.full_like(rows["mask"].cpu(), 128)
    for seed, mask in zip(labelled.seeds.tolist(), labelled.masks, strict=True):
        refined[seeds.tolist().index(seed)] = mask_pixels(mask[None])[0]
    sheet = torch.cat([*(row.cpu() for row in rows.values()), refined])
    factor = max(1, round(64 / generator.info.height))
    return grid(sheet.repeat_interleave(factor, 2).repeat_interleave(factor, 3), SHOWN)


def _curves(rows: list[dict[str, float]]) -> Image.Image:
    """Two small charts: change of the edges, contrast of middle and rim; light in orange, dark in blue."""
    width, height, gap = 300, 130, 30
    image = Image.new("RGB", (2 * width, height), "white")
    draw = ImageDraw.Draw(image)
    for position, name in enumerate(("edge_change", "contrast")):
        left, top, right, bottom = position * width + gap + 12, 20, (position + 1) * width - 8, height - 20
        values = [row[f"{name}_{which}"] for row in rows for which in ("light", "dark")]
        low, high, last = min(values), max(values), rows[-1]["step"]
        draw.text((left, 4), name.replace("_", " "), fill="black")
        draw.line([(left, top), (left, bottom), (right, bottom)], fill="gray")
        draw.text((position * width + 2, top - 4), f"{high:.2f}", fill="black")
        draw.text((position * width + 2, bottom - 8), f"{low:.2f}", fill="black")
        draw.text((right - 60, bottom + 4), f"step {int(last)}", fill="black")
        for which, colour in (("light", (230, 120, 0)), ("dark", (30, 70, 200))):
            points = [
                (left + (right - left) * row["step"] / last,
                 bottom - (bottom - top) * (row[f"{name}_{which}"] - low) / max(high - low, 1e-9))
                for row in rows
            ]  # fmt: skip
            draw.line(points, fill=colour, width=2)
    return image


# ---- tables --------------------------------------------------------------------------------------------------------


def tables(lab: Lab, case: str, samples: int, tables: list[str]) -> dict[str, Any]:
    """The rows of some tables for a case."""
    return table(lab, CASES[case], [row for row in ROWS if row.table in tables], samples)
