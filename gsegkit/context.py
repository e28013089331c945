"""RunContext: all that a part may know of the run it works in (device, seeds, folder, progress, checkpoints)."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from gsegkit.distributed.team import ALONE, Team
from gsegkit.errors import DivergedError, InterruptedRunError
from gsegkit.images import grid, write_png
from gsegkit.progress import Progress
from gsegkit.records.files import damaged_file
from gsegkit.records.files import read_metrics as read_metrics
from gsegkit.rundir import CHECKPOINT_FILE, FIGURES_FOLDER, METRICS_FILE, stage_name
from gsegkit.seeds import child_seed, isolated_rng, sample_seeds
from gsegkit.storage import atomic_write, storage_errors
from gsegkit.tensors import load_tree, save_tree

FIGURE_COLUMNS = 8
SMOKE_STEPS = 3
SMOKE_SAMPLES = 8
LOG_EVERY = 10  # steps between two lines of metrics.jsonl; reading a loss stalls a GPU

T = TypeVar("T")


class Stateful(Protocol):
    """Anything with a state that can be saved and loaded: modules, optimisers, schedules, EMAs."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take a state back."""


@dataclass
class RunContext:
    """Where and how a part works.

    Attributes:
        folder: the part's own folder; it may write there and nowhere else.
        device: where to compute.
        seed: the part's own seed, already derived for its stage and round.
        batch_size: micro-batch for sampling the generator; part of the run's identity.
        smoke: limit every loop to a few steps, to check that the whole run works.
        checkpoint_seconds: pause between two checkpoints of a loop; 0 = after every step.
        progress: who listens.
        stop: set from outside (Ctrl-C) to end at the next step with everything saved.
        time_limit: seconds after which a loop of steps ends as if it were finished, those before a resume included.
        run_seed: the run's seed, from which sample identities derive.
        team: the processes that work on it together; a part that does not divide its work never meets another.
    """

    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    batch_size: int = 16
    smoke: bool = False
    checkpoint_seconds: float = 30.0
    progress: Progress = field(default_factory=Progress)
    stop: threading.Event = field(default_factory=threading.Event)
    run_seed: int | None = None
    time_limit: float = math.inf
    began: float = field(default_factory=time.monotonic)
    team: Team = ALONE

    def __post_init__(self) -> None:
        if self.run_seed is None:
            self.run_seed = self.seed

    def stage(self, name: str, round: int = 0) -> RunContext:
        """The context of a stage: its own folder and seed. Round 0 lives in `name`, round r in `name-r`."""
        folder = self.folder / stage_name(name, round)
        return replace(self, folder=folder, seed=child_seed(self.seed, name, round))

    def alone(self) -> RunContext:
        """The same for work that this process does by itself, whatever the others do."""
        return replace(self, team=ALONE)

    # ---- samples -----------------------------------------------------------------------------------------------

    def seeds(self, purpose: str, count: int, start: int = 0) -> Tensor:
        """Identities for sampling the generator: [count] int64; see `gsegkit.seeds.sample_seeds`."""
        assert self.run_seed is not None
        return sample_seeds(self.run_seed, purpose, start, count)

    def batches(self, purpose: str, count: int, start: int = 0) -> Iterator[Tensor]:
        """The same identities in micro-batches of `batch_size`; the last may be shorter."""
        yield from torch.split(self.seeds(purpose, self.limit(count, SMOKE_SAMPLES), start), self.batch_size)

    def limit(self, count: int, smoke: int = SMOKE_STEPS) -> int:
        """`count`, or at most `smoke` in a smoke run."""
        return min(count, smoke) if self.smoke else count

    # ---- loops -------------------------------------------------------------------------------------------------

    def steps(self, total: int, *, state: Mapping[str, Stateful] | None = None, name: str = "training") -> Steps:
        """A training loop: `for step in (loop := ctx.steps(n, state={...})): ...; loop.log(loss=loss)`.

        It gives progress with an ETA, a metrics file, checkpoints, exact resume, the smoke limit, and a clean stop.
        Every step reseeds torch from its own number, so a resumed loop draws what the uninterrupted one would.
        The loop must keep all that changes in `state`; data order must derive from (seed, step).
        """
        return Steps(self, total, dict(state or {}), name)

    def track(self, items: Sequence[T], name: str, planned: int | None = None) -> Iterator[T]:
        """Iterate with progress and a clean stop, without checkpoints; `planned`: see `Progress.start`."""
        self.progress.start(f"{self.folder.name}: {name}", len(items), 0, planned)
        try:
            for done, item in enumerate(items, 1):
                self.check_stop()
                yield item
                self.progress.advance(done, {})
        finally:
            self.progress.finish()

    def check_stop(self) -> None:
        """Raise InterruptedRunError when a stop was asked for."""
        if self.stop.is_set():
            raise InterruptedRunError("stopped", "run the same command again to continue from here")

    # ---- words and figures -------------------------------------------------------------------------------------

    def info(self, text: str) -> None:
        """Tell the user something."""
        self.progress.message(text)

    def warn(self, text: str) -> None:
        """Warn the user."""
        self.progress.message(text, "warning")

    def figure(self, name: str, pixels: Tensor, caption: str = "", columns: int = FIGURE_COLUMNS) -> Path:
        """Leave an image for the report: `figures/NAME.png` in the part's folder, its caption in NAME.txt beside it.

        Args:
            name: file stem; the same name again replaces the image.
            pixels: [3, H, W] uint8, or [N, 3, H, W] uint8, laid out in rows of `columns`; on any device.
            caption: what is to be seen, as one paragraph.
            columns: images in a row.

        Returns:
            The image's path.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.folder / FIGURES_FOLDER / f"{name}.png"
        if not self.team.first:
            return path
        write_png(path, pixels if pixels.ndim == 3 else grid(pixels, columns))
        atomic_write(path.with_suffix(".txt"), (caption + "\n").encode())
        return path


class Steps:
    """The loop behind `RunContext.steps`.

    Attributes:
        step: number of the current step, from 0.
        total: number of steps that will be done.
        planned: the same without the smoke limit; schedules use this one.
    """

    def __init__(self, ctx: RunContext, total: int, state: dict[str, Stateful], name: str) -> None:
        self.ctx = ctx
        self.total = ctx.limit(total)
        self.planned = total
        self.state = state
        self.name = name
        self.step, self._spent = 0, 0.0
        self._pending: dict[str, Any] = {}
        self._shown: dict[str, float] = {}
        self._path = ctx.folder / CHECKPOINT_FILE
        self._metrics = ctx.folder / METRICS_FILE

    def __iter__(self) -> Iterator[int]:
        ctx = self.ctx
        start = self._resume()
        ctx.progress.start(f"{ctx.folder.name}: {self.name}", self.total, start, self.planned)
        saved = time.monotonic()
        try:
            with isolated_rng(ctx.seed):
                for step in range(start, self.total):
                    if step and self._over():  # the first step is always taken
                        if step > start:
                            self.save(step)
                        ctx.info(f"{self.name}: the time is over after step {step} of {self.total}")
                        break
                    self.step = step
                    torch.manual_seed(child_seed(ctx.seed, "step", step))
                    yield step
                    done = step + 1
                    self._read_values(write=done % LOG_EVERY == 0 or done == self.total)
                    ctx.progress.advance(done, self._shown)
                    stopping = ctx.team.any(ctx.stop.is_set()) and done < self.total
                    if stopping or time.monotonic() - saved >= ctx.checkpoint_seconds or done == self.total:
                        self.save(done)
                        saved = time.monotonic()
                    if stopping:
                        ctx.stop.set()
                        ctx.check_stop()
        finally:
            ctx.progress.finish()

    def log(self, **values: float | Tensor) -> None:
        """Note the step's numbers; tensors are read only when a line is written.

        Raises:
            DivergedError: at the next written line, when a value is NaN or infinite.
        """
        self._pending = values

    def save(self, done: int) -> None:
        """Write a checkpoint after `done` steps.

        Raises:
            DivergedError: a tensor of the state is not finite; the checkpoint before stays.
        """
        if not self.state or not self.ctx.team.first:  # the others hold the same
            return
        self._read_values(write=False, force=True)
        tree = {name: part.state_dict() for name, part in self.state.items()}
        bad = _first_non_finite(tree)
        if bad:
            raise self._diverged(f"{bad} became non-finite")
        own = {} if self.ctx.time_limit == math.inf else {"seconds": self._seconds()}
        save_tree(self._path, {"done": done, "state": tree, **own})

    def _over(self) -> bool:
        """Whether the time is over, which the first process says."""
        limit = self.ctx.time_limit
        return limit < math.inf and bool(self.ctx.team.told(self._seconds() >= limit))

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self.ctx.began

    def _resume(self) -> int:
        done = 0
        if self.state and self._path.exists():
            with damaged_file(self._path, "delete it and run the same command again: this training then begins anew"):
                saved = load_tree(self._path)
                done, self._spent = int(saved["done"]), float(saved.get("seconds", 0.0))
                for name, part in self.state.items():
                    part.load_state_dict(saved["state"][name])
            self.ctx.info(f"{self.name}: resumed after step {done} of {self.total}")
        if self.ctx.team.first:
            _truncate_metrics(self._metrics, done)
        self.ctx.team.wait()  # until all have read what the first will write again
        return done

    def _read_values(self, write: bool, force: bool = False) -> None:
        """Check the noted numbers and, at steps that do not depend on when a checkpoint fell, write them."""
        if not self._pending or not (write or force):
            return
        values = {
            name: float(value.detach() if isinstance(value, Tensor) else value) for name, value in self._pending.items()
        }
        for name, value in values.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}")
        if not write or not self.ctx.team.first:
            return
        self._pending = {}
        self._shown = values
        line = json.dumps({"step": self.step + 1, **values})
        with storage_errors(self._metrics):
            self._metrics.parent.mkdir(parents=True, exist_ok=True)
            with open(self._metrics, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"{self.name} diverged at step {self.step + 1}: {what}",
            "lower the learning rate; the last good checkpoint is kept",
        )


def _truncate_metrics(path: Path, done: int) -> None:
    rows = [row for row in read_metrics(path) if isinstance(step := row.get("step"), int) and step <= done]
    if path.exists():
        atomic_write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _first_non_finite(tree: Any, name: str = "") -> str:
    if isinstance(tree, Tensor):
        return name if tree.is_floating_point() and not bool(torch.isfinite(tree).all()) else ""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    for key, value in items:
        bad = _first_non_finite(value, f"{name}.{key}" if name else str(key))
        if bad:
            return bad
    return ""
