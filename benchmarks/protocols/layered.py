"""Layered GANs, measured: toy, ablation, a harder toy, real images before and after alternation, priors, speed.

`measured` takes a set of rows: `toy` (our defaults on pictures with exact masks), `hard` (small objects on a textured
background), `ablation` (each ingredient left out), `rounds` (paper, Table 3), `gamma` (Table 1), `prior` (Table 2); and
`photographs` a folder of `REAL`. `clusters` is Table 4's NMI. Trainings are kept in the work folder and shared between
rows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from gsegkit_eval.frechet import Backbone, frechet_distance
from gsegkit_layered.clustering import normalised_mutual_information
from gsegkit_layered.generator import Layered, PerturbGAN
from gsegkit_layered.photos import Photos
from gsegkit_layered.training import Networks, Trainer
from PIL import Image
from torch import Tensor

from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.frechet import features
from benchmarks.protocols.layered_data import TOY_TEST, Case, real_case, toy_case
from benchmarks.protocols.layered_rows import ABLATION, GAMMA, ROUNDS, TABLES, Row
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import GsegkitError
from gsegkit.images import grid, resize_pixels, to_images, to_pixels
from gsegkit.interfaces import Segmenter
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed
from gsegkit.refining import Predictor
from gsegkit.rundir import stage_key
from gsegkit.seeds import sample_seeds
from gsegkit.storage import atomic_write_json, read_json

METRICS = ("iou_foreground", "accuracy", "miou", "ari", "msc", "precision", "recall")
BASELINES = ("baseline_centre_prior_iou", "baseline_otsu_iou")
PAIRS = 2000
SEGMENTER = {"steps": 300, "batch_size": 32}
SHOWN = 8
DISTANCE_SAMPLES = 1000


@dataclass(frozen=True)
class Trials:
    """Steps that are done once: trainings, pairs, segmenters, scores."""

    lab: Lab

    def context(self, key: str, name: str, seed: int) -> RunContext:
        """A context in a folder of its own under the work folder."""
        return self.lab.context(key, name, seed, batch_size=64)

    def build(self, row: Row, case: Case) -> Layered | PerturbGAN:
        """The row's generator, untrained."""
        options = {**case.options, **row.options}
        fields = installed().find("generator", row.generator).config_class().model_fields
        known = {name: value for name, value in options.items() if name in fields}
        generator: Layered | PerturbGAN = installed().build("generator", row.generator, known).to(self.lab.device)
        return generator

    def training_key(self, generator: Layered | PerturbGAN, case: Case, row: Row, seed: int) -> str:
        """Name of a first round; rows that differ only in what is sampled afterwards share it."""
        options = generator.config.model_dump(mode="json", exclude={"drop_codes", "code_spread", "profile"})
        return stage_key(case.name, len(case.images), row.generator, options, seed, self.lab.tiny)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def measured(self, case: Case, row: Row, seed: int) -> dict[str, Any]:
        """The numbers of a row for one seed: those of each round, the last ones at the top."""
        generator = self.build(row, case)
        segmenter: Segmenter | None = None
        key = self.training_key(generator, case, row, seed)
        each = []
        for round in range(row.rounds):
            key = stage_key(key, round) if round else key
            numbers, segmenter, key = self._round(case, row, generator, segmenter, key, seed)
            each.append(numbers)
            say(f"    {numbers}")
        return {**each[-1], **({"rounds": each} if len(each) > 1 else {})}

    def _round(
        self,
        case: Case,
        row: Row,
        generator: Layered | PerturbGAN,
        segmenter: Segmenter | None,
        key: str,
        seed: int,
    ) -> tuple[dict[str, Any], Segmenter, str]:
        ctx = self.context(key, "generator", seed)

        def fit() -> None:
            generator.fit(case.images, ctx, segmenter=segmenter)

        facts = {"gan_seconds": _once(generator, ctx, ("generator", row.generator), fit)}
        if isinstance(generator, Layered):  # not part of the training: rows that differ in it share one
            generator._after(self.context(key, "codes", seed))
            facts["dead_codes"] = int((~generator.healthy).sum())
        pairs_key = stage_key(key, generator.healthy.tolist(), PAIRS)
        extractor = installed().build("extractor", "native").to(self.lab.device)
        extractor.fit(generator, ctx)
        pairs = synthesize(generator, extractor, [], PAIRS, self.context(pairs_key, "dataset", seed))
        assert pairs is not None
        own = self.context(stage_key(pairs_key, SEGMENTER), "segmenter", seed)
        trained: Segmenter = installed().build("segmenter", "unet", SEGMENTER).to(self.lab.device)
        facts["segmenter_seconds"] = _once(trained, own, ("segmenter", "unet"), lambda: trained.fit(pairs, own))
        path = self.lab.work / "scores" / f"{stage_key(own.folder.name, len(case.test))}.json"
        if not path.exists():
            report = installed().build("evaluator", "masks").evaluate(
                Predictor(trained.eval()), case.test, self.context(path.stem, "report", seed)
            )  # fmt: skip
            scores = {k: round(float(report.metrics[k] or 0), 4) for k in (*METRICS, *BASELINES)}
            atomic_write_json(path, {**scores, **self.layer_facts(generator, case, seed)})
        self.sheet(generator, trained, case, f"{case.name}-{row.name}-{seed}", key)
        return {**read_json(path), **facts}, trained, own.folder.name

    @torch.no_grad()
    def layer_facts(self, generator: Layered | PerturbGAN, case: Case, seed: int) -> dict[str, Any]:
        """Mean coverage and ambiguity of the masks, and Frechet distances of images and bare backgrounds to reals.

        The paper's FID and bg-FID: a background that is as near to the photographs as the image says that all is
        background.
        """
        count = 20 if self.lab.tiny else DISTANCE_SAMPLES
        side, network = generator.config.resolution, Backbone()
        batches = [generator.sample(part) for part in sample_seeds(seed, "test", 0, count).split(100)]
        chosen = torch.randperm(len(case.images), generator=torch.Generator().manual_seed(0))[:count].tolist()
        real = features(network, to_images(case.images.fitted((side, side), generator.config.fit).batch(chosen)))
        scale = float(real.var(axis=0).sum())
        m = torch.cat([batch.layers["mask"].cpu() for batch in batches])
        found = {
            "coverage": round(float(m.mean()), 4),
            "ambiguity": round(float(torch.minimum(m, 1 - m).mean()), 4),
        }
        for name, layers in (
            ("distance", [batch.images for batch in batches]),
            ("background_distance", [batch.layers["background"] for batch in batches]),
        ):
            made = features(network, torch.cat(layers).cpu().clamp(-1, 1))
            found[name] = round(frechet_distance(made, real) / scale, 4)
        return found

    def sheet(self, generator: Layered | PerturbGAN, segmenter: Segmenter, case: Case, name: str, key: str) -> None:
        """Samples that were not chosen (image, background, object, mask), then test images with predicted masks."""
        path = self.lab.work / "sheets" / f"{name.replace(' ', '_').replace(',', '')}-{key[:6]}.png"
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_sheet(generator, segmenter, case).permute(1, 2, 0).numpy()).save(path)


def _once(part: Any, ctx: RunContext, plugin: tuple[str, str], fit: Callable[[], None]) -> float:
    """Fit and store a part, or load it; seconds that the fit took (0 marks one that was interrupted in between)."""
    if not (ctx.folder / COMPONENT_FILE).exists():
        fresh = not (ctx.folder / "checkpoint.safetensors").exists()
        began = time.perf_counter()
        fit()
        atomic_write_json(ctx.folder / "seconds.json", round(time.perf_counter() - began, 1) if fresh else 0)
        save_part(part, ctx.folder, *plugin)
    load_part(part, ctx.folder)
    part.eval()
    return float(read_json(ctx.folder / "seconds.json"))


@torch.no_grad()
def _sheet(generator: Layered | PerturbGAN, segmenter: Segmenter, case: Case) -> Tensor:
    batch = generator.sample(sample_seeds(0, "preview", 0, SHOWN))
    mask = (batch.layers["mask"] * 2 - 1).expand(-1, 3, -1, -1)
    rows = [to_pixels(x).cpu() for x in (batch.images, batch.layers["background"], batch.layers["foreground"], mask)]
    side = generator.config.resolution
    samples = [case.test[i] for i in range(SHOWN)]
    rows.append(torch.cat([resize_pixels(s.pixels[None], (side, side)) for s in samples]))
    found = [segmenter.predict(s.pixels[None])[:, None].float().cpu() for s in samples]
    found = [F.interpolate(m, (side, side), mode="nearest") for m in found]
    rows.append((torch.cat(found) * 255).to(torch.uint8).expand(-1, 3, -1, -1))
    sheet = torch.cat(rows)
    factor = max(1, round(64 / side))
    return grid(sheet.repeat_interleave(factor, 2).repeat_interleave(factor, 3), SHOWN)


# ---- tables --------------------------------------------------------------------------------------------------------


def measured(lab: Lab, table: str, rows: dict[str, list[int]] | None = None) -> dict[str, Any]:
    """A table's rows on the toy; `rows`: only these, with their own seeds."""
    case = toy_case(lab.work, hard=table == "hard", fast=lab.tiny)
    return _rows(lab, case, TABLES[table], rows)


def photographs(lab: Lab, folder: str) -> dict[str, Any]:
    """Three rounds on a folder of `REAL`."""
    return _rows(lab, real_case(lab, folder), ROUNDS, None)


def _rows(lab: Lab, case: Case, rows: tuple[Row, ...], only: dict[str, list[int]] | None) -> dict[str, Any]:
    entries = []
    for row in rows:
        seeds = lab.seeds if only is None else only.get(row.name, ())
        each = {str(seed): _numbers(lab, case, row, seed) for seed in seeds}
        if each:
            entry = {"name": row.name, "generator": row.generator, "options": row.options, **_summary(each)}
            entries.append({**entry, "seeds": each})
    return {"case": case.name, "photographs": len(case.images), "scored": len(case.test), "options": case.options,
            "backbone": Backbone().title, "pairs": PAIRS, "segmenter": {"unet": SEGMENTER},
            "rows": entries}  # fmt: skip


def _numbers(lab: Lab, case: Case, row: Row, seed: int) -> dict[str, Any]:
    say(f"{case.name} / {row.name} / seed {seed}")
    try:
        return Trials(lab).measured(case, row, seed)
    except GsegkitError as error:  # a setting that fails is a result
        return {"error": str(error).replace(str(lab.work), "WORK")}


def _summary(each: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (*METRICS, *BASELINES, "coverage", "distance", "background_distance"):
        values = [numbers[name] for numbers in each.values() if name in numbers]
        if values:
            found[name] = round(statistics.mean(values), 4)
    ious = [numbers["iou_foreground"] for numbers in each.values() if "iou_foreground" in numbers]
    if len(ious) > 1:
        found |= {"iou_std": round(statistics.stdev(ious), 4), "at_least_0.8": sum(iou >= 0.8 for iou in ious)}
    return found


#: Number of the toy's latent -> what it turns, in the benchmark's words; each is cut into COLOURS classes.
HUES = {6: "colour of the object", 7: "colour of the ground"}
COLOURS = 6


def clusters(lab: Lab, rows: dict[str, list[int]]) -> dict[str, Any]:
    """Table 4's NMI on the toy: what does Q_x read in real pictures, the object's shape and colour, or the ground's?

    `rows`: names in `ABLATION` or `GAMMA`, and their seeds.
    """
    trials, case = Trials(lab), toy_case(lab.work, fast=lab.tiny)
    known = {row.name: row for row in (*GAMMA, *ABLATION)}
    toy = Toy(ToyConfig(size=32))
    pictures = sample_seeds(1, "test", 0, 20 if lab.tiny else TOY_TEST)
    latents, shapes = toy.latents(pictures), toy.labels(pictures)
    images = to_images(to_pixels(toy.sample(pictures).images))
    assert shapes is not None
    shares = {name: (1 + torch.erf(latents[:, number] / 2**0.5)) / 2 for number, name in HUES.items()}
    truths = {"shape": shapes, **{name: (share * COLOURS).long() for name, share in shares.items()}}
    facts = {"classes": {"shape": 3, **dict.fromkeys(HUES.values(), COLOURS)}, "averaging": "arithmetic",
             "chance": "random clusters against the colour of the object",
             "right_on_own": "share of 500 generated pictures whose code Q_x names"}  # fmt: skip
    entries = []
    for row, seed in ((known[name], seed) for name, seeds in rows.items() for seed in seeds):
        generator = trials.build(row, case)
        ctx = trials.context(trials.training_key(generator, case, row, seed), "generator", seed)
        _once(generator, ctx, ("generator", "layered"), lambda g=generator, c=ctx: g.fit(case.images, c))
        assert isinstance(generator, Layered)
        own = generator.sample(sample_seeds(seed, "test", 0, len(images)))
        assert own.labels is not None
        right = (generator.clusters(own.images).argmax(dim=1).cpu() == own.labels.cpu()).float().mean()
        found = generator.clusters(images).argmax(dim=1).cpu()
        nmi = {name: round(normalised_mutual_information(found, truth), 4) for name, truth in truths.items()}
        random = torch.randint(20, (len(found),), generator=torch.Generator().manual_seed(seed))
        nmi["chance"] = round(normalised_mutual_information(random, truths["colour of the object"]), 4)
        entry = {"name": row.name, "seed": seed, "nmi": nmi, "clusters": len(found.unique())}
        entries.append({**entry, "right_on_own": round(float(right), 4)})
        say(f"clusters {entries[-1]}")
    return {**facts, "images": len(images), "rows": entries}


def speed(lab: Lab, steps: int = 20) -> dict[str, Any]:
    """Real images a second in training, and what a step is made of."""
    trials, case, rows = Trials(lab), toy_case(lab.work, fast=lab.tiny), []
    for label, options in (
        ("small, 32 px", {}),
        ("small, 32 px, float32", {"dtype": "float32"}),
        ("small, 64 px", {"resolution": 64}),
        ("small, 128 px", {"resolution": 128}),
        ("paper-cub, 64 px", {"profile": "paper-cub"}),
    ):
        batch = {"batch_size": 8} if "paper" in label and lab.device.type == "cpu" else {}
        generator = trials.build(Row(label, {**options, **batch}), case)
        ctx = trials.context("speed", "speed", 0)
        few = UnlabelledImages(case.images.paths[:120])
        networks = Networks(generator.average, generator.discriminator, generator.q_image, generator.q_mask)
        photos = Photos(few, generator.config, ctx, lab.device)
        trainer = Trainer(networks, generator.config, generator.prior, generator.gammas, photos, ctx)
        count = 2 if lab.tiny else steps if "32" in label else max(3, steps // 4)
        times = []
        for step in range(1, count + 3):
            began, busy = time.perf_counter(), time.process_time()
            trainer.step(step)
            if lab.device.type == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - began, time.process_time() - busy))
        wall, busy = (statistics.median(t[i] for t in times[2:]) for i in (0, 1))
        row: dict[str, Any] = {"what": label, "batch": generator.config.batch_size}
        row |= {"images_per_second": round(generator.config.batch_size / wall, 1),
                "images_per_cpu_second": round(generator.config.batch_size / busy, 1)}  # fmt: skip
        say(f"speed {row}")
        rows.append(row)
    note = "images_per_cpu_second: what a free core would give; the difference is time that other programs took"
    return {"note": note, "rows": rows}
