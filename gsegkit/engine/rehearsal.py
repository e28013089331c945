"""What a smoke run says of the whole run: its loops at full length, and what several processes would divide of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gsegkit.distributed.tally import Exchange, Tally
from gsegkit.engine.scaling import Load, Piece
from gsegkit.progress import Progress
from gsegkit.rundir import CHECKPOINT_FILE


@dataclass
class Loop:
    """A loop of the smoke run.

    Attributes:
        stage: whose it is.
        done, seconds: its steps, and what they took.
        timed, timed_seconds: the same without the first step, which warms up caches; with it where it is the only one.
        planned: steps of the whole run.
        times: how many times longer each of those takes.
        exchanges: what its processes would say.
    """

    stage: str
    done: int
    seconds: float
    timed: int
    timed_seconds: float
    planned: int
    times: float
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def more(self) -> float:
        """Seconds that the whole run's loop takes more than this one."""
        return max(self.planned * self.times - self.timed, 0) * self.timed_seconds / self.timed

    def pieces(self) -> list[Piece]:
        """What is divided of the whole run's loop; one piece for every kind of exchange."""
        maps = [noted for noted in self.exchanges if noted.kind == "map" and noted.seconds]
        often = 1 < self.done <= len(maps)  # every step has its own: a longer loop has more rounds, else more items
        longer, larger = max(self.planned / self.done, 1.0), self.times
        if self.done == 1:  # one pass over blocks of points: more points are more blocks
            longer, larger = longer * larger, 1.0
        whole = self.seconds + self.more
        pieces = []
        for noted in maps:
            items = len(noted.seconds)
            share = 0.0 if noted.once else sum(noted.seconds) / max(self.seconds, 1e-9)
            more_items = 1.0 if often or noted.once else longer
            pieces.append(
                Piece(
                    seconds=min(share, 1.0) * whole,
                    items=items * more_items,
                    rounds=longer if often else 1,
                    item_bytes=sum(noted.bytes) / items * larger,
                    tensors=sum(noted.tensors) / items,
                    gathered_bytes=sum(noted.heads) / items,
                    ahead=noted.ahead,
                )
            )
        sums = [noted for noted in self.exchanges if noted.kind != "map"]
        if sums:
            count = sum(noted.bytes[0] for noted in sums) / len(sums)
            rounds = len(sums) * (longer if len(sums) >= self.done else 1)
            pieces.append(Piece(seconds=0.0, rounds=rounds, reduced_bytes=count))
        return pieces


class Rehearsal(Progress):
    """Times every loop of a smoke run and its checkpoint, and remembers how long the loop would really be.

    Attributes:
        folder: of the run; None = checkpoints are not looked at.
        tally: the team of the run.
        loops: in their order.
        checkpoints: stage -> bytes, of the largest.
        ram_bytes, disk_bytes: that the whole run's stages need more than the smoke run's, of the largest stage.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.tally = Tally()
        self.loops: list[Loop] = []
        self.checkpoints: dict[str, int] = {}
        self.ram_bytes = self.disk_bytes = 0
        self._stage, self._times, self._heard = "", 1.0, 0
        self._began = self._first = 0.0
        self._planned = self._done = 0

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        stage = task.partition(":")[0]
        if stage != self._stage:
            self._stage, self._times = stage, 1.0
        self._planned, self._done, self._heard = planned or total, 0, len(self.tally.exchanges)
        self._began = self._first = time.monotonic()

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        if self._done == 0:
            self._first = time.monotonic()
        self._done += 1

    def finish(self) -> None:
        """See `Progress.finish`."""
        now, done = time.monotonic(), max(self._done, 1)
        timed, since = (done - 1, self._first) if done > 1 else (1, self._began)
        heard = self.tally.exchanges[self._heard :]
        self.loops.append(
            Loop(self._stage, done, now - self._began, timed, now - since, self._planned, self._times, heard)
        )
        for path in self.folder.glob(f"*/{CHECKPOINT_FILE}") if self.folder is not None else ():
            self.checkpoints[path.parent.name] = max(self.checkpoints.get(path.parent.name, 0), path.stat().st_size)

    def larger(self, times: float, ram_bytes: int = 0, disk_bytes: int = 0) -> None:
        """See `Progress.larger`."""
        self._times = times
        self.ram_bytes, self.disk_bytes = max(self.ram_bytes, ram_bytes), max(self.disk_bytes, disk_bytes)

    def load(self, stage: str, seconds: float) -> Load:
        """What a stage of the whole run, which took `seconds` in the smoke run, has to do."""
        loops = [loop for loop in self.loops if loop.stage == stage]
        pieces = [piece for loop in loops for piece in loop.pieces()]
        whole = seconds + sum(loop.more for loop in loops)
        return Load(max(whole - sum(piece.seconds for piece in pieces), 0.0), pieces)

    def training(self, stage: str, load: Load, batch: int, gradients: int) -> Load:
        """The load of a stage whose loop of steps is divided by the pictures of a batch.

        Args:
            stage: whose training it is.
            load: as `load` says, without that.
            batch: pictures of a step, of all processes together.
            gradients: bytes that are summed in a step.
        """
        loop = max((loop for loop in self.loops if loop.stage == stage), key=lambda one: one.seconds + one.more)
        seconds = min(loop.seconds + loop.more, load.alone)
        steps = Piece(seconds, items=batch, rounds=loop.planned, reduced_bytes=gradients)
        return Load(load.alone - seconds, [*load.pieces, steps])
