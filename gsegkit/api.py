"""The Python API: the command line's verbs as functions."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.artifacts import COMPONENT_FILE, atomic_write_json, load_part, read_json, save_part
from gsegkit.context import RunContext
from gsegkit.dataset import MANIFEST_FILE, LabelledDataset, ShardDataset
from gsegkit.devices import pick_device
from gsegkit.errors import ArtifactError, CapabilityError, ConfigError, DataError
from gsegkit.interfaces import (
    DatasetReader,
    Evaluator,
    Generator,
    MaskExtractor,
    Predictor,
    Segmenter,
    TrainableGenerator,
)
from gsegkit.pipeline import Result, build_refiners
from gsegkit.pipeline import run as run_plan
from gsegkit.plan import PartSpec, Plan
from gsegkit.plugins import KIND_ALIASES, Registry, installed
from gsegkit.progress import Progress
from gsegkit.rundir import RunFolder
from gsegkit.synthesis import synthesize as make_pairs
from gsegkit.types import Report

DATASET_FORMATS = ("png", "coco", "yolo", "voc", "webdataset", "huggingface")
MODEL_FORMATS = ("onnx", "torch")


@dataclass
class Session:
    """How the functions below talk to their caller; shared by the command line."""

    registry: Registry
    progress: Progress
    stop: threading.Event

    @staticmethod
    def default() -> Session:
        """Everything installed, silent."""
        return Session(installed(), Progress(), threading.Event())

    def context(self, folder: Path, device: str, seed: int = 0, **options: Any) -> RunContext:
        """A context outside a run."""
        return RunContext(
            folder=folder, device=pick_device(device), seed=seed, progress=self.progress, stop=self.stop, **options
        )


def run(
    gen: str | PartSpec,
    extractor: str | PartSpec,
    seg: str | PartSpec,
    *,
    refine: list[str | PartSpec] | None = None,
    out: str | Path | None = None,
    options: list[str] | None = None,
    update: bool = False,
    session: Session | None = None,
    **fields: Any,
) -> Result:
    """Generator to segmenter in one call; the same as `gsegkit run`.

    Args:
        gen: generator, by name or as a PartSpec with options.
        extractor: mask extractor.
        seg: segmenter.
        refine: refiners in order.
        out: run folder.
        options: `"part.option=value"` strings, as after `-o`.
        update: remake what changed in an existing run folder.
        session: registry, progress and stop signal; None = everything installed, silent.
        fields: other fields of `Plan`: num_samples, images, data, seed, device ...

    Example:
        >>> result = gsegkit.run("toy", "native", "unet", num_samples=500)  # doctest: +SKIP
        >>> result.report.metrics["iou_foreground"]  # doctest: +SKIP
    """
    session = session or Session.default()
    base = {"gen": gen, "extractor": extractor, "seg": seg, "refine": refine or []}
    plan = Plan.from_options(_dumped(base), options or [], **fields)
    return run_plan(plan, out, registry=session.registry, progress=session.progress, stop=session.stop, update=update)


def load(folder: str | Path, kind: str = "segmenter", *, session: Session | None = None, device: str = "cpu") -> Any:
    """A fitted part of a run folder: its "segmenter" (default), "extractor" or "generator", of the last round.

    Raises:
        ArtifactError: the folder holds no such part, or it is damaged.
    """
    session = session or Session.default()
    kind = KIND_ALIASES.get(kind, kind)
    if kind == "generator":
        return _load_generator(Path(folder), session, device)
    found = _part_folder(Path(folder), kind)
    record = read_json(found / COMPONENT_FILE)
    if record.get("kind") != kind:
        raise ArtifactError(f"'{found}' holds a {record.get('kind')}, not a {kind}", f"give a folder with a {kind}")
    part = session.registry.build(kind, record["name"], record["config"])
    load_part(part, found)
    return part.to(pick_device(device)).eval()


def synthesize(
    run_folder: str | Path,
    out: str | Path,
    num_samples: int,
    *,
    refine: list[str] | None = None,
    worker: tuple[int, int] = (0, 1),
    device: str = "auto",
    session: Session | None = None,
) -> ShardDataset | None:
    """More pairs from a finished run's generator and extractor, into a folder of their own.

    Args:
        run_folder: where generator and extractor come from.
        out: folder of the new data set; interrupted work there is continued.
        num_samples: generated candidates.
        refine: other refiners than the run's; None = the run's.
        worker: (index, count) to divide the work among processes that share `out`.
        device: where to compute.
        session: see `run`.

    Returns:
        The data set, or None when other workers are still to finish.
    """
    session = session or Session.default()
    plan = _plan_of(Path(run_folder))
    if refine is not None:
        plan = plan.model_copy(update={"refine": tuple(PartSpec(name=name) for name in refine)})
    generator: Generator = load(run_folder, "generator", session=session, device=device)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session, device=device)
    ctx = session.context(Path(out), device, plan.seed, batch_size=plan.batch_size)
    recipe = {**plan.model_dump(mode="json", include={"gen", "extractor", "refine", "seed", "batch_size"})}
    _claim_dataset(Path(out), {**recipe, "num_samples": num_samples})
    refiners = build_refiners(plan, session.registry)
    return make_pairs(generator, extractor, refiners, num_samples, ctx, worker=worker, recipe=recipe)


def train(
    data: str | Path,
    seg: str,
    out: str | Path,
    *,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Segmenter:
    """Train a segmenter on pairs: a run, a synthesized data set, or an annotated folder. Resumes when interrupted."""
    session = session or Session.default()
    out = Path(out)
    with RunFolder(out).locked():
        segmenter: Segmenter = session.registry.build("segmenter", seg, options)
        ctx = session.context(out, device, seed)
        segmenter.to(ctx.device).fit(open_labelled(data, session, reader_options), ctx)
        save_part(segmenter, out, "segmenter", seg)
    return segmenter


def train_generator(
    name: str,
    images: str | Path,
    out: str | Path,
    *,
    options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Generator:
    """Train a generator on an image folder and store its weights in `out`. Resumes when interrupted."""
    session = session or Session.default()
    out = Path(out)
    entry = session.registry.find("generator", name)
    if "trainable" not in entry.component.provides:
        raise CapabilityError(f"generator '{name}' cannot be trained", "gsegkit list shows which ones are trainable")
    reader: DatasetReader = session.registry.build("dataset", "folder")
    photographs = reader.images(Path(images))
    with RunFolder(out).locked():
        generator: TrainableGenerator = session.registry.build("generator", name, options)
        ctx = session.context(out, device, seed)
        fitted = photographs.fitted((generator.info.height, generator.info.width), generator.info.fit_rule)
        generator.to(ctx.device).fit(fitted, ctx)
        save_part(generator, out, "generator", name)
    return generator


def evaluate(
    run_folder: str | Path,
    data: str | Path,
    *,
    evaluator: str = "masks",
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    device: str = "auto",
    session: Session | None = None,
) -> Report:
    """Score a trained segmenter on an annotated folder."""
    session = session or Session.default()
    segmenter = load(run_folder, "segmenter", session=session, device=device)
    scorer: Evaluator = session.registry.build("evaluator", evaluator, options)
    ctx = session.context(Path(run_folder), device)
    return scorer.evaluate(Predictor(segmenter), open_labelled(data, session, reader_options), ctx)


def predict(
    run_folder: str | Path,
    inputs: str | Path,
    out: str | Path,
    *,
    formats: tuple[str, ...] = ("label", "overlay"),
    device: str = "auto",
    session: Session | None = None,
) -> Any:
    """Segment a file, a folder or a glob of photographs; writes masks and overlays to `out`."""
    from gsegkit.writers import predict_files

    session = session or Session.default()
    segmenter = load(run_folder, "segmenter", session=session, device=device)
    return predict_files(segmenter, inputs, Path(out), formats, session.context(Path(out), device))


def export(
    run_folder: str | Path, out: str | Path, format: str, *, session: Session | None = None, **options: Any
) -> Any:
    """Export the segmenter ("onnx", "torch") or the data set ("png", "coco", "yolo", "voc" ...) of a run."""
    session = session or Session.default()
    if format in MODEL_FORMATS:
        from gsegkit.export_model import export_model

        return export_model(load(run_folder, "segmenter", session=session), Path(out), format, **options)
    if format in DATASET_FORMATS:
        from gsegkit.export_dataset import export_dataset

        dataset = open_labelled(run_folder, session)
        return export_dataset(dataset, Path(out), format, session.context(Path(out), "cpu"), **options)
    raise ConfigError(f"no export format '{format}'", f"formats: {', '.join(MODEL_FORMATS + DATASET_FORMATS)}")


def open_labelled(
    folder: str | Path, session: Session, reader_options: dict[str, Any] | None = None
) -> LabelledDataset:
    """Pairs from a run folder, a folder of shards, or an annotated image folder (read with the reader's options)."""
    folder = Path(folder)
    if (folder / MANIFEST_FILE).exists():
        return ShardDataset(folder)
    if (folder / "config.json").exists():
        rounds = sorted(folder.glob(f"dataset*/{MANIFEST_FILE}"), key=lambda path: _round_number(path.parent))
        if not rounds:
            raise DataError(f"run '{folder}' has no finished data set", "run it to its end first")
        return ShardDataset(rounds[-1].parent)
    labelled: LabelledDataset = session.registry.build("dataset", "folder", reader_options).labelled(folder)
    return labelled


# ---- inside --------------------------------------------------------------------------------------------------------


def _dumped(base: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, PartSpec):
            return value.model_dump()
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: plain(value) for name, value in base.items()}


def _plan_of(folder: Path) -> Plan:
    return Plan.from_options(RunFolder(folder).read_config())


def _load_generator(folder: Path, session: Session, device: str) -> Generator:
    plan = _plan_of(folder)
    generator: Generator = session.registry.build("generator", plan.gen.name, plan.gen.options)
    if plan.train_generator:
        load_part(generator, _part_folder(folder, "generator"))
    return generator.to(pick_device(device)).eval()


def _part_folder(folder: Path, kind: str) -> Path:
    if (folder / COMPONENT_FILE).exists():
        return folder
    found = sorted((path.parent for path in folder.glob(f"{kind}*/{COMPONENT_FILE}")), key=_round_number)
    if not found:
        what = "does not exist" if not folder.exists() else f"holds no trained {kind}"
        raise ArtifactError(f"'{folder}' {what}", "give a folder made by gsegkit run or gsegkit train")
    return found[-1]


def _round_number(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _claim_dataset(out: Path, recipe: dict[str, Any]) -> None:
    """Refuse to mix two data sets in one folder."""
    path = out / "recipe.json"
    if path.exists():
        if read_json(path) != recipe:
            raise ConfigError(f"'{out}' holds a data set made with other options", "choose another --out")
    elif out.exists() and any(out.iterdir()):
        raise DataError(f"folder '{out}' is not empty", "choose another --out")
    atomic_write_json(path, recipe)


__all__ = [
    "Session",
    "evaluate",
    "export",
    "load",
    "open_labelled",
    "predict",
    "run",
    "synthesize",
    "train",
    "train_generator",
]
