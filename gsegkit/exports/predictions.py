"""Predicts the masks of photographs and writes them as files, image by image. The formats are in `formats`."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.errors import ConfigError, DataError, and_more
from gsegkit.exports.formats import DEFAULT_PREDICTIONS, PREDICTION_FORMATS, load_writer
from gsegkit.exports.writers import PredictionWriter, unique_name
from gsegkit.images import list_images, read_image, write_png
from gsegkit.interfaces import Segmenter
from gsegkit.refining import Predictor, in_words
from gsegkit.storage import atomic_write_json

SUMMARY_FILE = "predictions.json"
INDEX_FILE = "index.json"
MAX_BATCH_VALUES = 2**26  # probabilities in one batch: 256 MB of float32
MAX_NAMED = 5  # bad files named in the message; predictions.json names them all

Inputs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class PredictSummary:
    """What predict_files did.

    Attributes:
        out: folder of the predictions.
        written: number of images predicted.
        formats: formats written.
        refined_by: names of the refiners that acted, in order.
    """

    out: Path
    written: int
    formats: tuple[str, ...]
    refined_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        how = in_words(dict.fromkeys(self.refined_by))
        return f"{self.written} images in {self.out} ({', '.join(self.formats)}); {how}"


def predict_files(
    predictor: Segmenter | Predictor,
    inputs: Inputs,
    out: str | Path,
    formats: Sequence[str] = DEFAULT_PREDICTIONS,
    ctx: RunContext | None = None,
    palette: Tensor | None = None,
) -> PredictSummary:
    """Predict the masks of image files and write them, image by image, in constant memory.

    Neighbours of equal size are predicted together. A file that cannot be read does not stop the others.

    Args:
        predictor: a fitted segmenter, alone or with refiners; it is used on the device where it lies.
            `predictions.json` names the refiners with their options.
        inputs: a file, a folder (searched in depth), a glob pattern, or several of them.
        out: folder for the predictions; `predictions.json` in it lists every file with its name there.
        formats: names of `gsegkit.exports.formats.PREDICTION_FORMATS`.
        ctx: progress, stop and batch size.
        palette: [256, 3] uint8, colours of the classes in overlays; None = `display_palette()`.

    Raises:
        ConfigError: unknown format, or a refiner drops a photograph.
        DataError: nothing to predict; `out` is, holds or lies in the input folder; or, after all other files were
            written, some could not be read (all named in predictions.json).
    """
    out = Path(out)
    ctx = ctx or RunContext(folder=out)
    predictor = predictor if isinstance(predictor, Predictor) else Predictor(predictor)
    unknown = [name for name in formats if name not in PREDICTION_FORMATS]
    if unknown or not formats:
        raise ConfigError(
            f"prediction format '{unknown[0]}' is unknown" if unknown else "no prediction format was given",
            f"formats: {', '.join(PREDICTION_FORMATS)}",
        )
    files = find_inputs(inputs, out)
    sources = dict(zip(files, _below_common_folder(files), strict=True))
    names = dict(zip(files, output_names(files), strict=True))
    writers: list[PredictionWriter] = [
        load_writer(PREDICTION_FORMATS[name])(out, predictor.classes, palette) for name in dict.fromkeys(formats)
    ]
    bad: dict[str, str] = {}
    try:
        for batch in _batches(files, len(predictor.classes), bad, ctx):
            pixels = torch.stack([image for _, image in batch])
            masks = predictor.label(pixels).masks
            for (path, image), mask in zip(batch, masks.cpu(), strict=True):
                for writer in writers:
                    writer.write(names[path], sources[path], image, mask)
        for writer in writers:
            writer.close()
    finally:
        for writer in writers:
            writer.discard()
    _write_summary(out, predictor, formats, {p: n for p, n in names.items() if str(p) not in bad}, bad)
    if bad:
        raise _bad_files(bad, len(files), out)
    return PredictSummary(out, len(files), tuple(dict.fromkeys(formats)), tuple(predictor.refined_by))


def write_predictions(
    folder: Path,
    names: Sequence[str],
    pixels: Sequence[Tensor],
    masks: Sequence[Tensor],
    truths: Sequence[Tensor] | None = None,
    refined: Sequence[Tensor] | None = None,
) -> None:
    """Write predictions for a report: NAME.image.png, NAME.label.png, perhaps NAME.truth.png and NAME.refined.png.

    Names are made safe for the file system; `index.json` says which file stem stands for which name, in order.

    Args:
        folder: where they go.
        names: names of the images.
        pixels: [3, H, W] uint8 each, of any sizes.
        masks: [H, W] uint8 each, the predicted classes.
        truths: [H, W] uint8 each, the annotation; None = there is none.
        refined: [H, W] uint8 each, what refiners made of `masks`; None = no refiner acted.
    """
    taken: set[str] = set()
    index: dict[str, str] = {}
    for i, name in enumerate(names):
        stem = unique_name(name, taken)
        index[stem] = name
        write_png(folder / f"{stem}.image.png", pixels[i])
        write_png(folder / f"{stem}.label.png", masks[i])
        if truths is not None:
            write_png(folder / f"{stem}.truth.png", truths[i])
        if refined is not None:
            write_png(folder / f"{stem}.refined.png", refined[i])
    atomic_write_json(folder / INDEX_FILE, index)


def find_inputs(inputs: Inputs, out: Path) -> list[Path]:
    """The image files that `inputs` names, each once, in a stable order.

    Raises:
        DataError: a file or folder is missing, a pattern matches nothing, or predictions would mix with the inputs.
    """
    files: dict[Path, None] = {}
    for given in [inputs] if isinstance(inputs, str | Path) else inputs:
        path = Path(given)
        if path.is_dir():
            _refuse_mixing(path, out)
            files.update(dict.fromkeys(list_images(path)))
        elif path.exists() or not glob.has_magic(str(given)):
            if not path.exists():
                raise DataError(f"input '{given}' does not exist", "give an image, a folder or a quoted pattern")
            files[path] = None
        else:
            found = sorted(Path(name) for name in glob.glob(str(given), recursive=True) if Path(name).is_file())
            if not found:
                raise DataError(f"no file matches '{given}'", "check the pattern")
            files.update(dict.fromkeys(found))
    if not files:
        raise DataError("there are no images to predict", "give an image, a folder or a quoted pattern")
    if any(path.resolve().is_relative_to(out.resolve()) for path in files):
        raise DataError(f"inputs lie in the output folder '{out}'", "choose another output folder")
    return list(files)


def output_names(files: Sequence[Path]) -> list[str]:
    """A name without suffix for every file, unique even where a file system ignores case.

    The name is the path below the files' common folder, without its suffix; files that would share a name keep theirs
    (`cat.png`, `cat.jpg` -> `cat.png`, `cat.jpg`), and files that differ in case alone are numbered.
    """
    full = _below_common_folder(files)
    names = [PurePosixPath(name).with_suffix("").as_posix() for name in full]
    while clashes := [i for i, count in _counts(names) if count > 1 and names[i] != full[i]]:
        for i in clashes:
            names[i] = full[i]
    return [f"{names[i]}-{i + 1}" if count > 1 else names[i] for i, count in _counts(names)]


def _below_common_folder(files: Sequence[Path]) -> list[str]:
    paths = [path.absolute() for path in files]
    top = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(top).as_posix() for path in paths]


def _counts(names: Sequence[str]) -> list[tuple[int, int]]:
    folded = [name.casefold() for name in names]
    counts = Counter(folded)
    return [(i, counts[name]) for i, name in enumerate(folded)]


def _refuse_mixing(folder: Path, out: Path) -> None:
    inner, outer = out.resolve(), folder.resolve()
    if inner == outer or inner.is_relative_to(outer):
        where = "is" if inner == outer else "lies in"
        raise DataError(
            f"output folder '{out}' {where} the input folder '{folder}'",
            "choose a folder outside it, so that predictions are never mistaken for photographs",
        )


def _batches(
    files: Sequence[Path], num_classes: int, bad: dict[str, str], ctx: RunContext
) -> Iterator[list[tuple[Path, Tensor]]]:
    """Runs of readable neighbours of one size; unreadable files go to `bad` with the reason."""
    batch: list[tuple[Path, Tensor]] = []
    for path in ctx.track(files, "predicting"):
        try:
            pixels = read_image(path)
        except DataError as error:
            bad[str(path)] = error.message
            ctx.warn(error.message)
            continue
        limit = min(ctx.batch_size, MAX_BATCH_VALUES // (pixels[0].numel() * num_classes))
        if batch and (batch[0][1].shape != pixels.shape or len(batch) >= limit):
            yield batch
            batch = []
        batch.append((path, pixels))
    if batch:
        yield batch


def _write_summary(
    out: Path, predictor: Predictor, formats: Sequence[str], names: Mapping[Path, str], bad: Mapping[str, str]
) -> None:
    record = {
        "classes": list(predictor.classes),
        "refined_by": predictor.refined_by,
        "formats": list(formats),
        "files": {str(path): name for path, name in names.items()},
        "bad": dict(bad),
    }
    atomic_write_json(out / SUMMARY_FILE, record)


def _bad_files(bad: Mapping[str, str], total: int, out: Path) -> DataError:
    reasons = list(bad.values())
    return DataError(
        f"{len(bad)} of {total} images could not be predicted: {and_more(reasons, MAX_NAMED)}",
        f"the other {total - len(bad)} are in '{out}'; {SUMMARY_FILE} there names every file",
    )
