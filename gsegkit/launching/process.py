"""The process of a job: it hears of a stop, hands on what it says, and dies with the process that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from gsegkit.distributed.launched import Launched
from gsegkit.launching.launcher import Job, Say

FOLLOWS = "GSEGKIT_FOLLOWS_STDIN"  # set for a process that ends when its standard input ends
POLL = 0.1  # seconds between two looks at the processes
PATIENCE = 90.0  # seconds that the others get to say what they lost when one has ended with an error


def environment(place: Launched | None, threads: int | None, base: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a process.

    Args:
        place: which of several processes it is, and where they meet; None = it is alone.
        threads: of the process; None = as `base` says, or 1 when there are several: so they do not disturb each other.
        base: what to begin with, as `os.environ`.
    """
    made = {name: value for name, value in base.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if threads is not None:
        made["OMP_NUM_THREADS"] = str(threads)
    if place is None:
        return made
    made.setdefault("OMP_NUM_THREADS", "1")
    numbers = {"RANK": place.rank, "WORLD_SIZE": place.size, "LOCAL_RANK": place.local_rank, "MASTER_PORT": place.port}
    return {**made, **{name: str(value) for name, value in numbers.items()}, "MASTER_ADDR": place.host}


def free_port() -> int:
    """A port of this machine at which processes can meet."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


class Process:
    """A job, or one of its processes, started on this machine.

    Args:
        job: what to do.
        environment: see `environment`.
        say: gets what it prints, line by line; None = it prints where this process does.
    """

    def __init__(self, job: Job, environment: Mapping[str, str], say: Say | None = None) -> None:
        there = None if say is None else subprocess.PIPE
        self._process = subprocess.Popen(
            job.command, cwd=job.folder, env={**environment, FOLLOWS: "1"}, stdin=subprocess.PIPE, stdout=there,
            stderr=None if say is None else subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,  # Ctrl-C reaches it through `ask_to_stop` alone, and once
        )  # fmt: skip
        self._asked = False
        self._reader: threading.Thread | None = None
        if say is not None:
            self._reader = threading.Thread(target=self._hand_on, args=(say,), daemon=True)
            self._reader.start()

    @property
    def pid(self) -> int:
        """Its number on this machine."""
        return self._process.pid

    def ended(self) -> int | None:
        """Its exit status; negative = killed by that signal; None = it works."""
        status = self._process.poll()
        if status is not None and self._reader is not None:
            self._reader.join(timeout=2)
        return status

    def ask_to_stop(self) -> None:
        """Ask it, once, to save and end."""
        if not self._asked and self._process.poll() is None:
            self._asked = True
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, if it works."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _hand_on(self, say: Say) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line.rstrip("\n"))


def together(processes: Sequence[Process], stop: threading.Event, patience: float = PATIENCE) -> int:
    """Wait for processes; none is left behind, whatever happens.

    Args:
        processes: of one job, in the order of their ranks.
        stop: set when they must stop.
        patience: seconds that the others get when one has ended with an error.

    Returns:
        0, or the status of the first one that has failed by itself; 137 and the like for one that was killed.
    """
    failed_at = None
    try:
        while None in (found := [process.ended() for process in processes]):
            if stop.is_set():
                for process in processes:
                    process.ask_to_stop()
            if failed_at is None and any(found):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() > failed_at + patience:
                break
            time.sleep(POLL)
    finally:
        for process in processes:
            process.kill()
    told = [status for status in found if status is not None and status > 0]
    killed = [128 - status for status in found if status is not None and status < 0]
    return next(iter([*told, *killed]), 0)


def follow_starter() -> None:
    """End this process when its standard input ends: whoever started it is no more.

    It also hears the signals that ask it to stop: a worker of Ray has SIGINT blocked, and a process inherits that.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(130)

    threading.Thread(target=wait, name="gsegkit-follow", daemon=True).start()
