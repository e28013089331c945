"""Predicts the masks of photographs and writes them as files, image by image. The formats are in `formats`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.errors import ConfigError, DataError, and_more
from gsegkit.exports.formats import DEFAULT_PREDICTIONS, PREDICTION_FORMATS, load_writer
from gsegkit.exports.places import below_common_folder, check_free, is_run, output_names, unique_name
from gsegkit.exports.writers import PredictionWriter
from gsegkit.images import list_images, read_image, write_png
from gsegkit.interfaces import Segmenter
from gsegkit.refining import Predictor, in_words
from gsegkit.refining.large import label_large, working_size
from gsegkit.storage import atomic_write_json, read_json

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
            Or a file of `out` would be overwritten that an earlier call did not write.
        DataError: nothing to predict; `out` is, holds or lies in the input folder, or belongs to a run; or, after all
            other files were written, some could not be read (all named in predictions.json).
    """
    out = Path(out)
    ctx = ctx or RunContext(folder=out)
    predictor = predictor if isinstance(predictor, Predictor) else Predictor(predictor)
    formats = [formats] if isinstance(formats, str) else formats
    unknown = [name for name in formats if name not in PREDICTION_FORMATS]
    if unknown or not formats:
        raise ConfigError(
            f"prediction format '{unknown[0]}' is unknown" if unknown else "no prediction format was given",
            f"formats: {', '.join(PREDICTION_FORMATS)}",
        )
    files = find_inputs(inputs, out)
    sources = dict(zip(files, below_common_folder(files), strict=True))
    names = dict(zip(files, output_names(files), strict=True))
    kinds = [load_writer(PREDICTION_FORMATS[name]) for name in dict.fromkeys(formats)]
    written = _claim(out, [file for kind in kinds for file in kind.files(names.values())])
    writers: list[PredictionWriter] = [kind(out, predictor.classes, palette) for kind in kinds]
    bad: dict[str, str] = {}
    shrunk: dict[str, tuple[int, int]] = {}
    try:
        for batch in _batches(files, len(predictor.classes), bad, ctx):
            for (path, image), mask in zip(batch, _label(predictor, batch, shrunk, ctx), strict=True):
                for writer in writers:
                    writer.write(names[path], sources[path], image, mask)
        for writer in writers:
            writer.close()
    finally:
        for writer in writers:
            writer.discard()
    done = {path: name for path, name in names.items() if str(path) not in bad}
    _write_summary(out, predictor, formats, done, bad, written, shrunk)
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
    several = [inputs] if isinstance(inputs, str | Path) else inputs
    if not isinstance(several, Sequence) or not all(isinstance(given, str | Path) for given in several):
        raise DataError(
            f"photographs are given as files, not as {type(inputs).__name__}",
            "give an image, a folder or a pattern; load(RUN).predict(pixels) takes tensors",
        )
    for given in several:
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
    once = {os.path.abspath(path): path for path in reversed(files)}  # `x.png` and `sub/../x.png` are one file
    files = {path: None for path in files if once[os.path.abspath(path)] == path}
    if not files:
        raise DataError("there are no images to predict", "give an image, a folder or a quoted pattern")
    if any(path.resolve().is_relative_to(out.resolve()) for path in files):
        raise DataError(f"inputs lie in the output folder '{out}'", "choose another output folder")
    return list(files)


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


def _label(
    predictor: Predictor, batch: Sequence[tuple[Path, Tensor]], shrunk: dict[str, tuple[int, int]], ctx: RunContext
) -> Sequence[Tensor]:
    """Masks of photographs of one size; a large one, which comes alone, goes through its working size."""
    path, image = batch[0]
    height, width = int(image.shape[1]), int(image.shape[2])
    size = working_size(height, width, len(predictor.classes))
    if size is None:
        return tuple(predictor.label(torch.stack([image for _, image in batch])).masks.cpu())
    shrunk[str(path)] = size
    ctx.info(
        f"'{path}' ({width} x {height}) is labelled at {size[1]} x {size[0]} and enlarged: it is too large for more"
    )
    return (label_large(predictor, image, size),)


def _write_summary(
    out: Path,
    predictor: Predictor,
    formats: Sequence[str],
    names: Mapping[Path, str],
    bad: Mapping[str, str],
    written: Sequence[str],
    shrunk: Mapping[str, tuple[int, int]],
) -> None:
    record = {
        "classes": list(predictor.classes),
        "refined_by": predictor.refined_by,
        "formats": list(formats),
        "files": {str(path): name for path, name in names.items()},
        "bad": dict(bad),
        "written": list(written),
        "labelled_at": {path: list(size) for path, size in shrunk.items()},
    }
    atomic_write_json(out / SUMMARY_FILE, record)


def _claim(out: Path, files: Sequence[str]) -> list[str]:
    """Note in predictions.json which files will be written, before the first one is; earlier ones of ours stay noted.

    Raises:
        DataError: `out` is a run's folder, or a file would lie outside it.
        ConfigError: a file is there that `predict` did not write.
    """
    if is_run(out):
        raise DataError(f"output folder '{out}' is a run folder", "choose a folder outside it")
    earlier = _written_before(out)
    check_free(out, [SUMMARY_FILE, *files], earlier)
    written = sorted({*earlier, SUMMARY_FILE, *files})
    atomic_write_json(out / SUMMARY_FILE, {"written": written})
    return written


def _written_before(out: Path) -> list[str]:
    """The files that an earlier call wrote, as its predictions.json says; [] when that is no record of ours."""
    path = out / SUMMARY_FILE
    record = read_json(path) if path.is_file() else {}
    if not isinstance(record, dict):
        return []
    if isinstance(record.get("written"), list):
        return [name for name in record["written"] if isinstance(name, str)]
    names, formats = record.get("files"), record.get("formats")
    if not isinstance(names, dict) or not isinstance(formats, list):
        return []
    kinds = [load_writer(PREDICTION_FORMATS[name]) for name in PREDICTION_FORMATS if name in formats]
    return [SUMMARY_FILE, *(file for kind in kinds for file in kind.files([str(name) for name in names.values()]))]


def _bad_files(bad: Mapping[str, str], total: int, out: Path) -> DataError:
    reasons = list(bad.values())
    return DataError(
        f"{len(bad)} of {total} images could not be predicted: {and_more(reasons, MAX_NAMED)}",
        f"the other {total - len(bad)} are in '{out}'; {SUMMARY_FILE} there names every file",
    )
