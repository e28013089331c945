"""The masks of pairs, scored against another network's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.results import load, open_labelled
from gsegkit.api.session import Session
from gsegkit.classes.held_out import with_note
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.against import by_masks, by_segmenter
from gsegkit.errors import ConfigError, plural
from gsegkit.interfaces import Evaluator, PhotographSegmenter, Segmenter
from gsegkit.parts import holds_parts
from gsegkit.types import Report

ONNX = "onnx-mask"
SAMPLES = 1000


@checked
def evaluate_pairs(
    pairs: str | Path,
    by: str | Path | Segmenter,
    *,
    num_images: int = SAMPLES,
    evaluator: str = "masks",
    options: dict[str, Any] | None = None,
    by_options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Report:
    """Score the masks of generated pairs against another network's masks of the same pictures.

    The other network is taken for the truth, as in papers that have no true masks of generated pictures; where it errs,
    so does the score.

    Args:
        pairs: a run, or a folder of `synthesize`.
        by: a run or a trained segmenter, an ONNX file (see `onnx-mask`), a segmenter, or a folder of pictures of these
            pairs with masks, under the names that `export` gives them. Pictures without a mask are left out.
        num_images: the first so many pairs.
        evaluator: such as "masks", or "clusters" for classes without names.
        options: of the evaluator.
        by_options: of `onnx-mask`: size, mean, std, values, classes ...
        reader_options: of the folder's reader.
        seed: of the evaluator's draws.
        device: where to compute.
        session: see `run`.
    """
    session = session or Session.default()
    scorer: Evaluator = session.registry.build("evaluator", evaluator, options)
    ctx = session.context(Path(pairs), device, seed)  # nothing is written there
    data = open_labelled(pairs, session)
    path = None if isinstance(by, Segmenter) else Path(by)
    if by_options and not (path is not None and path.is_file()):
        raise ConfigError("only an ONNX file takes options of its own", "omit -o by.…")
    if path is None or path.is_file() or holds_parts(path):
        labeller = by if isinstance(by, Segmenter) else _labeller(Path(by), by_options, session, device)
        against = by_segmenter(data, labeller.to(ctx.device).eval(), num_images)
    else:
        against = by_masks(data, open_labelled(path, session, reader_options), num_images)
    report = scorer.evaluate(against.predict, against, ctx)
    return with_note(report, f"scored against another network's masks of {plural(len(against), 'generated picture')}")


def _labeller(path: Path, options: dict[str, Any] | None, session: Session, device: str) -> Segmenter:
    if not path.is_file():
        stored: Segmenter = load(path, session=session, device=device)
        return stored
    made: PhotographSegmenter = session.registry.build("segmenter", ONNX, {**(options or {}), "file": str(path)})
    made.fit_photographs(
        UnlabelledImages(()), session.context(path.parent, device)
    )  # reads the file, and no photograph
    return made
