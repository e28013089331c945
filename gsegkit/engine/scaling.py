"""From what one process measured to what several would take: a model of dividing and of sending. Imports no torch.

A stage is what one process does alone, and pieces that are divided. Of a piece, N processes take

    compute   seconds of one process * ceil(items / N) / items         the slowest has that many of the items
    messages  what each operation takes on the link, see `Link`

and a stage takes the sum over both and over what is not divided: the processes wait for each other, so that nothing
overlaps. What the model leaves out: reading from a slow shared disk, and a machine that is slower than the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

#: (processes, merges that a round of KLiSH gets on with when each of them solves one that may follow), counted on the
#: zoo's coffee-leaf-64 with K0 = 100, see the recipe `scaling-klish`; straight in log(processes) between them. Where
#: all merges go into one cluster, a round gets on with little more than one.
AHEAD = ((1, 1.0), (2, 1.9), (4, 3.0), (8, 3.5))

ONE_PROCESS, MESSAGES, TOO_FEW, COMPUTE = "one process", "messages", "too few items", "compute"


@dataclass(frozen=True)
class Link:
    """What lies between two processes.

    The operations are taken as torch's back ends do them: gloo sends rings and binomial trees, NCCL pipelines them.

    Attributes:
        latency: seconds that a message takes, however short.
        bandwidth: bytes a second in one direction.
        pipelined: long messages are cut into pieces that follow each other (NCCL).
    """

    latency: float
    bandwidth: float
    pipelined: bool = False

    def broadcast(self, count: float, size: int) -> float:
        """Seconds until all of `size` processes have what one has: a tree of depth log2(size)."""
        depth = math.ceil(math.log2(size))
        return depth * self.latency + count / self.bandwidth * (1 if self.pipelined else depth)

    def all_gather(self, count: float, size: int) -> float:
        """Seconds until all have what each has (`count` bytes): a ring, in size - 1 steps."""
        return (size - 1) * (self.latency + count / self.bandwidth)

    def all_reduce(self, count: float, size: int) -> float:
        """Seconds of a sum over all: a ring moves 2 (size - 1) / size times the bytes; NCCL's tree saves latency."""
        steps = 2 * math.ceil(math.log2(size)) if self.pipelined else 2 * (size - 1)
        return steps * self.latency + 2 * (size - 1) / size * count / self.bandwidth


LOOPBACK = Link(latency=1e-4, bandwidth=1e9)  # gloo on one machine
NVLINK = Link(latency=2e-5, bandwidth=200e9, pipelined=True)  # NCCL within one machine
NETWORK = Link(latency=5e-5, bandwidth=12.5e9, pipelined=True)  # NCCL between machines: 100 Gbit/s


@dataclass(frozen=True)
class Workers:
    """The processes that a prediction is for.

    Attributes:
        size: how many.
        link: the slowest between them.
        per_machine: how many of them share a machine.
        speed: of each, in units of the process that was measured.
        crowd: how many times longer all take when a machine's processes compute at once: threads for each core.
    """

    size: int
    link: Link = LOOPBACK
    per_machine: int = 1
    speed: float = 1.0
    crowd: float = 1.0

    @property
    def machines(self) -> int:
        """How many machines they take."""
        return -(-self.size // self.per_machine)


@dataclass(frozen=True)
class Piece:
    """Divided work.

    Attributes:
        seconds: of one process, for all of it.
        items: that can be done at the same time.
        rounds: how often that many items are done one after the other.
        item_bytes: of an item's result, which every other process gets in so many tensors.
        reduced_bytes: summed over all processes in every round.
        gathered_bytes: that each process gives to all in every turn of a map.
        ahead: a round has one item that is needed; the other processes solve those that will probably follow.
    """

    seconds: float
    items: float = 1
    rounds: float = 1
    item_bytes: float = 0
    tensors: float = 1
    reduced_bytes: float = 0
    gathered_bytes: float = 0
    ahead: bool = False

    def compute(self, size: int) -> float:
        """Seconds of the process that has most to do."""
        if self.ahead:
            return self.seconds / merges_a_round(size)
        return self.seconds * math.ceil(self.items / size) / self.items

    def messages(self, size: int, link: Link) -> float:
        """Seconds of sending."""
        if size == 1:
            return 0.0
        items = float(size) if self.ahead else self.items
        rounds = self.rounds / merges_a_round(size) if self.ahead else self.rounds
        seconds = 0.0
        if self.item_bytes and self.tensors:
            turns = math.ceil(items / size)
            seconds += items * self.tensors * link.broadcast(self.item_bytes / self.tensors, size)
            seconds += turns * (link.all_gather(8, size) + link.all_gather(self.gathered_bytes, size))
        if self.reduced_bytes:
            seconds += link.all_reduce(self.reduced_bytes, size)
        return rounds * seconds

    def sent(self, size: int) -> float:
        """Bytes that the processes hand to broadcasts and sums."""
        if size == 1:
            return 0.0
        items = size / merges_a_round(size) if self.ahead else self.items
        return self.rounds * (items * self.item_bytes + self.reduced_bytes)


@dataclass
class Load:
    """What a stage has to do.

    Attributes:
        alone: seconds of what one process does while the others wait.
        pieces: what is divided.
    """

    alone: float = 0.0
    pieces: list[Piece] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """In one process."""
        return self.alone + sum(piece.seconds for piece in self.pieces)

    def repeated(self, times: int) -> Load:
        """The same, so many times."""
        pieces = [replace(p, seconds=p.seconds * times, rounds=p.rounds * times) for p in self.pieces]
        return Load(self.alone * times, pieces)


@dataclass(frozen=True)
class StageTime:
    """What a stage is predicted to take.

    Attributes:
        one: seconds of one process of the same speed.
        seconds: of all together; the sum of the next three.
        alone, compute, messages: seconds of what is not divided, of what is, and of sending.
        sent_bytes: that are broadcast and summed.
        limit: what most of the time beyond one N-th goes to.
    """

    one: float
    seconds: float
    alone: float
    compute: float
    messages: float
    sent_bytes: float
    limit: str


def stage_time(load: Load, workers: Workers) -> StageTime:
    """What a stage takes with those processes."""
    alone = load.alone / workers.speed
    even = sum(piece.seconds for piece in load.pieces) / workers.speed * workers.crowd / workers.size
    compute = sum(piece.compute(workers.size) for piece in load.pieces) / workers.speed * workers.crowd
    messages = sum(piece.messages(workers.size, workers.link) for piece in load.pieces)
    sent = sum(piece.sent(workers.size) for piece in load.pieces)
    lost = {ONE_PROCESS: alone, MESSAGES: messages, TOO_FEW: compute - even, COMPUTE: even}
    return StageTime(
        one=load.seconds / workers.speed,
        seconds=alone + compute + messages,
        alone=alone,
        compute=compute,
        messages=messages,
        sent_bytes=sent,
        limit=max(lost, key=lambda name: lost[name]),
    )


def predict(loads: Mapping[str, Load], workers: Workers) -> dict[str, StageTime]:
    """Stage name -> what it takes with those processes."""
    return {name: stage_time(load, workers) for name, load in loads.items()}


def bottleneck(times: Mapping[str, StageTime]) -> str:
    """The stage that takes longest."""
    return max(times, key=lambda name: times[name].seconds)


def merges_a_round(size: int, table: Sequence[tuple[int, float]] = AHEAD) -> float:
    """How many of the merges that `size` processes solve in one round are used; interpolated in log(size)."""
    for (low, a), (high, b) in itertools.pairwise(table):
        if size <= high:
            return a + (b - a) * math.log(size / low) / math.log(high / low)
    return table[-1][1]
