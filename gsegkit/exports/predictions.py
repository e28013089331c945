"""Predicts the masks of photographs and writes them as files, image by image. The formats are in `formats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.colours import display_palette
from gsegkit.context import RunContext
from gsegkit.distributed.team import Results, Team
from gsegkit.errors import ConfigError, DataError, and_more, plural
from gsegkit.exports.formats import DEFAULT_PREDICTIONS, PREDICTION_FORMATS, load_writer
from gsegkit.exports.inputs import Found, Inputs, Item, find_items, read_items
from gsegkit.exports.inputs import find_inputs as find_inputs
from gsegkit.exports.places import check_free, is_run, unique_name
from gsegkit.exports.shares import packed_json, packed_mask, shares, unpacked_json, unpacked_mask
from gsegkit.exports.video import VIDEO_FORMATS, VideoPredictions
from gsegkit.exports.writers import PredictionWriter
from gsegkit.images import write_png
from gsegkit.interfaces import Segmenter
from gsegkit.reading.images import counted
from gsegkit.reading.scaling import DEFAULT_SCALING, check_scaling
from gsegkit.records.text import cut
from gsegkit.refining import Predictor, in_words
from gsegkit.refining.large import label_one, working_size
from gsegkit.storage import atomic_write_json, read_json

SUMMARY_FILE = "predictions.json"
INDEX_FILE = "index.json"
MAX_BATCH_VALUES = 2**26  # probabilities in one batch: 256 MB of float32
MAX_NAMED = 5  # bad files named in the message; predictions.json names them all
SHARE_BATCHES = 4  # batches that a process predicts before it tells the others
FRAMES = ("images", "video")  # what the frames of a video become


@dataclass(frozen=True)
class PredictSummary:
    """What predict_files did.

    Attributes:
        out: folder of the predictions.
        written: number of images predicted.
        formats: formats written.
        refined_by: names of the refiners that acted, in order.
        changed: what was changed when photographs were read -> of how many.
        skipped: what was left out -> why.
    """

    out: Path
    written: int
    formats: tuple[str, ...]
    refined_by: tuple[str, ...] = ()
    changed: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        how = in_words(dict.fromkeys(self.refined_by))
        lines = [f"{plural(self.written, 'image')} in {self.out} ({', '.join(self.formats)}); {how}"]
        lines += [f"changed: {counted(self.changed)}"] if self.changed else []
        skipped = [f"{what} ({why})" for what, why in self.skipped.items()]
        lines += [f"skipped: {and_more(skipped, MAX_NAMED)}"] if skipped else []
        return "\n".join(lines)


def predict_files(
    predictor: Segmenter | Predictor,
    inputs: Inputs,
    out: str | Path,
    formats: Sequence[str] = DEFAULT_PREDICTIONS,
    ctx: RunContext | None = None,
    palette: Tensor | None = None,
    *,
    scaling: str | None = None,
    frames: str = "images",
) -> PredictSummary:
    """Predict the masks of image files and write them, image by image, in constant memory.

    Neighbours of equal size are predicted together. A file that cannot be read does not stop the others. Every page of
    a TIFF, every frame of an animation or a video is a photograph. What was skipped or changed is in predictions.json.

    The processes of `ctx.team` divide the files, and leave what one would; all must call it, with a folder `out` that
    all see. All get the summary.

    Args:
        predictor: a fitted segmenter, alone or with refiners; it is used on the device where it lies.
            `predictions.json` names the refiners with their options.
        inputs: a file, a folder (searched in depth), a glob pattern, or several of them.
        out: folder for the predictions; `predictions.json` in it lists every file with its name there.
        formats: names of `gsegkit.exports.formats.PREDICTION_FORMATS`.
        ctx: progress, stop and batch size.
        palette: [256, 3] uint8, colours of the classes in overlays; None = `display_palette()`.
        scaling: of photographs with more than 8 bits, see `gsegkit.reading.scaling`; None = as in training.
        frames: of a video become "images" as all photographs do, or a "video" of masks for each format.

    Raises:
        ConfigError: unknown format, or a refiner drops a photograph.
        MissingDependencyError: a video was given, and PyAV is not installed.
            Or a file of `out` would be overwritten that an earlier call did not write.
        DataError: nothing to predict; `out` is, holds or lies in the input folder, or belongs to a run; or, after all
            other files were written, some could not be read (all named in predictions.json).
    """
    out = Path(out)
    ctx = ctx or RunContext(folder=out)
    predictor = predictor if isinstance(predictor, Predictor) else Predictor(predictor)
    formats = tuple(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    _check_formats(formats, frames)
    scaling = _scaling_of(predictor, scaling)
    found = find_items(inputs, out, frames == "video")
    outputs = _Outputs(out, found, formats, predictor, palette, frames, ctx.team)
    written = ctx.team.told(_claim(out, outputs.files()) if ctx.team.first else [])
    told = _Told(scaling, found.skipped)
    try:
        _predict_shares(predictor, found, outputs, told, ctx)
        outputs.close()
    finally:
        outputs.discard()
    done = {item.key: item.name for item in found.items if item.key not in told.bad}
    if ctx.team.first:
        _write_summary(out, predictor, formats, done, written, told)
    ctx.team.wait()
    if told.bad:
        raise _bad_files(told.bad, len({item.key for item in found.items}), out)
    changed = Counter(note for notes in told.changed.values() for note in notes)
    return PredictSummary(out, len(found.items), formats, tuple(predictor.refined_by), changed, found.skipped)


def _check_formats(formats: Sequence[str], frames: str) -> None:
    unknown = [name for name in formats if name not in PREDICTION_FORMATS]
    if unknown or not formats:
        raise ConfigError(
            f"prediction format '{unknown[0]}' is unknown" if unknown else "no prediction format was given",
            f"formats: {', '.join(PREDICTION_FORMATS)}",
        )
    if frames not in FRAMES:
        raise ConfigError(f"frames become {' or '.join(FRAMES)}, not '{frames}'", f"choose one of {', '.join(FRAMES)}")
    stills = [name for name in formats if name not in VIDEO_FORMATS]
    if frames == "video" and stills:
        raise ConfigError(
            f"there are no videos in the format '{stills[0]}'", f"videos: {', '.join(VIDEO_FORMATS)}; or frames images"
        )


def _scaling_of(predictor: Predictor, given: str | None) -> str:
    if given is None:
        return str(getattr(predictor.segmenter, "scaling", DEFAULT_SCALING))
    try:
        return check_scaling(given)
    except ValueError as error:
        raise ConfigError(f"'{cut(given, 60)}' is not a scaling: {error}", "omit it: the segmenter has one") from None


@dataclass
class _Told:
    """What predictions.json says beside the names.

    Attributes:
        scaling: of photographs with more than 8 bits.
        skipped: what was left out -> why.
        bad: photograph -> why it could not be read.
        changed: photograph -> what was changed when it was read.
        shrunk: photograph -> (height, width) that it was labelled at.
        said: sentences for the user.
    """

    scaling: str
    skipped: Mapping[str, str]
    bad: dict[str, str] = field(default_factory=dict)
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shrunk: dict[str, tuple[int, int]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """What was noted, JSON-ready, for the other processes."""
        return {"bad": self.bad, "changed": self.changed, "shrunk": self.shrunk, "said": self.said}

    def add(self, record: Mapping[str, Any]) -> None:
        """Note what another process noted."""
        self.bad.update(record["bad"])
        self.changed.update({key: tuple(notes) for key, notes in record["changed"].items()})
        self.shrunk.update({key: (size[0], size[1]) for key, size in record["shrunk"].items()})


class _Outputs:
    """The writers of all formats; those of a video are open while its frames come.

    Each process writes the files of its photographs. A file that holds all photographs in their order is written by the
    first process, which is given the masks of the others.
    """

    def __init__(
        self,
        out: Path,
        found: Found,
        formats: Sequence[str],
        predictor: Predictor,
        palette: Tensor | None,
        frames: str,
        team: Team,
    ) -> None:
        self.team = team
        self.out, self.found, self.formats = out, found, formats
        self.palette = display_palette() if palette is None else palette
        self.films = found.videos if frames == "video" else {}
        self.kinds = [load_writer(PREDICTION_FORMATS[name]) for name in formats]
        self.writers: list[PredictionWriter] = []
        self.classes, self.path = predictor.classes, Path()
        self.film: VideoPredictions | None = None

    def files(self) -> list[str]:
        """Every file below `out` that will be written."""
        names = [item.name for item in self.found.items if item.path not in self.films]
        filmed = {item.name for item in self.found.items if item.path in self.films}
        films = [VideoPredictions.files(name, self.formats) for name in sorted(filmed)]
        stills = [file for kind in self.kinds for file in kind.files(names)] if names else []
        return [*stills, *(file for files in films for file in files)]

    @property
    def in_order(self) -> bool:
        """Whether the first process needs the masks of all photographs, in their order."""
        return any(kind.in_order for kind in self.kinds)

    def write(self, item: Item, image: Tensor, mask: Tensor) -> None:
        """Write one photograph's own files, or append its masks to its video's."""
        if item.path not in self.films:
            for writer in self._writers():
                if not writer.in_order:
                    writer.write(item.name, item.source, image, mask)
            return
        if self.film is None or item.path != self.path:
            self.end_film()
            self.path = item.path
            self.film = VideoPredictions(self.out, item.name, self.formats, self.palette, self.films[item.path][1])
        self.film.write(image, mask)

    def append(self, item: Item, mask: Tensor) -> None:
        """Append one photograph's masks to the files of all; in the first process, in the order of the photographs."""
        for writer in self._writers():
            if writer.in_order and self.team.first:
                writer.write(item.name, item.source, mask, mask)

    def close(self) -> None:
        """Finish everything."""
        self.end_film()
        for writer in self.writers:
            if self.team.first:
                writer.close()

    def _writers(self) -> list[PredictionWriter]:
        if not self.writers:
            kinds = [kind for kind in self.kinds if self.team.first or not kind.in_order]
            self.writers = [kind(self.out, self.classes, self.palette) for kind in kinds]
        return self.writers

    def discard(self) -> None:
        """Drop unfinished files; harmless after close()."""
        if self.film is not None:
            self.film.discard()
        for writer in self.writers:
            writer.discard()

    def end_film(self) -> None:
        """Finish the video that is open, if one is."""
        if self.film is not None:
            self.film.close()
        self.film = None


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


def _predict_shares(predictor: Predictor, found: Found, outputs: _Outputs, told: _Told, ctx: RunContext) -> None:
    """Predict all photographs, each process its shares of them; `told` notes those of all."""
    team, parts = ctx.team, shares(found.items, SHARE_BATCHES * ctx.batch_size)
    before = 0

    def predicted(items: list[Item]) -> Results:
        """What was noted, and the readable photographs' masks where the first process needs those of the others."""
        nonlocal before
        noted, kept, done = _Told(told.scaling, {}), list[Tensor](), 0
        for batch in _batches(replace(found, items=items), len(predictor.classes), noted, ctx):
            for (item, image), mask in zip(batch, _label(predictor, batch, noted), strict=True):
                outputs.write(item, image, mask)
                if team.alone:
                    outputs.append(item, mask)
                elif outputs.in_order:
                    kept.append(packed_mask(mask))
            done += len(batch)
            ctx.progress.advance(min(before + done * team.size, len(found.items)), {})
        before += len(items) * team.size
        outputs.end_film()
        return packed_json(noted.record()), *kept

    ctx.progress.start(f"{ctx.folder.name}: predicting", len(found.items))
    try:
        for items, (record, *masks) in zip(parts, team.map(predicted, parts, at_once=1), strict=True):
            _tell(told, unpacked_json(record), ctx)
            readable = [item for item in items if item.key not in told.bad]
            for item, packed in zip(readable, masks, strict=bool(masks)):
                outputs.append(item, unpacked_mask(packed))
    finally:
        ctx.progress.finish()


def _tell(told: _Told, noted: Mapping[str, Any], ctx: RunContext) -> None:
    """Tell the user what was noted of a share, and note it."""
    for message in dict.fromkeys(noted["bad"].values()):
        if message not in told.bad.values():  # a video that ends early lacks many frames
            ctx.warn(message)
    for text in noted["said"]:
        ctx.info(text)
    told.add(noted)


def _batches(found: Found, num_classes: int, told: _Told, ctx: RunContext) -> Iterator[list[tuple[Item, Tensor]]]:
    """Runs of readable neighbours of one size; unreadable ones go to `told.bad` with the reason."""
    batch: list[tuple[Item, Tensor]] = []
    for item, photograph in zip(found.items, read_items(found, told.scaling), strict=True):
        ctx.check_stop()
        if isinstance(photograph, DataError):
            told.bad[item.key] = photograph.message
            continue
        if photograph.notes:
            told.changed[item.key] = photograph.notes
        pixels = photograph.pixels
        limit = min(ctx.batch_size, MAX_BATCH_VALUES // (pixels[0].numel() * num_classes))
        if batch and (batch[0][1].shape != pixels.shape or len(batch) >= limit):
            yield batch
            batch = []
        batch.append((item, pixels))
    if batch:
        yield batch


def _label(predictor: Predictor, batch: Sequence[tuple[Item, Tensor]], told: _Told) -> Sequence[Tensor]:
    """Masks of photographs of one size; a large one, which comes alone, goes through its working size."""
    item, image = batch[0]
    height, width = int(image.shape[1]), int(image.shape[2])
    if len(batch) > 1:
        return tuple(predictor.label(torch.stack([image for _, image in batch])).masks.cpu())
    if size := working_size(predictor, height, width):
        told.shrunk[item.key] = size
        small = f"{size[1]} x {size[0]}"
        told.said.append(
            f"'{item.key}' ({width} x {height}) is labelled at {small} and enlarged: it is too large for more"
        )
    return (label_one(predictor, image),)


def _write_summary(
    out: Path,
    predictor: Predictor,
    formats: Sequence[str],
    names: Mapping[str, str],
    written: Sequence[str],
    told: _Told,
) -> None:
    record = {
        "classes": list(predictor.classes),
        "refined_by": predictor.refined_by,
        "formats": list(formats),
        "scaling": told.scaling,
        "files": dict(names),
        "bad": dict(told.bad),
        "skipped": dict(told.skipped),
        "changed": {key: list(notes) for key, notes in told.changed.items()},
        "written": list(written),
        "labelled_at": {key: list(size) for key, size in told.shrunk.items()},
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
