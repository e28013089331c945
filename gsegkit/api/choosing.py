"""A person chooses by looking, and a segmenter learns from the choice."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.comparing import BUDGET, PHOTOGRAPHS
from gsegkit.api.runs import train
from gsegkit.api.session import Session
from gsegkit.choosing.candidates import Candidate, candidates_of
from gsegkit.choosing.choice import FILE_NAME, read_choice
from gsegkit.choosing.distil import SIDE, Chosen, label_all, open_candidate, training_size
from gsegkit.choosing.page import PAGE_FILE, write_page
from gsegkit.comparing.budget import seconds_of
from gsegkit.comparing.compare import Compared, Wanted, comparison_of
from gsegkit.context import RunContext
from gsegkit.engine.readers import build_reader
from gsegkit.errors import ConfigError, DataError
from gsegkit.interfaces import Refiner, Segmenter
from gsegkit.parts import save_part
from gsegkit.records.ours import check_own_file
from gsegkit.rundir import RunFolder, stage_key

PAGE_MARK = b"Choose by looking \xc2\xb7 gsegkit</title>"
LOOK_FOLDER, PAIRS_FOLDER, SEGMENTER_FOLDER = "comparison", "pairs", "segmenter"
FEWEST_PAIRS = 2
NO_TIME = "1s"


@checked
def choose(
    photographs: str | Path,
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    runs: Sequence[str | Path] = (),
    budget: str = BUDGET,
    most: int = PHOTOGRAPHS,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Path:
    """Make the page on which a person chooses between methods by looking; no label is used.

    Args:
        photographs: folder.
        out: new folder, or that of an earlier call on the same photographs.
        methods: segmenters that need no pairs, by name; None = all that are installed.
        runs: folders of finished runs, or made by `train` or `fit`.
        budget: time for the methods, such as "90s", "10m" or "1h".
        most: photographs that the methods are compared on; of more, as many are drawn by `seed`.
        reader_options: options of the folder's reader.
        seed: of every random number.
        device: where to compute.
        session: see `run`.

    Returns:
        The page, `out`/index.html. It saves a choice.json, which `train_choice` takes.

    Raises:
        ConfigError: `out` holds a page that no earlier call wrote.
    """
    session, out = session or Session.default(), Path(out)
    check_own_file(out / PAGE_FILE, PAGE_MARK)
    wanted = _wanted(methods, runs, budget, most)
    ctx = session.context(out, device, seed)
    found = _compared(Path(photographs), wanted, reader_options, ctx, session)
    for one in found.left_out:
        ctx.info(f"left out: {one.name} ({one.why})")
    command = choose_command(photographs, out, methods, runs, seed)
    candidates = candidates_of(found.outcomes, found.rows, session.registry)
    return write_page(out, found.material, candidates, found.left_out, command)


@checked
def train_choice(
    photographs: str | Path,
    out: str | Path,
    choice: str | Path | None = None,
    *,
    seg: str = "unet",
    side: int = SIDE,
    options: dict[str, Any] | None = None,
    methods: Sequence[str] | None = None,
    runs: Sequence[str | Path] = (),
    most: int = PHOTOGRAPHS,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Path:
    """Train a segmenter from a choice: the chosen method labels every photograph, and a network learns from that.

    The arguments that `choose` has too are those of the call that made the page. An interrupted call continues.

    Args:
        photographs: folder; all of it is labelled.
        out: folder of `choose`.
        choice: choice.json; None = that in `out`.
        seg: a segmenter that learns from pairs.
        side: pixels of the longer side that it learns at.
        options: of the segmenter.
        methods: segmenters that need no pairs, by name; None = all that are installed.
        runs: folders of finished runs, or made by `train` or `fit`.
        most: photographs that the methods are compared on; of more, as many are drawn by `seed`.
        reader_options: options of the folder's reader.
        seed: of every random number.
        device: where to compute.
        session: see `run`.

    Returns:
        Folder of the trained segmenter, for `predict`, `evaluate` and `export`.

    Raises:
        ConfigError: a choice of another comparison, or names that are none.
        DataError: the method is sure of next to nothing.
    """
    session, out = session or Session.default(), Path(out)
    if not 16 <= side <= 2048:
        raise ConfigError(f"side={side}: a network learns at 16 to 2,048 pixels", f"{SIDE} is usual")
    ctx = session.context(out, device, seed)
    wanted = _wanted(methods, runs, NO_TIME, most)  # what the page showed is kept; nothing else is measured
    found = _compared(Path(photographs), wanted, reader_options, ctx, session)
    candidates, material = candidates_of(found.outcomes, found.rows, session.registry), found.material
    path = Path(choice) if choice is not None else out / FILE_NAME
    candidate, names = read_choice(path, candidates, material.identity)
    key = stage_key(candidate.id, names, side, material.identity, seed, seg, options or {})
    made = out / f"choice-{key[:8]}"
    method = open_candidate(candidate, out / LOOK_FOLDER, session.registry, ctx.device)
    reader = build_reader(reader_options, session.registry)
    files = replace(reader.images(Path(photographs)), scaling=method.scaling)
    refiner: Refiner | None = None
    if candidate.step != "alone":
        refiner = session.registry.build("refiner", candidate.step)
    with RunFolder(made / PAIRS_FOLDER).locked():
        labelling = replace(ctx, folder=made / PAIRS_FOLDER)
        chosen = Chosen(method, candidate.targets, names)
        pairs = label_all(chosen, refiner, files, training_size(files, side), labelling)
    if len(pairs) < FEWEST_PAIRS:
        sure = f"'{candidate.title}' is sure of only {len(pairs)} of {len(files)} photographs"
        raise DataError(sure, "choose another")
    trained = train(made / PAIRS_FOLDER, seg, made / SEGMENTER_FOLDER, options=options, seed=seed, device=device,
                    session=session)  # fmt: skip
    _pass_on_labels(trained, candidate, method, made / SEGMENTER_FOLDER, seg)
    return made / SEGMENTER_FOLDER


def choose_command(
    photographs: str | Path, out: str | Path, methods: Sequence[str] | None, runs: Sequence[str | Path], seed: int
) -> str:
    """The command that trains from the choice.json that the page saves."""
    words = ["gsegkit", "choose", str(photographs), "--out", str(out), "--choice", FILE_NAME]
    words += ["--methods", ",".join(methods)] if methods is not None else []
    words += [word for run in runs for word in ("--runs", str(run))]
    return shlex.join(words + (["--seed", str(seed)] if seed else []))


def _wanted(methods: Sequence[str] | None, runs: Sequence[str | Path], budget: str, most: int) -> Wanted:
    if most < 1:
        raise ConfigError(f"most={most}: at least one photograph", f"{PHOTOGRAPHS} is usual")
    names = None if methods is None else tuple(methods)
    return Wanted(names, tuple(Path(run) for run in runs), seconds_of(budget), 0, most)


def _compared(
    data: Path, wanted: Wanted, reader_options: dict[str, Any] | None, ctx: RunContext, session: Session
) -> Compared:
    reader = build_reader(reader_options, session.registry)
    own = replace(ctx, folder=ctx.folder / LOOK_FOLDER)
    return comparison_of(data, reader, session.registry, own, wanted, masks=False)


def _pass_on_labels(trained: Segmenter, candidate: Candidate, method: Segmenter, folder: Path, name: str) -> None:
    """Photographs whose labels the method used are not to be scored with what learned from it either."""
    used = tuple(dict.fromkeys((*method.labels_used, *candidate.outcome.method.labels_used)))
    if used and trained.labels_used != used:
        trained.labels_used = used
        save_part(trained, folder, "segmenter", name)
