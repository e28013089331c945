"""Foreground methods side by side: klish, directions, labels4free; ablations and speed of labels4free.

`toy`: exact masks. `generated`: masks on 1,000 generated pictures against a U-Net trained with labels (Labels4Free,
Tables 1 and 2). `ablation`: the same for other settings of labels4free (Tables 6 and 7). `real`: pairs -> segmenter ->
annotated photographs, the same segmenters and seeds for all methods (Table 4). `score`: does the score that chooses the
snapshot follow the IoU? `speed`: beside a plain reading. `pictures`: the figures of docs/explanation/labels4free.md.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gsegkit_labels4free import labels4free as l4f
from gsegkit_labels4free.config import Labels4FreeConfig
from gsegkit_labels4free.networks import AlphaNetwork, Discriminator
from gsegkit_labels4free.training import Best, Training
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.protocols.common import CASES, Case, Lab, Row, say, table
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import GsegkitError
from gsegkit.images import fit_pixels, grid, to_pixels
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed
from gsegkit.rundir import stage_key
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.taps import frozen
from gsegkit.types import IGNORE

GENERATED = 1000  # pictures, as in the paper
WATCHED = 96  # pictures on which snapshots are scored
MATCH_IMAGES = 20  # labelled photographs that name klish's clusters, and are left out
SHOWN = 8  # samples in a figure
COLOURS = 128  # of a figure
EDIT = 0.6  # how far an edit moves the latents
SEGMENTERS = ("unet", "linknet")  # LinkNet: light and fast, as the paper's BiSeNet is
METHODS = ("klish", "directions", "labels4free")
#: Settings of labels4free; "backgrounds" is filled with photographs of another case.
ABLATION: dict[str, dict[str, Any]] = {
    "default": {},
    "last layer only (Table 7)": {"levels": 1},
    "grounds of another domain (Table 6)": {"backgrounds": "OTHER"},
    "real photographs instead of samples": {"reals": "auto"},
    "all levels": {"select": "all"},
    "no price on area": {"area_cost": 0.0},
    "the same z": {"same_z": True},
    "background: paper's gradient rule, zeroed": {"background": "gradient", "background_edit": "zero"},
    "background: best of the zeroed": {"background_edit": "zero"},
    "profile paper-ffhq": {"profile": "paper-ffhq"},
    "profile paper-horse": {"profile": "paper-horse"},
}
SMALL_DISCRIMINATOR = {
    "disc_base": 512,
    "disc_max": 64,
}  # profiles keep their losses; config-f's discriminator is for 256 px


# ---- masks on generated pictures -----------------------------------------------------------------------------------


def reference(lab: Lab, case: Case) -> Segmenter:
    """A U-Net trained with labels on the case's annotated photographs, in the generator's size."""
    generator = case.build(lab.device)
    folder = case.train or case.data
    data = lab.labelled(folder)
    ctx = lab.context(stage_key(folder, len(data), generator.info), "reference", 0)
    segmenter: Segmenter = installed().build("segmenter", "unet").to(lab.device)
    if not (ctx.folder / COMPONENT_FILE).exists():
        size = (generator.info.height, generator.info.width)
        segmenter.fit(_foreground_only(data, size, generator.info.fit_rule), ctx)
        save_part(segmenter, ctx.folder, "segmenter", "unet")
    load_part(segmenter, ctx.folder)
    return segmenter.eval()


def _foreground_only(data: LabelledDataset, size: tuple[int, int], rule: str) -> MemoryDataset:
    pixels, masks = [], []
    for sample in data:
        mask = torch.where(sample.mask == IGNORE, 0, sample.mask != 0).float()
        pixels.append(fit_pixels(sample.pixels[None], size, rule)[0])
        masks.append((F.interpolate(mask[None, None], size, mode="area")[0, 0] > 0.5).to(torch.uint8))
    return MemoryDataset(torch.stack(pixels), torch.stack(masks), ("background", "foreground"), fit_rule=rule)


@torch.no_grad()
def agreement(extractor: MaskExtractor, generator: Generator, segmenter: Segmenter, lab: Lab) -> dict[str, Any]:
    """Labels4Free, Tables 1 and 2: one confusion matrix over all pixels, and the mean of the IoUs of the pictures.

    Clusters without names (klish) are foreground where most of their pixels are: an oracle names them.
    """
    classes, truth = [], []
    for seeds in lab.context("", "generated", 0).batches("test", GENERATED):
        batch = generator.sample(seeds, features=extractor.features(generator.info))
        classes.append(extractor.extract(batch, generator).probs.argmax(dim=1))
        truth.append(segmenter.predict(to_pixels(batch.images)) > 0)
    found, true = torch.cat(classes), torch.cat(truth)
    if len(extractor.classes) > 2:
        inside = [bool(true[found == k].float().mean() > 0.5) for k in range(len(extractor.classes))]
        found = torch.tensor(inside)[found].long()
    return _scores(found == 1, true)


def _scores(found: Tensor, true: Tensor) -> dict[str, Any]:
    tp, fp = float((found & true).sum()), float((found & ~true).sum())
    fn, tn = float((~found & true).sum()), float((~found & ~true).sum())
    fg, bg = tp / max(tp + fp + fn, 1), tn / max(tn + fp + fn, 1)
    each = (found & true).sum((1, 2)) / (found | true).sum((1, 2)).clamp_min(1)
    numbers = {"iou_fg": fg, "iou_bg": bg, "miou": (fg + bg) / 2, "precision": tp / max(tp + fp, 1),
               "recall": tp / max(tp + fn, 1), "accuracy": (tp + tn) / (tp + fp + fn + tn),
               "iou_per_picture": float(each.mean()), "area": float(found.float().mean()),
               "true_area": float(true.float().mean())}  # fmt: skip
    return {name: round(value, 4) for name, value in numbers.items()}


def generated(lab: Lab, case: str) -> dict[str, Any]:
    """The methods' masks on generated pictures, against the reference."""
    rows = [Row("generated", name, extractor=name, refine=()) for name in METHODS]
    return _agreements(lab, CASES[case], rows)


def ablation(lab: Lab, case: str, other: str) -> dict[str, Any]:
    """The same for settings of labels4free; grounds of another domain are the photographs of the case `other`."""
    return _agreements(lab, CASES[case], ablation_rows(lab, CASES[case], CASES[other]))


def real(lab: Lab, case: str, samples: int, segmenters: list[str]) -> dict[str, Any]:
    """Pairs of every method -> segmenter -> annotated photographs."""
    rows = [Row(segmenter, name, extractor=name, refine=(), segmenter=(segmenter, {}),
                match_images=MATCH_IMAGES if name == "klish" else None)
            for segmenter in segmenters for name in METHODS]  # fmt: skip
    return table(lab, CASES[case], rows, samples)


def _agreements(lab: Lab, case: Case, rows: Sequence[Row]) -> dict[str, Any]:
    segmenter, generator = reference(lab, case), case.build(lab.device)
    results = []
    for row in rows:
        each = {str(seed): _agreement(lab, case, row, seed, generator, segmenter) for seed in lab.seeds}
        good = [numbers for numbers in each.values() if "error" not in numbers]
        mean = {k: round(statistics.mean(n[k] for n in good), 4) for k in ("iou_fg", "iou_bg", "miou") if good}
        options = {k: Path(v).name if k == "backgrounds" else v for k, v in row.options.items()}
        results.append({"name": row.name, "options": options, **mean, "seeds": each})
    return {"case": case.name, "pictures": GENERATED, "rows": results}


def _agreement(lab: Lab, case: Case, row: Row, seed: int, generator: Generator, segmenter: Segmenter) -> dict[str, Any]:
    photos = case.photos if row.photos else ""
    key = stage_key(case.name, row.extractor, row.options, seed, photos, GENERATED)
    kept = lab.work / "agreement" / f"{key}.json"
    if not kept.exists():
        try:
            extractor, seconds, _ = lab.fitted(generator, row, seed, photos)
            numbers = agreement(extractor, generator, segmenter, lab)
            facts = extractor.facts()
            numbers |= {k: facts[k] for k in ("separation", "snapshot", "background") if k in facts}
            atomic_write_json(kept, {**numbers, "fit_seconds": seconds})
        except GsegkitError as error:  # a setting that fails is a result
            atomic_write_json(kept, {"error": str(error).replace(str(lab.work), "WORK")})
    say(f"{case.name} / {row.name} / seed {seed}: {read_json(kept)}")
    return dict(read_json(kept))


def ablation_rows(lab: Lab, case: Case, other: Case) -> list[Row]:
    """`ABLATION` for a case."""
    rows = []
    for name, options in ABLATION.items():
        given = dict(options)
        if "backgrounds" in given:
            given["backgrounds"] = str(lab.data(other.photos or other.data))
        if "profile" in given:
            given |= SMALL_DISCRIMINATOR
        photos = given.pop("reals", None) is not None
        if not photos or case.photos:
            rows.append(Row("ablation", name, given, extractor="labels4free", refine=(), photos=photos))
    return rows


# ---- the toy, and the score ----------------------------------------------------------------------------------------


def toy(lab: Lab) -> dict[str, Any]:
    """labels4free against exact masks, five seeds."""
    case = Case("toy", "toy")
    generator, rows = case.build(lab.device), []
    for seed in lab.seeds:
        row = Row("toy", "labels4free", extractor="labels4free")
        extractor, seconds, _ = lab.fitted(generator, row, seed)
        batch = generator.sample(
            lab.context("", "toy", seed).seeds("test", 256), features=extractor.features(generator.info)
        )
        found, truth = extractor.extract(batch, generator).probs.argmax(dim=1) == 1, generator.truth(batch) > 0
        facts = extractor.facts()
        rows.append({"seed": seed, **_scores(found, truth), "seconds": seconds,
                     **{name: facts[name] for name in ("separation", "snapshot", "background")}})  # fmt: skip
        say(f"toy {rows[-1]}")
    mean = round(statistics.mean(row["iou_per_picture"] for row in rows), 4)
    return {"iou_per_picture": mean, "rows": rows}


def score(lab: Lab, cases: list[str]) -> dict[str, Any]:
    """Rank correlation of separation and IoU over the snapshots of trainings that are let run."""
    rows = []
    for case in (CASES[name] for name in ("toy", *cases)):
        generator = case.build(lab.device)
        segmenter = None if case.name == "toy" else reference(lab, case)
        for seed in lab.seeds:
            ctx = lab.context(f"{case.name}-{seed}", "score", seed)
            kept = ctx.folder / "snapshots.json"
            if not kept.exists():
                extractor = l4f.Labels4Free(Labels4FreeConfig(collapse=False, area_cost=0.0)).to(lab.device)
                with _watched(extractor, generator, segmenter, lab) as snapshots:
                    extractor.fit(generator, ctx)
                atomic_write_json(kept, snapshots)
            found = read_json(kept)
            rho = float(spearmanr([s["separation"] for s in found], [s["iou"] for s in found]).statistic)
            chosen, best = max(found, key=lambda s: s["separation"])["iou"], max(s["iou"] for s in found)
            row = {"case": case.name, "seed": seed, "spearman": round(rho, 3), "iou_of_chosen": chosen,
                   "iou_of_best": best, "iou_of_last": found[-1]["iou"], "snapshots": found}  # fmt: skip
            say(f"score {case.name} {seed}: {rho:.3f}")
            rows.append(row)
    return {"rows": rows}


@contextmanager
def _watched(
    extractor: l4f.Labels4Free, generator: Generator, segmenter: Segmenter | None, lab: Lab
) -> Iterator[list[dict[str, float]]]:
    """Note the IoU of each snapshot of the trainings inside the block, beside its separation."""
    names = extractor.features(generator.info)
    batch = generator.sample(lab.context("", "score", 0).seeds("test", WATCHED), features=names)
    truth = generator.truth(batch) > 0 if segmenter is None else segmenter.predict(to_pixels(batch.images)) > 0
    seen: list[dict[str, float]] = []
    see = Best.see

    def noted(best: Best, network: AlphaNetwork, separation: float, area: float, step: int, take: bool) -> None:
        with torch.no_grad():
            mask = network(batch.features)[:, 0] > extractor.config.threshold
        iou = _scores(mask, truth)["iou_per_picture"]
        seen.append({"step": step, "separation": round(separation, 4), "area": round(area, 4), "iou": iou})
        see(best, network, separation, area, step, take)

    Best.see = noted  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        Best.see = see  # type: ignore[method-assign]


# ---- speed ---------------------------------------------------------------------------------------------------------


def speed(lab: Lab, cases: list[str], rounds: int = 3) -> dict[str, Any]:
    """Seconds an iteration and peak memory: ours beside a plain reading; a process for each, in turns."""
    rows = []
    for case in cases:
        times: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
        for _ in range(1 if lab.tiny else rounds):
            for name, found in times.items():
                found.append(lab.process("foreground.one_speed", case=case, which=name))
        ours, plain = (statistics.median(t["seconds"] for t in times[name]) for name in times)
        memory = {name: round(statistics.median(t["mb"] for t in values)) for name, values in times.items()}
        config = Labels4FreeConfig()
        row = {"case": case, "batch": config.batch_size, "ours_seconds": round(ours, 4),
               "plain_seconds": round(plain, 4), "ratio": round(plain / ours, 2), "peak_mb": memory,
               "iterations": config.steps, "training_seconds": round(ours * config.steps, 1)}  # fmt: skip
        say(f"speed {row}")
        rows.append(row)
    return {"rows": rows}


def one_speed(lab: Lab, case: str, which: str, steps: int = 20) -> dict[str, Any]:
    """Median seconds of an iteration, and this process's peak memory in MB."""
    generator, times = CASES[case].build(lab.device), []
    extractor = l4f.Labels4Free(Labels4FreeConfig())
    ctx = replace(lab.context(case, f"speed-{which}", 0), smoke=True)
    with frozen(generator):
        setting = extractor._prepare(generator, ctx, None)
        alpha = AlphaNetwork(extractor.alpha_levels, *extractor.size).to(ctx.device)
        config = extractor.config
        discriminator = Discriminator(*extractor.size, l4f.LEAST_BASE, config.disc_max).to(ctx.device)
        training = Training(config, extractor.alpha_levels, generator, setting, ctx, alpha=alpha,
                            discriminator=discriminator, best=Best(alpha))  # fmt: skip
        for step in range(1, (3 if lab.tiny else steps) + 1):  # the penalty of iteration 0 is left out for both
            began = time.perf_counter()
            training.step(step) if which == "ours" else _plain_step(training, extractor, step)
            times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(times[2:]), "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _plain_step(training: Training, extractor: l4f.Labels4Free, step: int) -> None:
    """Both generators run for D's update and again for A's, and all feature maps are taken."""
    names = extractor.features(training.generator.info)
    training.names = names
    for update in ("discriminator", "alpha"):
        foregrounds, backgrounds = training.layers(2 * step + (update == "alpha"))
        M = training.A(foregrounds.features)
        composites = M * foregrounds.images + (1 - M) * backgrounds
        if update == "discriminator":
            training._discriminator_step(step, composites.detach())
        else:
            training._alpha_step(composites, M)


# ---- pictures ------------------------------------------------------------------------------------------------------


def pictures(lab: Lab, cases: list[str]) -> dict[str, Any]:
    """In docs/figures/labels4free: NAME.png, the report's figure; NAME-edit.png, an edit that keeps the grounds."""
    folder = lab.figures("labels4free")
    for case in (CASES[name] for name in ("toy", *cases)):
        generator = case.build(lab.device)
        extractor, _, _ = lab.fitted(generator, Row("", "", extractor="labels4free"), 0)
        assert isinstance(extractor, l4f.Labels4Free)
        ctx = lab.context("", "pictures", 0)
        rows = extractor.rows(generator, ctx.seeds("preview", SHOWN))
        _sheet(torch.cat(list(rows.values())), folder / f"{case.name}.png")
        if case.name != "toy":
            _sheet(_edited(extractor, generator, ctx.seeds("preview", SHOWN + 1)), folder / f"{case.name}-edit.png")
    return {}


@torch.no_grad()
def _edited(extractor: l4f.Labels4Free, generator: Generator, seeds: Tensor) -> Tensor:
    """Latents moved towards the last one: before, after, the old grounds, the edited objects on them."""
    names, w = extractor.features(generator.info), generator.latents(seeds)
    before = generator.synthesize(w[:-1], features=names)
    after = generator.synthesize(torch.lerp(w[:-1], w[-1], EDIT), features=names)
    old, new = extractor.soft(before.features), extractor.soft(after.features)
    clean = old * extractor.emptied(before, generator) + (1 - old) * before.images
    return torch.cat([before.images, after.images, clean, new * after.images + (1 - new) * clean])


def _sheet(images: Tensor, path: Path) -> None:
    sheet = to_pixels(images)
    factor = max(1, round(64 / sheet.shape[-1]))
    sheet = sheet.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(grid(sheet, SHOWN).permute(1, 2, 0).cpu().numpy())
    image.quantize(COLOURS).save(path, optimize=True)
