"""Painters: pictures from masks, learned from the pairs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.api.arguments import checked
from gsegkit.api.given import ClassNames, given_names, names_of_run, pairs_under_names
from gsegkit.api.results import load, open_labelled
from gsegkit.api.session import Session
from gsegkit.classes.class_map import FILE_NAME as CLASSES_FILE
from gsegkit.classes.class_map import class_map_yaml, stored_class_map
from gsegkit.classes.colours import run_palette
from gsegkit.classes.named import Named
from gsegkit.config import build_config
from gsegkit.dataset import LabelledDataset
from gsegkit.editing.folder import AnnotationFolder, can_be_edited
from gsegkit.engine.claim import TRAINING_MARKS, check_own, claim_work
from gsegkit.engine.identity import labelled_identity
from gsegkit.engine.work import renewal, work_of
from gsegkit.errors import ConfigError
from gsegkit.exports.places import check_apart
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.painting import Painter
from gsegkit.painting.examples import examples_of, stored_examples
from gsegkit.painting.sampling import MaskSampling, MaskSamplingConfig
from gsegkit.parts import COMPONENT_FILE, save_part
from gsegkit.records.ours import check_own_file
from gsegkit.rundir import RunFolder
from gsegkit.seeds import sample_seeds
from gsegkit.storage import atomic_write
from gsegkit.tensors import state_hash

PAGE_FILE, EDITOR_FILE, PAGE_MARK = "painter.html", "editor.html", b"gsegkit</title>"
ROWS, STYLES = 6, 4  # of the contact sheet
CAPTION = f"Masks of the run's pairs, their own pictures, and {STYLES} painted from each mask: one style a column."


@checked
def train_painter(
    run_folder: str | Path,
    out: str | Path,
    *,
    painter: str = "class-adaptive",
    classes: ClassNames | None = None,
    options: dict[str, Any] | None = None,
    seed: int = 0,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Painter:
    """Train a painter on the pairs of a finished run; the run's segmenter is what it learns through.

    A contact sheet of what it paints lies in `out`, as figures/painted.png, and masks to start from, for `paint_page`.
    Resumes when interrupted; see `train`.

    Args:
        run_folder: a finished run.
        out: new folder, or one of the same work.
        painter: its name.
        classes: names for the run's clusters, as `predict` takes them; None = the run's own.
        options: of the painter.
        seed: of every random number.
        update: train anew what `out` holds of other options or other pairs.
        device: where to compute.
        session: see `run`.

    Raises:
        ArtifactError: the run has no trained segmenter.
        ConfigError: the names do not fit, or `out` holds another painter and `update` is false.
        DataError: the run has no pairs, or `out` holds something else.
    """
    session = session or Session.default()
    out, run_folder = Path(out), Path(run_folder)
    part: Painter = session.registry.build("painter", painter, options)
    segmenter: Segmenter = load(run_folder, session=session, device=device)
    names = given_names(classes, run_folder, session, device) or stored_class_map(run_folder)
    opened = open_labelled(run_folder, session)
    pairs = pairs_under_names(opened, names, run_folder, session)
    part.scaling = opened.scaling
    check_apart(out, run_folder, "run")
    check_own(out, TRAINING_MARKS, "a trained part")
    with (folder := RunFolder(out)).locked():
        work = work_of(
            "train-painter", painter, part, seed,
            classes=names.identity if names is not None else None, segmenter=state_hash(segmenter),
        )  # fmt: skip
        ctx = session.context(out, device, seed)
        if warning := claim_work(folder, work, labelled_identity(run_folder, opened, out), update, renewal(part)):
            ctx.warn(f"{warning}: it is continued with those of now")
        part.to(ctx.device).fit(pairs, ctx, segmenter=segmenter)
        save_part(part.eval(), out, "painter", painter)
        if names is not None:
            atomic_write(out / CLASSES_FILE, class_map_yaml(names).encode())
        examples_of(pairs, run_folder, names).save(out)
        sheet = contact_sheet(part, pairs, run_palette(run_folder, pairs.classes, names))
        ctx.figure("painted", sheet, CAPTION, columns=2 + STYLES)
    return part


@checked
def open_painter(
    folder: str | Path,
    *,
    classes: ClassNames | None = None,
    options: dict[str, Any] | None = None,
    device: str = "cpu",
    session: Session | None = None,
) -> Painter:
    """A painter, ready to paint: that of a folder of `train_painter`, or mask-sampling with the parts of a run.

    Mask-sampling needs no training and takes seconds a picture, see `gsegkit.painting.sampling`.

    Args:
        folder: of `train_painter`, or a finished run.
        classes: names for a run's clusters, as `predict` takes them; None = the run's own.
        options: of mask-sampling.
        device: where to compute.
        session: see `run`.

    Raises:
        ArtifactError: the folder holds no painter and no extractor, or it is damaged.
        CapabilityError: mask-sampling cannot work with the run's generator and extractor.
        ConfigError: names or options for a trained painter, or some that do not fit.
    """
    session = session or Session.default()
    if (Path(folder) / COMPONENT_FILE).exists():
        if classes is not None or options:
            raise ConfigError(
                f"'{folder}' holds a painter with class names and options of its own",
                "omit them, or give the run folder to paint by mask-sampling",
            )
        painter: Painter = load(folder, "painter", session=session, device=device)
        return painter
    config = build_config(MaskSamplingConfig, options or {}, "painter")
    extractor: MaskExtractor = load(folder, "extractor", session=session, device=device)
    generator: Generator = load(folder, "generator", session=session, device=device)
    names = given_names(classes, folder, session, device)
    if own := names_of_run(folder, names):
        extractor = Named(extractor, own)
    return MaskSampling(generator, extractor, config).eval()


@checked
def paint_page(folder: str | Path, out: str | Path | None = None, *, session: Session | None = None) -> Path:
    """Make the page on which people paint: one HTML file that needs no server, no network and no Python.

    Of a folder of `annotate`, or one of your own photographs (images/ and classes.yaml), it is an editor of masks,
    which holds the pictures and gives the masks as a zip.

    Args:
        folder: of `train_painter`, or a folder to annotate.
        out: the page; None = painter.html or editor.html in `folder`.
        session: see `run`.

    Raises:
        ArtifactError: the folder holds no painter, or it is damaged.
        ConfigError: this painter does not run in a page, is too large for one, or no earlier call wrote `out`.
    """
    from gsegkit.editing.page import static_editor
    from gsegkit.painting.page import static_page

    folder = Path(folder)
    if out is not None:
        check_own_file(Path(out), PAGE_MARK)
    if can_be_edited(folder):
        page = Path(out) if out is not None else folder / EDITOR_FILE
        check_own_file(page, PAGE_MARK)
        atomic_write(page, static_editor(AnnotationFolder(folder), folder.resolve().name).encode())
        return page
    painter = open_painter(folder, session=session)
    text = static_page(painter, stored_examples(folder, painter), folder.resolve().name)
    page = Path(out) if out is not None else folder / PAGE_FILE
    atomic_write(page, text.encode())
    return page


def contact_sheet(painter: Painter, pairs: LabelledDataset, palette: Tensor) -> Tensor:
    """Rows of mask, true picture and painted pictures: [ROWS * (2 + STYLES), 3, H, W] uint8 on the CPU.

    Args:
        painter: fitted to pairs of this size.
        pairs: whose masks are painted, spread over the data set.
        palette: [256, 3] uint8, colours of the mask values.
    """
    rows = torch.linspace(0, len(pairs) - 1, min(ROWS, len(pairs))).round().long().tolist()
    pixels, masks = pairs.batch(rows)
    columns = [palette[masks.long()].permute(0, 3, 1, 2), pixels]
    for z in painter.latents(sample_seeds(0, "preview", 0, STYLES)):
        columns.append(to_pixels(painter.paint(masks, z.expand(len(masks), -1).contiguous())).cpu())
    return torch.stack(columns, dim=1).flatten(0, 1)
