"""Signs of life: every process leaves a mark once in a while, and looks at the marks of the others.

A process that ends with an error says so before it goes; one that says nothing any more is lost. Either ends the
others: their loops are asked to stop, and one that does not (it waits in an operation that will never end) is ended by
force.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.distributed.distributed_c10d import Store

from gsegkit.distributed.launched import Launched
from gsegkit.errors import GsegkitError, InterruptedRunError, LostProcessError
from gsegkit.records.text import printable

BEAT = 0.5  # seconds between two marks
SILENT = 3.0  # seconds without a mark after which a process is lost, if an operation with it failed
LOST_AFTER = 60.0  # seconds after which it is lost in any case
GRACE = 60.0  # seconds that a loop gets to save its state and leave
LINGER = 10.0  # seconds that a process waits for the others, so that they hear how it ended
MAX_TEXT = 2000
FAILED = "failed"


class Watch:
    """Knows which processes live, and why the run ends. It works in a thread of its own.

    Args:
        store: of the rendezvous.
        launched: which process this is.
        hosts: names of the machines, by rank.
        lost_after: see LOST_AFTER.

    Attributes:
        stop: set when the run must end; the run's own stop event.
    """

    def __init__(self, store: Store, launched: Launched, hosts: list[str], lost_after: float) -> None:
        self.rank, self.size, self.hosts, self.lost_after = launched.rank, launched.size, hosts, lost_after
        self.stop = threading.Event()
        self._owner = store  # it serves as long as it is held, also after the operations have ended
        self._store = store.clone()
        self._lock = threading.Lock()
        self._seen = {rank: (b"", time.monotonic()) for rank in range(self.size) if rank != self.rank}
        self._gone: set[int] = set()  # left in order
        self._cause: GsegkitError | None = None
        self._unreachable_since: float | None = None
        self._over = threading.Event()
        self._store.set(self._key("beat", self.rank), "0")
        self._thread = threading.Thread(target=self._work, name="gsegkit-watch", daemon=True)
        self._thread.start()

    # ---- asked by the team ---------------------------------------------------------------------------------------

    def cause(self, wait: bool = False) -> GsegkitError | None:
        """What ended the run elsewhere, if anything did; with `wait` after a look at who still lives."""
        until = time.monotonic() + (SILENT + 4 * BEAT if wait else 0)
        began = time.monotonic()
        while self._cause is None and time.monotonic() < until:
            with self._lock:
                quiet = [r for r, (_, at) in self._seen.items() if r not in self._gone and at < began]
            if not quiet and self._unreachable_since is None and time.monotonic() > began + 2 * BEAT:
                break  # all others live, or left in order
            time.sleep(BEAT / 5)
            self._find_lost(SILENT)
        return self._cause

    def tell(self, error: BaseException) -> None:
        """Say how this process ends, for the others."""
        if isinstance(error, GsegkitError):
            message, hint, code = error.message, error.hint, error.exit_code
        elif isinstance(error, KeyboardInterrupt):
            message, hint, code = "stopped immediately", "", InterruptedRunError.exit_code
        else:
            message, hint, code = f"{type(error).__name__}: {error}", "", GsegkitError.exit_code
        told = {"rank": self.rank, "message": message[:MAX_TEXT], "hint": hint[:MAX_TEXT], "exit_code": code}
        self._quietly(lambda: self._store.compare_set(FAILED, "", json.dumps(told)))

    def leave(self) -> None:
        """End the watch.

        The first process, which often holds the store, waits until the others have heard how it ends; they wait until
        it has told the user, since a launcher ends all when one is gone.
        """
        self._quietly(lambda: self._store.set(self._key("left", self.rank), "1"))
        until = time.monotonic() + LINGER
        while time.monotonic() < until and not self._others_left():
            time.sleep(BEAT / 5)
        self._over.set()
        self._thread.join(timeout=2 * BEAT)
        if self.rank > 0:
            time.sleep(2 * BEAT)

    def speaker(self) -> int:
        """The lowest rank that was not lost."""
        lost = self._cause.ranks if isinstance(self._cause, LostProcessError) else ()
        return min((rank for rank in range(self.size) if rank not in lost), default=self.rank)

    # ---- the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        count, ended_at = 0, None
        while not self._over.wait(BEAT):
            count += 1
            self._quietly(partial(self._look, count))
            self._find_lost(self.lost_after)
            if self._cause is not None:
                ended_at = ended_at or time.monotonic()
                self.stop.set()
                if time.monotonic() > ended_at + GRACE:
                    self._end_by_force()

    def _look(self, count: int) -> None:
        """Leave a mark, and read those of the others."""
        self._store.set(self._key("beat", self.rank), str(count))
        for rank in self._seen:
            if not self._store.check([self._key("beat", rank)]):
                continue
            mark = self._store.get(self._key("beat", rank))
            with self._lock:
                if mark != self._seen[rank][0]:
                    self._seen[rank] = (mark, time.monotonic())
            if self._store.check([self._key("left", rank)]):
                self._gone.add(rank)
        if self._cause is None and self._store.check([FAILED]):
            self._cause = _told_error(json.loads(self._store.get(FAILED)), self.rank)
        self._unreachable_since = None

    def _find_lost(self, after: float) -> None:
        if self._cause is not None:
            return
        now = time.monotonic()
        if self._unreachable_since is not None and now - self._unreachable_since > min(after, SILENT):
            self._cause = self._lost([0])  # the place of rendezvous stands and falls with the first process
            return
        with self._lock:
            lost = [r for r, (_, at) in self._seen.items() if now - at > after and r not in self._gone]
        if lost:
            self._cause = self._lost(lost)

    def _lost(self, ranks: list[int]) -> LostProcessError:
        names = ", ".join(f"{rank} on {printable(self.hosts[rank])}" for rank in ranks)
        return LostProcessError(f"process {names} of {self.size} processes was lost, so all end", ranks=tuple(ranks))

    def _others_left(self) -> bool:
        if self._unreachable_since is not None:
            return True
        lost = self._cause.ranks if isinstance(self._cause, LostProcessError) else ()
        awaited = self._seen if self.rank == 0 else [0]
        return all(rank in self._gone or rank in lost for rank in awaited)

    def _end_by_force(self) -> None:
        assert self._cause is not None
        if self.rank == self.speaker():
            sys.__stderr__.write(f"error: {self._cause.message}\ntry: {self._cause.hint}\n")  # type: ignore[union-attr]
        os._exit(self._cause.exit_code)

    def _quietly(self, action: Callable[[], Any]) -> None:
        """Do something with the store; one that cannot be reached is noted."""
        if self._cause is not None and self._unreachable_since is not None:
            return
        try:
            action()
        except RuntimeError:
            self._unreachable_since = self._unreachable_since or time.monotonic()

    @staticmethod
    def _key(name: str, rank: int) -> str:
        return f"{name}/{rank}"


def _told_error(told: dict[str, Any], rank: int) -> GsegkitError | None:
    """What another process said before it ended."""
    if told["rank"] == rank:
        return None
    if told["exit_code"] == InterruptedRunError.exit_code:
        return InterruptedRunError(told["message"], told["hint"])
    return GsegkitError(f"process {told['rank']}: {told['message']}", told["hint"])
