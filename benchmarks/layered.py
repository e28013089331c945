"""Layered GANs, measured: toy, ablation, a harder toy, real images before and after alternation, priors, speed.

    python benchmarks/layered.py --work FOLDER --data ../shared/data
    python benchmarks/layered.py --work FOLDER --parts toy --seeds 0 1 2 3 4

Parts: `toy` (our defaults on pictures with exact masks), `real` (folders of --data that are there, in three rounds),
`hard` (small objects on busy ground, with and without the information terms), `ablation` (each ingredient left out),
`rounds` (paper, Table 3), `gamma` (Table 1), `prior` (Table 2), `clusters` (Table 4's NMI), `speed`. Every step keeps
its result in --work, so the same command goes on where it was stopped, in the middle of a training too, and rows share
the trainings that they have in common. Results go to benchmarks/results/layered-*.json; with --fast to --work.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bench import Talk
from frechet import features
from gsegkit_eval.frechet import Backbone, frechet_distance
from gsegkit_layered.clustering import normalised_mutual_information
from gsegkit_layered.generator import Layered, PerturbGAN
from gsegkit_layered.photos import Photos
from gsegkit_layered.training import Networks, Trainer
from PIL import Image
from torch import Tensor

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, Sample, Subset, UnlabelledImages
from gsegkit.engine.devices import pick_device
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import GsegkitError
from gsegkit.images import grid, list_images, resize_pixels, to_images, to_pixels, write_png
from gsegkit.interfaces import Predictor, Segmenter
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed
from gsegkit.rundir import stage_key
from gsegkit.seeds import normals, sample_seeds, uniforms
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.types import IGNORE, GeneratedBatch

ROOT = Path(__file__).parents[1]
METRICS = ("iou_foreground", "accuracy", "miou", "ari", "msc", "precision", "recall")
BASELINES = ("baseline_centre_prior_iou", "baseline_otsu_iou")
TOY_PICTURES, TOY_TEST = 3000, 500
TOY_SIDE = 64  # of the training pictures; the networks see them at 32
PAIRS = 2000
SEGMENTER = {"steps": 300, "batch_size": 32}
SHOWN = 8
DISTANCE_SAMPLES = 1000


# ---- data ----------------------------------------------------------------------------------------------------------


def toy_pictures(side: int, purpose: str, count: int, hard: bool) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, S, S] uint8 and exact masks [N, S, S] uint8 (1 = object)."""
    toy = Toy(ToyConfig(size=side))
    pixels, masks = [], []
    for seeds in sample_seeds(1, purpose, 0, count).split(100):
        batch = hard_sample(toy, seeds) if hard else toy.sample(seeds)
        pixels.append(to_pixels(batch.images))
        masks.append((toy.truth(batch) > 0).to(torch.uint8))
    return torch.cat(pixels), torch.cat(masks)


def hard_sample(toy: Toy, seeds: Tensor) -> GeneratedBatch:
    """The toy with objects of two thirds of the side, somewhere, on a ground with spots of any colour."""
    side = toy.info.height
    place = (uniforms(seeds, (2,), "place") - 0.5) * 0.7
    spots = F.interpolate(normals(seeds, (3, side // 4, side // 4), "spots"), (side, side), mode="bilinear")

    def smaller(opacities: Tensor) -> Tensor:
        rows = torch.tensor([[1.5, 0.0, 0.0], [0.0, 1.5, 0.0]]).repeat(len(seeds), 1, 1)
        rows[:, :, 2] = -1.5 * place
        return F.grid_sample(opacities, F.affine_grid(rows, list(opacities.shape), False), align_corners=False)

    edits = {"object": smaller, "background": lambda colours: colours + 0.2 * spots}
    with torch.no_grad():
        return toy.synthesize(toy.latents(seeds), toy.labels(seeds), edits=edits)


class Binary(LabelledDataset):
    """Any class against the rest, so that a matching needs no labels."""

    def __init__(self, dataset: LabelledDataset) -> None:
        self.dataset, self.classes, self.fit_rule = dataset, ("background", "foreground"), dataset.fit_rule

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        mask = torch.where(sample.mask == IGNORE, IGNORE, (sample.mask > 0).to(torch.uint8)).to(torch.uint8)
        return Sample(sample.name, sample.pixels, mask)


@dataclass(frozen=True)
class Case:
    """Photographs to train on, annotated ones to score on, and options that the data ask for."""

    name: str
    images: UnlabelledImages
    test: LabelledDataset
    options: dict[str, Any] = field(default_factory=dict)


def toy_case(work: Path, hard: bool = False, fast: bool = False) -> Case:
    """Training pictures as files, as a user has them; test pictures are drawn at 32 px."""
    name = "toy-hard" if hard else "toy"
    folder, count = work / "data" / name, 120 if fast else TOY_PICTURES
    if not (folder / "done.json").exists():
        for i, row in enumerate(toy_pictures(TOY_SIDE, "dataset", count, hard)[0]):
            write_png(folder / f"{i:05d}.png", row)
        atomic_write_json(folder / "done.json", count)
    pixels, masks = toy_pictures(32, "test", 20 if fast else TOY_TEST, hard)
    test = MemoryDataset(pixels, masks, ("background", "foreground"), fit_rule="squash")
    return Case(name, UnlabelledImages(tuple(list_images(folder))), test)


#: name -> (folder to train on, folder to score on, options). Large objects need a larger bound on the coverage.
REAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lpc": ("lpc_parts", "lpc_parts_test", {"num_images": 200_000, "gamma_mask": 0.0}),
    "wbc": ("wbc", "wbc", {"max_coverage": 0.7, "mirror": "xy"}),
    "coffee-leaf": (
        "coffee_leaf_unlabelled",
        "coffee_leaf",
        {"max_coverage": 0.9, "min_area": 0.4, "mask_bias": 0.0, "crop_min": 0.9, "scale": 0.1, "shift": 0.08},
    ),
}


def real_case(data: Path, name: str, fast: bool) -> Case | None:
    """A folder of photographs and its annotated partner, or None when they are not there."""
    images, test, options = REAL[name]
    if not ((data / images).is_dir() and (data / test).is_dir()):
        print(f"{name}: no data in {data}, left out", flush=True)
        return None
    reader = installed().build("dataset", "folder")
    annotated: LabelledDataset = Binary(reader.labelled(data / test))
    if fast:
        annotated = Subset(annotated, range(10))
    return Case(name, reader.images(data / images), annotated, options)


# ---- rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of a table: what is varied, and in how many rounds."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    generator: str = "layered"
    rounds: int = 1


NO_INFORMATION = {"gamma": 0.0, "gamma_mask": 0.0}
#: What the paper has no word of is left out; with networks, rates and crops as ours.
PAPER = {"centre": 0.0, "smooth_weight": 0.0, "max_coverage": 1.0, "binary_start": 0, "binary_end": 0}
ABLATION = (
    Row("all ingredients"),
    Row("no information terms", NO_INFORMATION),
    Row("no information in the mask", {"gamma_mask": 0.0}),
    Row("binarisation from the start", {"binary_start": 0, "binary_end": 0}),
    Row("no perturbation of the object", {"scale": 0.0, "shift": 0.0}),
    Row("no contrast jitter", {"contrast": 0.0}),
    Row("no bound on the coverage", {"max_coverage": 1.0}),
    Row("masks begin flat", {"centre": 0.0}),
    Row("outlines cost nothing", {"smooth_weight": 0.0}),
    Row("dead codes kept", {"drop_codes": False}),
    Row("perturbgan", generator="perturbgan"),
    Row("perturbgan, our start and outline", {"centre": 4.0, "smooth_weight": 0.5}, generator="perturbgan"),
)
HARD = (
    Row("all ingredients"),
    Row("no information terms", NO_INFORMATION),
    Row("binarisation from the start", {"binary_start": 0, "binary_end": 0}),
    Row("binarisation from the start, no information terms", {"binary_start": 0, "binary_end": 0, **NO_INFORMATION}),
    Row("masks begin flat", {"centre": 0.0}),
    Row("masks begin flat, no information terms", {"centre": 0.0, **NO_INFORMATION}),
    Row("the paper's terms alone, gamma 1", {**PAPER, "gamma": 1.0, "gamma_mask": 1.0}),
    Row("the paper's terms alone, no information", {**PAPER, **NO_INFORMATION}),
    Row("perturbgan", generator="perturbgan"),
)
GAMMA = (
    Row("mask size instead", {**NO_INFORMATION, "min_area": 0.25}),
    *(
        Row(f"gamma {gamma}", {"gamma": gamma, "gamma_mask": round(0.3 * gamma, 4)})
        for gamma in (0.0, 0.03, 0.1, 0.3, 1.0)
    ),
)
PRIOR = (
    Row("normal, 4", {"prior": "normal", "num_codes": 4}),
    Row("normal, 8", {"prior": "normal", "num_codes": 8}),
    Row("categorical, 10", {"num_codes": 10}),
    Row("categorical, 20", {}),
    Row("categorical, 40", {"num_codes": 40}),
)
ROUNDS = (Row("three rounds", rounds=3),)


class Bench:
    """What all parts need: the work folder, the device, and steps that are done once."""

    def __init__(self, work: Path, data: Path, device: str, fast: bool) -> None:
        self.work, self.data, self.device, self.fast = work, data, pick_device(device), fast
        self.results = work / "results" if fast else ROOT / "benchmarks" / "results"

    def context(self, key: str, name: str, seed: int) -> RunContext:
        """A context in a folder of its own under --work."""
        return RunContext(
            self.work / name / key, device=self.device, seed=seed, batch_size=64, progress=Talk(), smoke=self.fast
        )

    def environment(self) -> dict[str, Any]:
        """What the numbers depend on beside the seeds."""
        return {"device": str(self.device), "threads": torch.get_num_threads(), "torch": torch.__version__,
                "machine": platform.machine(), "pairs": PAIRS, "segmenter": {"unet": SEGMENTER}}  # fmt: skip

    def build(self, row: Row, case: Case) -> Layered | PerturbGAN:
        """The row's generator, untrained."""
        options = {**case.options, **row.options}
        fields = installed().find("generator", row.generator).config_class().model_fields
        known = {name: value for name, value in options.items() if name in fields}
        generator: Layered | PerturbGAN = installed().build("generator", row.generator, known).to(self.device)
        return generator

    def training_key(self, generator: Layered | PerturbGAN, case: Case, row: Row, seed: int) -> str:
        """Name of a first round; rows that differ only in what is sampled afterwards share it."""
        options = generator.config.model_dump(mode="json", exclude={"drop_codes", "code_spread", "profile"})
        return stage_key(case.name, len(case.images), row.generator, options, seed, self.fast)

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
            print("   ", numbers, flush=True)
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
        extractor = installed().build("extractor", "native").to(self.device)
        extractor.fit(generator, ctx)
        pairs = synthesize(generator, extractor, [], PAIRS, self.context(pairs_key, "dataset", seed))
        assert pairs is not None
        own = self.context(stage_key(pairs_key, SEGMENTER), "segmenter", seed)
        trained: Segmenter = installed().build("segmenter", "unet", SEGMENTER).to(self.device)
        facts["segmenter_seconds"] = _once(trained, own, ("segmenter", "unet"), lambda: trained.fit(pairs, own))
        path = self.work / "scores" / f"{stage_key(own.folder.name, len(case.test))}.json"
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
        count = 20 if self.fast else DISTANCE_SAMPLES
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
        path = self.work / "sheets" / f"{name.replace(' ', '_').replace(',', '')}-{key[:6]}.png"
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


def table(
    bench: Bench, name: str, case: Case, rows: tuple[Row, ...], seeds: list[int], only: list[str] | None = None
) -> None:
    """Every row (or those named in `only`) over the seeds; the file is rewritten after each number."""
    path = bench.results / f"layered-{name}.json"
    for row in _chosen(rows, only):
        each: dict[str, Any] = {}
        for seed in seeds:
            print(f"{name} / {row.name} / seed {seed}", flush=True)
            try:
                each[str(seed)] = bench.measured(case, row, seed)
            except GsegkitError as error:  # a setting that fails is a result
                each[str(seed)] = {"error": str(error).replace(str(bench.work), "WORK")}
                print("   ", each[str(seed)], flush=True)
            old = json.loads(path.read_text())["rows"] if path.exists() else []
            kept = {k: v for r in old if r["name"] == row.name for k, v in r["seeds"].items()} | each
            entry = {"name": row.name, "generator": row.generator, "options": row.options, **_summary(kept)}
            others = [r for r in old if r["name"] != row.name]
            order = [r.name for r in rows]
            merged = [*others, {**entry, "seeds": dict(sorted(kept.items()))}]
            merged.sort(key=lambda r: order.index(r["name"]) if r["name"] in order else len(order))
            facts = {"case": case.name, "photographs": len(case.images), "scored": len(case.test),
                     "options": case.options, "backbone": Backbone().title, **bench.environment()}  # fmt: skip
            _write(path, {**facts, "rows": merged})


def _chosen(rows: tuple[Row, ...], only: list[str] | None) -> tuple[Row, ...]:
    return tuple(row for row in rows if not only or row.name in only)


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


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


#: Number of the toy's latent -> what it turns, in the benchmark's words; each is cut into COLOURS classes.
HUES = {6: "colour of the object", 7: "colour of the ground"}
COLOURS = 6


def clusters(bench: Bench, case: Case, rows: tuple[Row, ...], seeds: list[int]) -> None:
    """Table 4's NMI on the toy: what does Q_x read in real pictures, the object's shape and colour, or the ground's?"""
    toy = Toy(ToyConfig(size=32))
    pictures = sample_seeds(1, "test", 0, 20 if bench.fast else TOY_TEST)
    latents, shapes = toy.latents(pictures), toy.labels(pictures)
    images = to_images(to_pixels(toy.sample(pictures).images))
    assert shapes is not None
    shares = {name: (1 + torch.erf(latents[:, number] / 2**0.5)) / 2 for number, name in HUES.items()}
    truths = {"shape": shapes, **{name: (share * COLOURS).long() for name, share in shares.items()}}
    facts = {"classes": {"shape": 3, **dict.fromkeys(HUES.values(), COLOURS)}, "averaging": "arithmetic",
             "chance": "random clusters against the colour of the object",
             "right_on_own": "share of 500 generated pictures whose code Q_x names"}  # fmt: skip
    path = bench.results / "layered-clusters.json"
    for row in rows:
        for seed in seeds:
            generator = bench.build(row, case)
            ctx = bench.context(bench.training_key(generator, case, row, seed), "generator", seed)
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
            entry["right_on_own"] = round(float(right), 4)
            print("clusters", entry, flush=True)
            old = json.loads(path.read_text())["rows"] if path.exists() else []
            kept = [r for r in old if (r["name"], r["seed"]) != (row.name, seed)]
            merged = sorted([*kept, entry], key=lambda r: (r["name"], r["seed"]))
            _write(path, {**facts, "images": len(images), **bench.environment(), "rows": merged})


def speed(bench: Bench, case: Case, steps: int = 20) -> None:
    """Real images a second in training, and what a step is made of."""
    rows = []
    for label, options in (
        ("small, 32 px", {}),
        ("small, 32 px, float32", {"precision": "float32"}),
        ("small, 64 px", {"resolution": 64}),
        ("small, 128 px", {"resolution": 128}),
        ("paper-cub, 64 px", {"profile": "paper-cub"}),
    ):
        batch = {"batch": 8} if "paper" in label and bench.device.type == "cpu" else {}
        generator = bench.build(Row(label, {**options, **batch}), case)
        ctx = bench.context("speed", "speed", 0)
        few = UnlabelledImages(case.images.paths[:120])
        networks = Networks(generator.average, generator.discriminator, generator.q_image, generator.q_mask)
        photos = Photos(few, generator.config, ctx, bench.device)
        trainer = Trainer(networks, generator.config, generator.prior, generator.gammas, photos, ctx)
        count = 2 if bench.fast else steps if "32" in label else max(3, steps // 4)
        times = []
        for step in range(1, count + 3):
            began, busy = time.perf_counter(), time.process_time()
            trainer.step(step)
            if bench.device.type == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - began, time.process_time() - busy))
        wall, busy = (statistics.median(t[i] for t in times[2:]) for i in (0, 1))
        row: dict[str, Any] = {"what": label, "batch": generator.config.batch}
        row |= {"images_per_second": round(generator.config.batch / wall, 1),
                "images_per_cpu_second": round(generator.config.batch / busy, 1)}  # fmt: skip
        print("speed", row, flush=True)
        rows.append(row)
    note = "images_per_cpu_second: what a free core would give; the difference is time that other programs took"
    _write(
        bench.results / f"layered-speed-{bench.device.type}.json", {**bench.environment(), "note": note, "rows": rows}
    )


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what is done")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the real data sets, see REAL")
    every = ["toy", "real", "hard", "ablation", "rounds", "gamma", "prior", "clusters", "speed"]
    parser.add_argument("--parts", nargs="+", default=every, choices=every)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=list(REAL), choices=list(REAL))
    parser.add_argument("--rows", nargs="+", help="only rows of these names")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--fast", action="store_true", help="three steps of everything, to see that it works")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    bench = Bench(options.work, options.data, options.device, options.fast)
    toy, only = toy_case(options.work, fast=options.fast), options.rows
    for part in options.parts:
        if part == "toy":
            table(bench, "toy", toy, ABLATION[:1], options.seeds)
        elif part == "ablation":
            table(bench, "ablation", toy, ABLATION, options.seeds, only)
        elif part == "gamma":
            table(bench, "gamma", toy, GAMMA, options.seeds, only)
        elif part == "prior":
            table(bench, "prior", toy, PRIOR, options.seeds, only)
        elif part == "rounds":
            table(bench, "rounds", toy, ROUNDS, options.seeds)
        elif part == "hard":
            table(bench, "hard", toy_case(options.work, hard=True, fast=options.fast), HARD, options.seeds, only)
        elif part == "real":
            for name in options.sets:
                case = real_case(options.data, name, options.fast)
                if case is not None:
                    table(bench, name, case, ROUNDS, options.seeds)
        elif part == "clusters":
            clusters(bench, toy, _chosen(ABLATION[:1], only) or _chosen(GAMMA, only), options.seeds)
        elif part == "speed":
            speed(bench, toy)


if __name__ == "__main__":
    main()
