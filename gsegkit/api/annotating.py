"""Pictures of a run for a person to annotate: a folder of images, first masks and class names."""

from __future__ import annotations

from pathlib import Path

from gsegkit.api.arguments import checked
from gsegkit.api.given import ClassNames, given_names, names_of_run
from gsegkit.api.results import load
from gsegkit.api.session import Session
from gsegkit.classes.class_map import FILE_NAME as CLASSES_FILE
from gsegkit.classes.class_map import RAW_NAME
from gsegkit.classes.colours import run_palette
from gsegkit.classes.named import Named
from gsegkit.colours import display_palette
from gsegkit.editing.drafts import DraftMaker
from gsegkit.editing.folder import MAX_PICTURES
from gsegkit.engine.claim import check_own
from gsegkit.engine.plan import Plan
from gsegkit.errors import ConfigError
from gsegkit.exports.places import check_apart
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.painting.examples import css_colours
from gsegkit.parts import find_part
from gsegkit.reading.class_names import class_names_yaml, read_class_names
from gsegkit.records.annotated import ANNOTATED_FILE, AnnotatedRecord, GeneratorRecord
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write, atomic_write_json
from gsegkit.tensors import state_hash

REMARK = "names of the mask values 0, 1, 2 ...; 255 is unknown; new classes may be added at the end"
OTHER = "choose another --out: what a person has painted stays as it is"


@checked
def annotate(
    run_folder: str | Path,
    out: str | Path,
    *,
    num_samples: int = 10,
    classes: ClassNames | None = None,
    draft: bool = True,
    device: str = "auto",
    session: Session | None = None,
) -> Path:
    """Make a folder of generated pictures for a person to annotate; masks begin with what the run's extractor sees.

    The folder holds images/SEED.png, masks/SEED.png (8-bit indices, 255 = unknown), drafts/SEED.png (what the masks
    began with), classes.yaml, and annotate.json: the generator, its weights' hash and the seeds, so that features of
    the very same pictures can be computed later. The seeds are those of no fit, data set or test. `paint_server` and
    `paint_page` edit the masks; `open_labelled` reads them.

    The same call makes only what is missing: with more samples, pictures are added. Nothing that is there is written
    again, and what a person has removed stays removed.

    Args:
        run_folder: a run, at least to its extractor.
        out: the folder.
        num_samples: pictures, those of earlier calls included.
        classes: names for the run's clusters, as `predict` takes them; None = the run's own classes.
        draft: whether masks begin with what the extractor sees. Pixels of ignored clusters, and of less confidence
            than 0.5, are unknown; without drafts all are.
        device: where to compute.
        session: see `run`.

    Returns:
        `out`.

    Raises:
        ConfigError: the folder has pictures of another generator, or other classes.
        DataError: it holds something else.
    """
    if not 1 <= num_samples <= MAX_PICTURES:
        raise ConfigError(f"{num_samples} pictures cannot be annotated", f"give 1 to {MAX_PICTURES}")
    session, run_folder, out = session or Session.default(), Path(run_folder), Path(out)
    plan = Plan.of_run(run_folder, session.registry)
    check_apart(out, run_folder, "run")
    check_own(out, (ANNOTATED_FILE,), "one that gsegkit annotate made")
    generator: Generator = load(run_folder, "generator", session=session, device=device)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session, device=device)
    names = names_of_run(run_folder, given_names(classes, run_folder, session, device))
    source = extractor.fingerprint() if draft else ""
    if names is not None:
        extractor = Named(extractor, names).eval()
    colours = css_colours(run_palette(run_folder, extractor.classes, names), len(extractor.classes))
    with RunFolder(out).locked():
        record = _record(out, run_folder, generator, plan.batch_size, colours)
        _claim_classes(out, extractor.classes)
        ctx = session.context(out, device, plan.seed, batch_size=record.batch_size)
        if all(RAW_NAME.fullmatch(name) for name in extractor.classes):
            ctx.warn("the classes are clusters without names; name them first: gsegkit name RUN")
        atomic_write_json(out / ANNOTATED_FILE, record.model_dump(mode="json"))
        palette = display_palette(dict(enumerate(colours)))
        DraftMaker(generator, extractor, source, palette).fill(out, record, num_samples, ctx)
    return out


def _record(
    out: Path, run_folder: Path, generator: Generator, batch_size: int, colours: tuple[str, ...]
) -> AnnotatedRecord:
    """That of the folder, or a new one; ConfigError when its pictures are another generator's."""
    part = find_part(run_folder, "generator")
    made = GeneratorRecord(
        name=part.name, options=dict(part.config), facts=dict(part.facts), weights=state_hash(generator)
    )
    size = (generator.info.height, generator.info.width)
    if not (out / ANNOTATED_FILE).exists():
        return AnnotatedRecord(generator=made, size=size, batch_size=batch_size, colours=colours)
    record = AnnotatedRecord.read(out / ANNOTATED_FILE)
    if record.generator is None:
        raise ConfigError(f"'{out}' holds photographs of your own", OTHER)
    if record.generator != made or record.size != size:
        raise ConfigError(f"the pictures in '{out}' were made by another generator", OTHER)
    return record


def _claim_classes(out: Path, classes: tuple[str, ...]) -> None:
    """Write classes.yaml; ConfigError when the folder has other classes, apart from those that a person added."""
    known = read_class_names(out) if (out / ANNOTATED_FILE).exists() else None
    if known is None:
        atomic_write(out / CLASSES_FILE, class_names_yaml(classes, REMARK).encode())
    elif known[: len(classes)] != tuple(classes):
        raise ConfigError(f"'{out}' has other classes: {', '.join(known[:8])}", OTHER)
