"""The Python API: the command line's verbs as functions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsegkit.annotations import display_palette
from gsegkit.artifacts import COMPONENT_FILE, atomic_write, atomic_write_json, load_part, read_json, save_part
from gsegkit.classmap import FILE_NAME as CLASSES_FILE
from gsegkit.classmap import (
    ClassMap,
    as_class_map,
    check_target,
    class_map_yaml,
    is_class_map,
    parse_class_map,
    parse_classes,
    read_values,
    stored_class_map,
)
from gsegkit.clusters import ClusterExtractor
from gsegkit.context import RunContext
from gsegkit.dataset import MANIFEST_FILE, LabelledDataset, ShardDataset, Subset
from gsegkit.devices import pick_device
from gsegkit.errors import ArtifactError, CapabilityError, ConfigError, DataError
from gsegkit.interfaces import (
    DatasetReader,
    Evaluator,
    Generator,
    GeneratorEvaluator,
    MaskExtractor,
    Predictor,
    Segmenter,
    TrainableGenerator,
)
from gsegkit.matching import choose_images
from gsegkit.naming import (
    Match,
    Named,
    Renamed,
    check_fits,
    check_origin,
    clusters_of,
    fingerprint,
    leave_out,
    match_clusters,
    predicted_clusters,
    with_note,
)
from gsegkit.pipeline import Result, build_refiners, recipe_of
from gsegkit.pipeline import run as run_plan
from gsegkit.plan import PartSpec, Plan
from gsegkit.plugins import KIND_ALIASES, Registry, installed
from gsegkit.progress import Progress
from gsegkit.rundir import RunFolder
from gsegkit.synthesis import synthesize as make_pairs
from gsegkit.types import Report

if TYPE_CHECKING:
    from gsegkit.naming_page import Shown, View

DATASET_FORMATS = ("png", "coco", "yolo", "voc", "webdataset", "huggingface")
MODEL_FORMATS = ("onnx", "torch")
CANDIDATES = 8  # pictures looked at for each one shown, so that rare clusters are seen
NAMES_FOLDER = "names"  # of a run: the page and the sheet of its clusters


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

    A folder that holds one part alone, such as `train_generator` makes, is read too.

    Raises:
        ArtifactError: the folder holds no such part, or it is damaged.
    """
    session = session or Session.default()
    kind = KIND_ALIASES.get(kind, kind)
    if kind == "generator" and not (Path(folder) / COMPONENT_FILE).exists():
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
    classes: str | Path | ClassMap | None = None,
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
        classes: names for the extractor's clusters, a classes.yaml or its content; None = the run's own, if any.
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
    if classes is not None:
        plan = plan.model_copy(update={"classes": as_class_map(classes)})
    generator: Generator = load(run_folder, "generator", session=session, device=device)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session, device=device)
    ctx = session.context(Path(out), device, plan.seed, batch_size=plan.batch_size)
    if plan.classes is not None:
        extractor = Named(extractor, plan.classes)
    recipe = recipe_of(plan, extractor)
    _claim_dataset(Path(out), {**recipe, "num_samples": num_samples})
    refiners = build_refiners(plan, session.registry)
    return make_pairs(generator, extractor, refiners, num_samples, ctx, worker=worker, recipe=recipe)


def train(
    data: str | Path,
    seg: str,
    out: str | Path,
    *,
    classes: str | Path | ClassMap | None = None,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Segmenter:
    """Train a segmenter on pairs: a run, a synthesized data set, or an annotated folder. Resumes when interrupted.

    `classes` (a classes.yaml or its content) merges the clusters of pairs that were made without names.
    """
    session = session or Session.default()
    out = Path(out)
    pairs = open_labelled(data, session, reader_options)
    class_map = as_class_map(classes)
    if class_map is not None:
        pairs = _renamed(pairs, class_map)
    with RunFolder(out).locked():
        segmenter: Segmenter = session.registry.build("segmenter", seg, options)
        ctx = session.context(out, device, seed)
        segmenter.to(ctx.device).fit(pairs, ctx)
        save_part(segmenter, out, "segmenter", seg)
        if class_map is not None:
            atomic_write(out / CLASSES_FILE, class_map_yaml(class_map).encode())
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
    """Score a trained segmenter on an annotated folder.

    Images whose labels helped to name its classes (`labels_used` of its class names) are left out, and a note says so.
    """
    session = session or Session.default()
    _check_match_file((options or {}).get("match"), Path(run_folder), session)
    segmenter = load(run_folder, "segmenter", session=session, device=device)
    scorer: Evaluator = session.registry.build("evaluator", evaluator, options)
    ctx = session.context(Path(run_folder), device)
    names = stored_class_map(run_folder)
    dataset, note = leave_out(open_labelled(data, session, reader_options), names.labels_used if names else ())
    return with_note(scorer.evaluate(Predictor(segmenter), dataset, ctx), note)


def evaluate_generator(
    generator: str | Path | Generator,
    images: str | Path,
    *,
    evaluator: str = "frechet",
    generator_options: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Report:
    """Compare what a generator paints with a folder of photographs; no labels are used.

    Args:
        generator: a name, a run folder, a folder made by `train_generator`, or a generator (moved to the device).
        images: photographs, best those that it was not trained on.
        evaluator: generator evaluator.
        generator_options: options of a generator that is given by name.
        options: options of the evaluator.
        reader_options: options of the folder's reader.
        seed: of the pictures, and of the choice of photographs.
        device: where to compute.
        session: see `run`.
    """
    session = session or Session.default()
    scorer: GeneratorEvaluator = session.registry.build("generator-evaluator", evaluator, options)
    if not isinstance(generator, Generator):
        generator = open_generator(generator, session, generator_options)
    reader: DatasetReader = session.registry.build("dataset", "folder", reader_options)
    photographs = reader.images(Path(images))
    ctx = session.context(Path(evaluator), device, seed)  # nothing is written there
    return scorer.evaluate(generator.to(ctx.device), photographs, ctx)


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
    names = stored_class_map(run_folder)
    palette = display_palette(names.colours(segmenter.classes) if names else None)
    return predict_files(segmenter, inputs, Path(out), formats, session.context(Path(out), device), palette)


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


def name_page(
    run_folder: str | Path,
    out: str | Path | None = None,
    *,
    images: int = 12,
    max_clusters: int = 30,
    device: str = "auto",
    session: Session | None = None,
) -> Path:
    """Make the page on which people merge, name and colour the clusters of a run's extractor.

    Args:
        run_folder: the run.
        out: the page, one HTML file that needs nothing else; None = `RUN/names/index.html`.
        images: generated images to show.
        max_clusters: finest level to show; the present cut is always there.
        device: where to compute.
        session: see `run`.
    """
    from gsegkit.naming_page import render_page

    out = Path(out) if out is not None else Path(run_folder) / NAMES_FOLDER / "index.html"
    candidates = min(images * CANDIDATES, 128)
    shown = _look(run_folder, images, None, max_clusters, device, session or Session.default(), candidates)
    atomic_write(out, render_page(shown, str(run_folder), stored_class_map(run_folder)).encode())
    return out


def list_clusters(
    run_folder: str | Path,
    cut: int | None = None,
    *,
    images: int = 8,
    sheet: str | Path | None = None,
    device: str = "auto",
    session: Session | None = None,
) -> tuple[View, Path]:
    """The clusters of a cut with their shares, and a contact sheet of them.

    Args:
        run_folder: the run.
        cut: number of clusters; None = the present cut.
        images: generated images in a row of the sheet: those that show most of the row's cluster.
        sheet: the sheet, a PNG; None = `RUN/names/sheet.png`.
        device: where to compute.
        session: see `run`.
    """
    from gsegkit.naming_page import write_sheet

    sheet = Path(sheet) if sheet is not None else Path(run_folder) / NAMES_FOLDER / "sheet.png"
    shown = _look(run_folder, min(images * CANDIDATES, 128), cut, None, device, session or Session.default())
    write_sheet(shown, sheet, images)
    return shown.levels[0], sheet


def name(
    run_folder: str | Path,
    classes: Sequence[str] = (),
    *,
    cut: int | None = None,
    ignore: str = "",
    save: str | Path | None = None,
    session: Session | None = None,
) -> ClassMap:
    """Give the clusters of a run's extractor names.

    Args:
        run_folder: the run.
        classes: `"NAME=3,0"`, `"NAME#44aa22=1,2"` or `"NAME=*"` (all others), in mask order, the background first;
            none = every cluster is a class of its own, to be edited in the file.
        cut: number of clusters; None = the present cut.
        ignore: clusters whose pixels become 255, `"7,8"`.
        save: classes.yaml to write; None = do not write one.
        session: see `run`.

    Raises:
        ConfigError: a cluster is unknown, named twice or left out, or two classes have one name.
    """
    if save is not None:
        check_target(save)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session)
    ids = clusters_of(extractor, cut)
    rows, ignored = parse_classes(classes, ignore, ids)
    if not classes:
        rows = [{"name": f"cluster-{i}", "clusters": [i]} for i in ids if i not in ignored]
    level = (cut or extractor.k) if isinstance(extractor, ClusterExtractor) else None
    values = {"extractor": fingerprint(extractor), "cut": level, "classes": rows, "ignore": ignored}
    class_map = parse_class_map(values, "the class names")
    check_fits(class_map, extractor)
    if save is not None:
        atomic_write(Path(save), class_map_yaml(class_map).encode())
    return class_map


def match(
    run_folder: str | Path,
    data: str | Path,
    *,
    images: int = 20,
    cut: int | None = None,
    save: str | Path | None = None,
    seed: int = 0,
    reader_options: dict[str, Any] | None = None,
    device: str = "auto",
    session: Session | None = None,
) -> Match:
    """Name a run's clusters by the labels of a few annotated photographs (KLiSH's greedy rule).

    The run's segmenter predicts the photographs. This uses labels: the images are recorded in `labels_used`, and
    `evaluate` leaves them out.

    Args:
        run_folder: a finished run.
        data: annotated folder.
        images: at most this many of its images, chosen by `seed`.
        cut: match the clusters of a coarser cut than the run's; None = the run's.
        save: classes.yaml to write; None = do not write one.
        seed: chooses the images.
        reader_options: options of the folder's reader.
        device: where to compute.
        session: see `run`.

    Raises:
        ConfigError: the segmenter's classes are not this run's clusters, or (with `save`) one class got all of them.
    """
    session = session or Session.default()
    if images < 1:
        raise ConfigError(f"matching needs at least one annotated image, got images={images}", "the paper's rule: 20")
    if save is not None:
        check_target(save)
    segmenter: Segmenter = load(run_folder, "segmenter", session=session, device=device)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session)
    predicted = predicted_clusters(segmenter.classes, extractor, stored_class_map(run_folder), cut)
    dataset = open_labelled(data, session, reader_options)
    chosen = Subset(dataset, choose_images(len(dataset), images, seed))
    ctx = session.context(Path(run_folder), device)
    found = match_clusters(Predictor(segmenter), predicted, extractor, chosen, ctx)
    if len(chosen) == len(dataset):
        ctx.warn(f"all {len(dataset)} images were used for the matching: none is left to score")
    if save is not None:
        atomic_write(Path(save), class_map_yaml(found.class_map()).encode())
    return found


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


def open_generator(given: str | Path, session: Session, options: dict[str, Any] | None = None) -> Generator:
    """A generator by name (with options), or as a run folder or a folder of `train_generator` holds it.

    Raises:
        ConfigError: options were given for a stored one.
    """
    folder = Path(given)
    if not any((folder / name).exists() for name in ("config.json", COMPONENT_FILE)):
        named: Generator = session.registry.build("generator", str(given), options)
        return named.eval()
    if options:
        raise ConfigError(f"the generator in '{folder}' has its options", "leave out -o gen.…, or give a name")
    stored: Generator = load(folder, "generator", session=session)
    return stored


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


def _look(
    run_folder: str | Path,
    images: int,
    cut: int | None,
    max_clusters: int | None,
    device: str,
    session: Session,
    candidates: int = 0,
) -> Shown:
    """A run's clusters on generated pictures: of one cut, or (with `max_clusters`) of all levels up to that."""
    from gsegkit.naming_page import look

    plan = _plan_of(Path(run_folder))
    extractor: MaskExtractor = load(run_folder, "extractor", session=session, device=device)
    clusters_of(extractor, cut)
    generator: Generator = load(run_folder, "generator", session=session, device=device)
    ctx = session.context(Path(run_folder), device, plan.seed, batch_size=plan.batch_size)
    return look(generator, extractor, ctx, images, cut, max_clusters, candidates)


def _renamed(pairs: LabelledDataset, class_map: ClassMap) -> LabelledDataset:
    recipe = pairs.manifest.recipe if isinstance(pairs, ShardDataset) else {}
    if recipe.get("classes"):
        raise ConfigError("these pairs have class names already", "leave out the class names")
    check_origin(class_map, recipe.get("fingerprint", class_map.extractor))
    return Renamed(pairs, class_map)


def _check_match_file(match: Any, folder: Path, session: Session) -> None:
    """When classes are matched by class names, those must belong to this run's fit."""
    if not isinstance(match, str) or not Path(match).is_file():
        return  # a rule, or the evaluator says that there is no such file
    values = read_values(match)
    if is_class_map(values) and any(folder.glob(f"extractor*/{COMPONENT_FILE}")):
        check_origin(parse_class_map(values, match), fingerprint(load(folder, "extractor", session=session)))


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
    "evaluate_generator",
    "export",
    "list_clusters",
    "load",
    "match",
    "name",
    "name_page",
    "open_generator",
    "open_labelled",
    "predict",
    "run",
    "synthesize",
    "train",
    "train_generator",
]
