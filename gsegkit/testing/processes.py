"""Several processes at once, as a launcher would start them: whether a part that divides its work gives the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from gsegkit.distributed.launched import launched
from gsegkit.distributed.processes import join
from gsegkit.distributed.tally import Traffic
from gsegkit.distributed.team import Team

T = TypeVar("T")


class Ended(Exception):
    """A process ended without a result."""


def outcomes(
    size: int, work: Callable[[Team], Any], *, seconds: float = 120.0, lost_after: float = 60.0
) -> list[Any | BaseException]:
    """What `work` returns or raises in each of `size` processes that meet each other, by rank.

    They are forks of this process on one thread each, so `work` may be any function; what it returns is pickled.

    Args:
        size: number of processes; 1 is a fork too.
        work: gets its team.
        seconds: until what still runs is ended.
        lost_after: seconds without a sign of life after which a process is lost.

    Returns:
        For each process its result, its exception, or `Ended`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in range(size)]
    started = [
        fork.Process(target=_work, args=(work, pipes[rank][1], rank, size, port, lost_after)) for rank in range(size)
    ]
    for process in started:
        process.start()
    for _, sending in pipes:
        sending.close()
    until = time.monotonic() + seconds
    found = [_received(receiving, until) for receiving, _ in pipes]
    for process in started:
        process.join(timeout=max(0.0, until - time.monotonic()))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    return found


def together(size: int, work: Callable[[Team], T], **options: float) -> list[T]:
    """The same where every process must give a result; an exception is raised here."""
    found = outcomes(size, work, **options)
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return [result for result in found if not isinstance(result, BaseException)]


@contextlib.contextmanager
def overheard() -> Iterator[list[Traffic]]:
    """What this process hands to torch.distributed meanwhile, one entry for each operation."""
    heard: list[Traffic] = []
    plain = {name: getattr(dist, name) for name in ("broadcast", "all_gather", "all_reduce")}

    def broadcast(tensor: torch.Tensor, *rest: Any, **more: Any) -> Any:
        heard.append(Traffic(broadcast=tensor.nbytes, messages=1))
        return plain["broadcast"](tensor, *rest, **more)

    def all_gather(tensors: list[torch.Tensor], tensor: torch.Tensor, *rest: Any, **more: Any) -> Any:
        heard.append(Traffic(gathered=tensor.nbytes, messages=1))
        return plain["all_gather"](tensors, tensor, *rest, **more)

    def all_reduce(tensor: torch.Tensor, *rest: Any, **more: Any) -> Any:
        heard.append(Traffic(reduced=tensor.nbytes, messages=1))
        return plain["all_reduce"](tensor, *rest, **more)

    try:
        for replacement in (broadcast, all_gather, all_reduce):
            setattr(dist, replacement.__name__, replacement)
        yield heard
    finally:
        for name, function in plain.items():
            setattr(dist, name, function)


def _work(work: Callable[[Team], Any], sending: Connection, rank: int, size: int, port: int, lost_after: float) -> None:
    torch.set_num_threads(1)  # a fork has lost the threads of its parent
    for name, value in {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_PORT": port}.items():
        os.environ[name] = str(value)
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    try:
        place = launched(os.environ)
        if place is None:
            result: Any = work(Team())
        else:
            with (team := join(place, lost_after=lost_after)).at_work():
                result = work(team)
    except BaseException as error:
        result = error
    sending.send_bytes(pickle.dumps(result))


def _received(receiving: Connection, until: float) -> Any:
    try:
        if receiving.poll(max(0.0, until - time.monotonic())):
            return pickle.loads(receiving.recv_bytes())
    except EOFError:
        pass
    return Ended()
