"""From a bare folder of photographs to a segmenter: look, plan, and carry out one ordinary verb after the other."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.comparing import compare
from gsegkit.api.fitting import fit
from gsegkit.api.runs import run_plan, train_generator
from gsegkit.api.session import Session
from gsegkit.comparing.budget import Deadline
from gsegkit.comparing.compare import Comparison
from gsegkit.config import parse_assignments
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.choices import PreflightError, choose
from gsegkit.engine.claim import check_own
from gsegkit.engine.devices import pick_device
from gsegkit.engine.estimate import estimate
from gsegkit.engine.identity import contents_identity
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check, check_trainable
from gsegkit.errors import DataError, GsegkitError, InterruptedRunError, StorageError
from gsegkit.exports.places import check_apart, safe_part
from gsegkit.interfaces import DatasetReader, PhotographSegmenter, Segmenter
from gsegkit.looking import look as looking
from gsegkit.looking.look import Look
from gsegkit.looking.words import sentences
from gsegkit.progress import duration
from gsegkit.rundir import RunFolder
from gsegkit.starting.experience import FEWEST, enough_photographs
from gsegkit.starting.plan import budget, command, config_of, generator_options, make_plan
from gsegkit.starting.record import START_FILE, Done, Planned, Start, Step, earlier
from gsegkit.starting.speed import images_per_second
from gsegkit.starting.wanted import COMPARE, GENERATOR, RUN, Wanted, options_of
from gsegkit.storage import storage_errors

PHOTOGRAPHS = "photographs"  # folder of those that are of use, where some are not
PROBE_SHARE, PROBE_MOST = 0.02, 30.0  # of the time, and seconds, that measuring the training's speed takes


@dataclass(frozen=True)
class Started:
    """What `start` left.

    Attributes:
        folder: of everything.
        record: what was seen, planned and done, see `gsegkit.starting.record.Start`.
        photographs: the folder that the steps read: the user's own, or one of those that are of use.
    """

    folder: Path
    record: Start
    photographs: Path

    @property
    def segmenters(self) -> tuple[Path, ...]:
        """Folders that serve `predict`, `evaluate` and `export`: what `compare` puts first, the run, the baselines."""
        made = [step.folder for step in self.record.plan.steps if step.verb in ("run", "fit")]
        done = [folder for folder in made if self.record.is_done(folder)]
        best = self.record.done[COMPARE].best if self.record.is_done(COMPARE) else ""
        return tuple(self.folder / name for name in sorted(done, key=lambda name: (name != best, name != RUN)))


def default_folder(photos: Path) -> Path:
    """Where `start` puts a folder's results when nobody says: `runs/start-NAME`."""
    return Path("runs") / f"start-{safe_part(photos.resolve().name)}"


@checked
def look(photos: str | Path, *, session: Session | None = None) -> Look:
    """Look at a folder of photographs: how many, how large, how alike, how framed.

    `gsegkit.looking.words.sentences` says it in words.

    Raises:
        DataError: no image, too many that cannot be read, or all alike.
    """
    session = session or Session.default()
    return looking.look(_images(Path(photos), session), Path(photos), session.context(Path(photos), "cpu"))


@checked
def start(
    photos: str | Path,
    out: str | Path | None = None,
    *,
    hours: float = 2.0,
    gen: str = "stylegan2",
    extractor: str = "klish",
    seg: str = "unet",
    target: str = "parts",
    fewest: int = FEWEST,
    options: list[str] | None = None,
    seed: int = 0,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Started:
    """The whole way from a folder of photographs to a segmenter, within the time. Call it again to resume.

    It looks at the folder, plans, fits the baselines that need no label, trains a generator where there are enough
    photographs, runs it to a segmenter, and compares all of them. Each step is an ordinary verb with its own folder in
    `out`; one that fails is told, and those that do not need it go on.

    Args:
        photos: folder of photographs.
        out: new folder, or one of the same work; None = `default_folder`.
        hours: for everything.
        gen: a trainable generator.
        extractor: mask extractor.
        seg: segmenter of the run.
        target: classes of the run: "parts", "foreground" or "clusters".
        fewest: no generator is trained on fewer photographs.
        options: `"part.option=value"` strings, as after `-o`, of gen, extractor, seg, refine, run and selftrain.
        seed: of every random number.
        update: plan anew, and make anew what depends on it.
        device: where to compute.
        session: see `run`.

    Raises:
        GsegkitError: of folder, options or time; nothing was computed.
        InterruptedRunError: stopped; everything is kept.
    """
    began = time.monotonic()
    session = session or Session.default()
    photos = Path(photos)
    out = default_folder(photos) if out is None else Path(out)
    wanted = Wanted(hours, gen, extractor, seg, target, fewest, options_of(options or []), seed, device)
    images = _images(photos, session)
    _check_plan(wanted, photos, session)
    check_apart(out, photos, "folder of photographs")
    work = {**asdict(wanted), "verb": "start"}
    check_own(out, (START_FILE,), "a folder of gsegkit start")
    with RunFolder(out).locked():
        contents = contents_identity(images.paths, out)
        known = earlier(out, work, contents, update)
        if known is None:
            known = _planned(wanted, photos, images, work, contents, out, began, session)
            known.write(out)
        else:
            session.progress.message(f"continuing '{out}': {duration(known.spent)} of {duration(wanted.seconds)} spent")
        used = _usable(photos, images, known.found, out)
        compared = _folder_compared(photos, known.found, out)
        return _Work(wanted, used, compared, out, session, update, began - known.spent).all(known)


# ---- look and plan -------------------------------------------------------------------------------------------------


def _images(photos: Path, session: Session) -> UnlabelledImages:
    reader: DatasetReader = session.registry.build("dataset", "folder")
    return reader.images(photos)


def _run_plan(wanted: Wanted, photos: Path, weights: str, more: Sequence[str] = ()) -> Plan:
    base = {"gen": wanted.gen, "extractor": wanted.extractor, "seg": wanted.seg}
    fields = {"target": wanted.target, "photos": photos, "seed": wanted.seed, "device": wanted.device}
    return Plan.from_options(base, [f"gen.weights={weights}", *more], **fields)


def _check_plan(wanted: Wanted, photos: Path, session: Session) -> None:
    """Unknown names and options, and parts that do not fit, before anything is read."""
    check_trainable(session.registry.find("generator", wanted.gen))
    config_of(session.registry, "generator", wanted.gen, wanted.of("gen"), "gen")
    problems = check(choose(_run_plan(wanted, photos, "none", wanted.of_run), session.registry))
    if problems:
        raise PreflightError(problems)


def _baselines(session: Session) -> dict[str, bool]:
    """Name -> whether it learns from photographs, of the segmenters that need neither a generator nor a label."""
    found = {}
    ctx = session.context(Path(), "cpu")
    for entry in session.registry.of_kind("segmenter"):
        if "without-pairs" not in entry.component.provides or entry.missing_modules():
            continue
        try:
            segmenter: Segmenter = entry.build()
            if isinstance(segmenter, PhotographSegmenter) and segmenter.learns_from == "nothing":
                segmenter.fit_photographs(UnlabelledImages(()), ctx)
        except GsegkitError:  # it needs something of the user's, such as a file
            continue
        if segmenter.learns_from in ("nothing", "photographs"):
            found[entry.component.name] = segmenter.learns_from == "photographs"
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _planned(
    wanted: Wanted,
    photos: Path,
    images: UnlabelledImages,
    work: dict[str, Any],
    contents: dict[str, str],
    out: Path,
    began: float,
    session: Session,
) -> Start:
    ctx = session.context(out, wanted.device, wanted.seed)
    found = looking.look(images, photos, ctx)
    for sentence in sentences(found):
        ctx.info(sentence)
    training = generator_options(wanted, found, session.registry, ctx.device.type != "cpu")
    speed, stages = None, dict[str, float]()
    if enough_photographs(found.usable, wanted.fewest)[0]:
        good = replace(images, paths=tuple(_good(images, photos, found)))
        speed, stages = _measured(wanted, training, photos, good, session)
    spent = time.monotonic() - began
    plan = make_plan(wanted, found, session.registry, _baselines(session), training, speed, stages, spent)
    _say(plan, wanted, photos, found, out, spent, session)
    return Start(work=work, contents=contents, found=found, plan=plan)


def _measured(
    wanted: Wanted, training: Mapping[str, Any], photos: Path, good: UnlabelledImages, session: Session
) -> tuple[float, dict[str, float]]:
    """Images per second of the training, and seconds of each stage of a whole run with what it makes."""
    session.progress.message("measuring how fast this machine is")
    full = {name: value for name, value in training.items() if name != "grow_from"}  # most steps are at full size
    seconds = min(PROBE_SHARE * wanted.seconds, PROBE_MOST)
    with tempfile.TemporaryDirectory(prefix="gsegkit-start-") as temporary:
        weights = Path(temporary) / GENERATOR
        speed = images_per_second(
            wanted.gen, full, good, weights, session.registry, pick_device(wanted.device), session.stop, seconds
        )  # fmt: skip
        plan = _run_plan(wanted, photos, str(weights), wanted.of_run)
        try:
            stages = estimate(plan, session.registry, Path(temporary) / RUN).seconds
        except GsegkitError as error:  # of a generator that has hardly begun: the real one may do
            session.progress.message(f"the time of the run is a guess: {error.message}", "warning")
            stages = {}
    if session.stop.is_set():
        raise InterruptedRunError("stopped", "run the same command again")
    return speed, stages


def _say(plan: Planned, wanted: Wanted, photos: Path, found: Look, out: Path, spent: float, session: Session) -> None:
    tell = session.progress.message
    for sentence in plan.sentences:
        tell(sentence)
    if plan.images_per_second is not None:
        tell(f"The training shows {plan.images_per_second:.0f} images per second on this machine.")
    until = _clock(wanted.seconds - spent)
    tell(f"The plan for {duration(wanted.seconds)}, of which {duration(spent)} are spent; it ends by about {until}:")
    for place, step in enumerate(plan.steps, 1):
        share = step.seconds / wanted.seconds
        tell(f"{place}. {step.folder}: at most {duration(step.seconds)} ({share:.0%})")
        folder = (_folder_compared if step.folder == COMPARE else _folder_used)(photos, found, out)
        tell(f"     {command(step, wanted, folder, out, step.seconds)}")


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))


# ---- the photographs that are of use -------------------------------------------------------------------------------


def _good(images: UnlabelledImages, photos: Path, found: Look) -> list[Path]:
    left_out = found.left_out
    return [path for path in images.paths if path.relative_to(photos).as_posix() not in left_out]


def _folder_used(photos: Path, found: Look, out: Path) -> Path:
    return out / PHOTOGRAPHS if found.left_out else photos


def _folder_compared(photos: Path, found: Look, out: Path) -> Path:
    """For `compare`: the user's own folder, which may have masks beside the photographs, unless a file is damaged."""
    return out / PHOTOGRAPHS if found.unreadable else photos


def _usable(photos: Path, images: UnlabelledImages, found: Look, out: Path) -> Path:
    """The folder itself; or one of hard links (else copies) to those of its photographs that are of use."""
    used = _folder_used(photos, found, out)
    if used == photos:
        return photos
    for path in _good(images, photos, found):
        link = used / path.relative_to(photos)
        if link.exists():
            continue
        with storage_errors(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path.resolve(), link)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, link)
    return used


# ---- the steps -----------------------------------------------------------------------------------------------------


@dataclass
class _Work:
    """Carries the steps out."""

    wanted: Wanted
    photos: Path
    compared: Path
    out: Path
    session: Session
    update: bool
    began: float  # as if all calls had followed each other

    def all(self, record: Start) -> Started:
        """Every step that is not done; methods that are new are compared again."""
        new = False
        for place, step in enumerate(record.plan.steps):
            if record.is_done(step.folder) and not (step.folder == COMPARE and new):
                continue
            missing = step.folder == RUN and not record.is_done(GENERATOR)
            if missing:
                outcome = Done(status="skipped", seconds=0.0, note="there is no generator")
            else:
                outcome = self._step(step, record, place)
            record = record.with_done(step.folder, outcome, time.monotonic() - self.began)
            record.write(self.out)
            new |= outcome.status == "done"
            if outcome.note and outcome.status != "done":
                self._tell(f"{step.folder}: {outcome.status}: {outcome.note}", "warning")
        return Started(self.out, record, self.photos)

    def _step(self, step: Step, record: Start, place: int) -> Done:
        before = record.done[step.folder].seconds if step.folder in record.done else 0.0
        later = sum(one.seconds for one in record.plan.steps[place + 1 :] if not record.is_done(one.folder))
        left = self.wanted.seconds - (time.monotonic() - self.began)
        # at least what was planned; where that was too little before, twice what it had, so that it ends some day
        seconds = max(left - later, step.seconds - before if before < 0.9 * step.seconds else 2 * before)
        limit = seconds + (before if step.verb == "train-generator" else 0.0)  # which counts all its calls
        self._tell(
            f"step {place + 1} of {len(record.plan.steps)}, {step.folder}: at most {duration(seconds)}; "
            f"all ends by about {_clock(max(left, seconds + later))}"
        )
        self._tell(f"     {self._words(step, limit)}")
        began = time.monotonic()

        def outcome(status: Any, note: str = "", best: str = "") -> Done:
            return Done(status=status, seconds=before + time.monotonic() - began, note=note, best=best)

        try:
            made = self._verb(step, record, limit)()
        except InterruptedRunError:
            if self.session.stop.is_set():
                record.with_done(step.folder, outcome("stopped"), time.monotonic() - self.began).write(self.out)
                raise
            return outcome("stopped", "its time was over; repeat the command to continue it")
        except StorageError:
            raise
        except GsegkitError as error:
            return outcome("failed", str(error))
        except Exception as error:  # a part's fault is told, and the others go on
            return outcome("failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return outcome("done", *(_said(made, record) if isinstance(made, Comparison) else ()))

    def _words(self, step: Step, seconds: float) -> str:
        return command(step, self.wanted, self.compared if step.folder == COMPARE else self.photos, self.out, seconds)

    def _verb(self, step: Step, record: Start, seconds: float) -> Callable[[], object]:
        """The call that carries a step out, in `seconds`."""
        folder, wanted = self.out / step.folder, self.wanted
        limited = replace(self.session, stop=Deadline(self.session.stop, seconds))
        common: dict[str, Any] = {"seed": wanted.seed, "device": wanted.device, "update": self.update}
        if step.verb == "train-generator":
            options = parse_assignments(step.options).get("gen", {})
            return partial(
                train_generator, step.part, self.photos, folder, options=options, hours=seconds / 3600,
                session=self.session, **common,
            )  # fmt: skip
        if step.verb == "fit":
            return partial(fit, step.part, self.photos, folder, session=limited, **common)
        if step.verb == "run":
            return partial(self._run, step, self._words(step, seconds), limited)
        return partial(self._compare, folder, record, seconds)

    def _run(self, step: Step, words: str, session: Session) -> None:
        """The run; without self-training where its segmenter is not sure of the photographs."""
        plan, folder = _run_plan(self.wanted, self.photos, str(self.out / GENERATOR), step.options), self.out / RUN
        try:
            run_plan(plan, folder, update=True, command=words, session=session)
        except DataError as error:
            self._tell(f"run: {error.message}; it goes on without self-training", "warning")
            without = plan.model_copy(update={"photos": None, "selftrain": None})
            run_plan(without, folder, update=True, command=words, session=session)

    def _compare(self, folder: Path, record: Start, seconds: float) -> Comparison:
        runs = [self.out / RUN] if record.is_done(RUN) else []
        names = [step.part for step in record.plan.steps if step.verb == "fit" and record.is_done(step.folder)]
        if not runs and not names:
            raise DataError("no step before left a segmenter, so there is nothing to compare")
        return compare(
            self.compared, folder, methods=names, runs=runs, budget=budget(seconds), seed=self.wanted.seed,
            device=self.wanted.device, update=self.update, session=self.session,
        )  # fmt: skip

    def _tell(self, text: str, level: str = "info") -> None:
        self.session.progress.message(text, level)


def _said(found: Comparison, record: Start) -> tuple[str, str]:
    """What a comparison says, and the folder of the method that it puts first."""
    folders = {f"run {RUN}": RUN} | {step.part: step.folder for step in record.plan.steps if step.verb == "fit"}
    best = folders.get(found.rows[0].method, "") if found.rows else ""
    return " ".join(text for text in (found.sentence, found.parts) if text), best
