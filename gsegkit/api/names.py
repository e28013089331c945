"""Names for the clusters of a run: on a page, by command, by a few labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsegkit.api.arguments import checked
from gsegkit.api.results import load, open_labelled
from gsegkit.api.session import Session
from gsegkit.classes.class_map import (
    ClassMap,
    check_target,
    class_map_yaml,
    parse_class_map,
    parse_classes,
    stored_class_map,
)
from gsegkit.classes.held_out import choose_images
from gsegkit.classes.in_parts import parts_to_name
from gsegkit.classes.match import Match, match_clusters, predicted_clusters
from gsegkit.classes.named import check_fits, clusters_of
from gsegkit.dataset import Subset
from gsegkit.engine.choices import choose
from gsegkit.engine.plan import Plan
from gsegkit.engine.sources import open_shown
from gsegkit.errors import ArtifactError, ConfigError, plural
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.records.ours import PNG_MARK, check_own_file
from gsegkit.refining import Predictor
from gsegkit.storage import atomic_write

if TYPE_CHECKING:
    from gsegkit.classes.page import Shown, View

SHOWN_PHOTOGRAPHS = 8  # on the page: the first ones by name
PAGE_MARK = b"gsegkit</title>"
NAMES_FOLDER = "names"  # of a run: the page and the sheet of its clusters


@checked
def name_page(
    run_folder: str | Path,
    out: str | Path | None = None,
    *,
    num_images: int = 12,
    max_clusters: int = 30,
    images: str | Path | None = None,
    device: str = "auto",
    session: Session | None = None,
) -> Path:
    """Make the page on which people merge, name and colour the clusters of a run's extractor.

    Args:
        run_folder: the run.
        out: the page, one HTML file that needs nothing else; None = `RUN/names/index.html`.
        num_images: generated images to show.
        max_clusters: finest level to show; the present cut and the level that the page begins with are always there.
        images: folder of photographs to show the clusters on, by the run's segmenter; None = the run's own photographs,
            or those that ship with its generator's weights.
        device: where to compute.
        session: see `run`.

    Raises:
        ConfigError: `out` is a file that no earlier call wrote.
    """
    from gsegkit.classes.page import num_candidates, render_page

    if out is not None:
        check_own_file(Path(out), PAGE_MARK)
    out = Path(out) if out is not None else Path(run_folder) / NAMES_FOLDER / "index.html"
    session = session or Session.default()
    extractor: MaskExtractor = load(run_folder, "extractor", session=session)
    given = stored_class_map(run_folder)
    names = given or parts_to_name(extractor)  # to begin with
    finest = max(max_clusters, (names.cut or 0) if names else 0)
    shown = _look(run_folder, num_images, None, finest, device, session, num_candidates(num_images))
    shown = _with_photographs(shown, run_folder, images, device, session)
    atomic_write(out, render_page(shown, str(run_folder), names, automatic=given is None).encode())
    return out


@checked
def list_clusters(
    run_folder: str | Path,
    cut: int | None = None,
    *,
    num_images: int = 8,
    sheet: str | Path | None = None,
    device: str = "auto",
    session: Session | None = None,
) -> tuple[View, Path]:
    """The clusters of a cut with their shares, and a contact sheet of them.

    Args:
        run_folder: the run.
        cut: number of clusters; None = the present cut.
        num_images: generated images in a row of the sheet: those that show most of the row's cluster.
        sheet: the sheet, a PNG; None = `RUN/names/sheet.png`.
        device: where to compute.
        session: see `run`.

    Raises:
        ConfigError: `sheet` is a file that no earlier call wrote.
    """
    from gsegkit.classes.page import num_candidates, write_sheet

    if sheet is not None:
        check_own_file(Path(sheet), PNG_MARK)
    sheet = Path(sheet) if sheet is not None else Path(run_folder) / NAMES_FOLDER / "sheet.png"
    shown = _look(run_folder, num_candidates(num_images), cut, None, device, session or Session.default())
    write_sheet(shown, sheet, num_images)
    return shown.levels[0], sheet


@checked
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
    level = len(ids) if extractor.levels else None
    values = {"extractor": extractor.fingerprint(), "cut": level, "classes": rows, "ignore": ignored}
    class_map = parse_class_map(values, "the class names")
    check_fits(class_map, extractor)
    if save is not None:
        atomic_write(Path(save), class_map_yaml(class_map).encode())
    return class_map


@checked
def match(
    run_folder: str | Path,
    data: str | Path,
    *,
    num_images: int = 20,
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
        num_images: at most this many of its images, chosen by `seed`.
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
    if num_images < 1:
        raise ConfigError(
            f"matching needs at least one annotated image, got num_images={num_images}", "the paper uses 20"
        )
    if save is not None:
        check_target(save)
    segmenter: Segmenter = load(run_folder, "segmenter", session=session, device=device)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session)
    predicted = predicted_clusters(segmenter.classes, extractor, stored_class_map(run_folder), cut)
    dataset = open_labelled(data, session, reader_options, segmenter.scaling)
    chosen = Subset(dataset, choose_images(len(dataset), num_images, seed))
    ctx = session.context(Path(run_folder), device)
    for note in dataset.notes:
        ctx.info(note)
    found = match_clusters(Predictor(segmenter), predicted, extractor, chosen, ctx)
    if len(chosen) == len(dataset):
        ctx.warn(f"every one of {plural(len(dataset), 'image')} was used for the matching, so none is left to score")
    if save is not None:
        atomic_write(Path(save), class_map_yaml(found.class_map()).encode())
    return found


def _with_photographs(
    shown: Shown, run_folder: str | Path, images: str | Path | None, device: str, session: Session
) -> Shown:
    """Add the first photographs of a folder, or of the run; or none where its segmenter knows no clusters."""
    from gsegkit.classes.page import with_photographs

    try:
        segmenter: Segmenter = load(run_folder, "segmenter", session=session, device=device)
        extractor: MaskExtractor = load(run_folder, "extractor", session=session)
        predicted = predicted_clusters(segmenter.classes, extractor, stored_class_map(run_folder))
    except (ArtifactError, ConfigError):
        if images is not None:
            raise
        return shown
    found = open_shown(choose(Plan.of_run(run_folder, session.registry), session.registry), session.registry, images)
    if found is None:
        return shown
    found = replace(found, scaling=segmenter.scaling)
    names = [path.stem for path in found.paths[:SHOWN_PHOTOGRAPHS]]
    height, width = (int(size) for size in shown.pixels.shape[2:])
    pixels = found.fitted((height, width), segmenter.batch_rule).batch(range(len(names)))
    return with_photographs(shown, pixels, names, segmenter, predicted, extractor)


def _look(
    run_folder: str | Path,
    num_images: int,
    cut: int | None,
    max_clusters: int | None,
    device: str,
    session: Session,
    candidates: int = 0,
) -> Shown:
    """A run's clusters on generated images: of one cut, or (with `max_clusters`) of all levels up to that."""
    from gsegkit.classes.page import look

    plan = Plan.of_run(run_folder, session.registry)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session, device=device)
    clusters_of(extractor, cut)
    generator: Generator = load(run_folder, "generator", session=session, device=device)
    ctx = session.context(Path(run_folder), device, plan.seed, batch_size=plan.batch_size)
    return look(generator, extractor, ctx, num_images, cut, max_clusters, candidates)
