"""A team of several processes over torch.distributed: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gsegkit.distributed.launched import START, Launched
from gsegkit.distributed.team import AT_ONCE, BRIEF, HEAD, Results, T, Team
from gsegkit.distributed.watch import LOST_AFTER, Watch
from gsegkit.errors import ConfigError, InterruptedRunError, LostProcessError

MEETING = 120.0  # seconds until all processes must have come
PATIENCE = timedelta(days=30)  # of one operation: who is lost is found out by `Watch`, not by an operation's age
CLOSING = 5.0  # seconds for closing the connections
DTYPES = {str(dtype): dtype for dtype in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.uint8,
    torch.bool,
)}  # fmt: skip
PLACES = {"cpu": torch.device("cpu"), "cuda": torch.device("cuda")}


class Processes(Team):
    """This process among those that a launcher started; made by `join`.

    Messages are JSON and raw tensors, never pickles.

    Attributes:
        watch: knows who was lost, and what ended the others.
    """

    def __init__(self, launched: Launched, watch: Watch) -> None:
        self.rank, self.size, self.local_rank = launched.rank, launched.size, launched.local_rank
        self.watch = watch

    # ---- what a team does ----------------------------------------------------------------------------------------

    def map(self, work: Callable[[T], Results], items: Sequence[T], at_once: int = AT_ONCE) -> Iterator[Results]:
        """See `Team.map`."""
        for start in range(0, len(items), self.size * at_once):
            group = items[start : start + self.size * at_once]
            mine = [work(item) for item in self.share(group)]
            heads = self.gather([[[str(x.dtype), list(x.shape), x.device.type] for x in found] for found in mine])
            found = [self._sent(rank, mine, heads[rank]) for rank in range(self.size)]
            yield from [found[i % self.size][i // self.size] for i in range(len(group))]

    def told(self, value: Any) -> Any:
        """See `Team.told`."""
        data = json.dumps(value if self.first else None).encode()
        length = self._broadcast(torch.tensor([len(data)]), 0)
        text = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.first else _bytes(int(length))
        return json.loads(self._broadcast(text, 0).numpy().tobytes())

    def gather(self, value: Any) -> list[Any]:
        """See `Team.gather`."""
        data = json.dumps(value).encode()
        begun = self._gathered(len(data).to_bytes(HEAD, "little") + data[:BRIEF], HEAD + BRIEF)
        longest = max(int.from_bytes(text[:HEAD], "little") for text in begun)
        texts = [text[HEAD:] for text in begun] if longest <= BRIEF else self._gathered(data, longest)
        return [json.loads(text) for text in texts]

    def any(self, flag: bool) -> bool:
        """See `Team.any`."""
        return bool(self.sum(torch.tensor([int(flag)])))

    def sum(self, values: Tensor) -> Tensor:
        """See `Team.sum`."""
        total = values.clone()
        with self._talking():
            dist.all_reduce(total)
        return total

    def wait(self) -> None:
        """See `Team.wait`."""
        self.any(False)

    # ---- how it ends ---------------------------------------------------------------------------------------------

    @property
    def speaks(self) -> bool:
        """Whether this process tells the user how it ended: the first one, or the next when that was lost."""
        return self.rank == self.watch.speaker()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Around all that the processes do together: what ends one of them ends all, with its sentence.

        Raises:
            GsegkitError: of another process, or LostProcessError.
        """
        try:
            yield
        except BaseException as error:
            self._raise_cause(error)
            raise
        finally:
            _hang_up()  # first of all: who waits for this process hears of it
            self.watch.leave()

    def _raise_cause(self, error: BaseException) -> None:
        if isinstance(error, LostProcessError):
            return
        if isinstance(error, InterruptedRunError) and (cause := self.watch.cause(wait=True)) is not None:
            raise cause from None  # the stop came from the watch, or from a launcher that saw a process end
        self.watch.tell(error)

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            cause = self.watch.cause(wait=True)
            raise (cause or LostProcessError(f"a process was lost ({_line(error)})")) from None

    # ---- bytes -----------------------------------------------------------------------------------------------------

    def _sent(self, rank: int, mine: Sequence[Results], heads: list[list[Any]]) -> Sequence[Results]:
        """The results of a process: all tensors of a kind of device in one message."""
        if rank != self.rank:
            mine = [
                tuple(torch.empty(shape, dtype=DTYPES[name], device=PLACES[kind]) for name, shape, kind in head)
                for head in heads
            ]
        every = [tensor for found in mine for tensor in found if tensor.numel()]
        for kind in PLACES:
            tensors = [tensor for tensor in every if tensor.device.type == kind]
            if not tensors:
                continue
            sizes = [tensor.nbytes for tensor in tensors]
            raw = torch.empty(sum(sizes), dtype=torch.uint8, device=tensors[0].device)
            for part, tensor in zip(raw.split(sizes), tensors, strict=True):
                if rank == self.rank:
                    part.copy_(tensor.contiguous().view(-1).view(torch.uint8))
            self._broadcast(raw, rank)
            for part, tensor in zip(raw.split(sizes), tensors, strict=True):
                if rank != self.rank:
                    tensor.view(-1).view(torch.uint8).copy_(part)
        return mine

    def _gathered(self, data: bytes, size: int) -> list[bytes]:
        """The bytes of all processes, by rank, each padded to `size` with spaces."""
        texts = [_bytes(size) for _ in range(self.size)]
        with self._talking():
            dist.all_gather(texts, torch.frombuffer(bytearray(data.ljust(size)), dtype=torch.uint8))
        return [text.numpy().tobytes() for text in texts]

    def _broadcast(self, tensor: Tensor, rank: int) -> Tensor:
        with self._talking():
            dist.broadcast(tensor, rank)
        return tensor


def join(launched: Launched, meeting: float = MEETING, lost_after: float = LOST_AFTER) -> Processes:
    """Meet the other processes.

    Args:
        launched: as the environment says.
        meeting: seconds to wait for them.
        lost_after: seconds without a sign of life after which a process is lost.

    Raises:
        ConfigError: they did not all come, or are of other versions.
    """
    patience = timedelta(seconds=meeting)
    where = f"{launched.host}:{launched.port}"
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=patience)))
        store.set_timeout(patience)
        store = PrefixStore("gsegkit", store)
        facts = _exchanged(store, launched, {"gpus": torch.cuda.device_count(), "host": socket.gethostname()})
        dist.init_process_group(_backend(facts), store=store, rank=rank, world_size=size, timeout=PATIENCE)
        store.set(f"met/{rank}", "1")  # one that ends at once must not look like one that never came
        store.wait([f"met/{other}" for other in range(size)], patience)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"process {launched.rank} did not meet all of {launched.size} processes at {where} within {meeting:.0f} s "
            f"({_line(error)})",
            f"{START}; every machine must reach that address",
        ) from None
    if _backend(facts) != "gloo":
        torch.cuda.set_device(launched.local_rank)
    return Processes(launched, Watch(store, launched, [fact["host"] for fact in facts], lost_after))


def _hang_up() -> None:
    """Close the connections; of a team that is no longer whole that may fail, or never end."""

    def close() -> None:
        with contextlib.suppress(Exception):
            dist.destroy_process_group()

    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    thread.join(CLOSING)


def _exchanged(store: Store, launched: Launched, facts: dict[str, Any]) -> list[dict[str, Any]]:
    store.set(f"facts/{launched.rank}", json.dumps(facts))
    return [json.loads(store.get(f"facts/{rank}")) for rank in range(launched.size)]


def _backend(facts: Sequence[dict[str, Any]]) -> str:
    """NCCL where every process has a GPU of its own, else gloo, which carries tensors of GPUs too."""
    hosts = [fact["host"] for fact in facts]
    own = all(fact["gpus"] >= hosts.count(fact["host"]) for fact in facts)
    return "cpu:gloo,cuda:nccl" if own and dist.is_nccl_available() else "gloo"


def _bytes(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.uint8)


def _line(error: BaseException) -> str:
    """The first line of a message of torch's, without the place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition("] ")[2][:200]
