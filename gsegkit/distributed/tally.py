"""A team of one that notes what several processes would divide and send: what a prediction for them is made from.

A rehearsal in one process hears every `map`, with the seconds and the bytes of each item, because the items of a `map`
do not depend on the number of processes. `traffic` says what N processes would then send, to the byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gsegkit.distributed.team import AT_ONCE, BRIEF, HEAD, Results, T, Team

NUMBER_BYTES = 8  # lengths and flags travel as int64


@dataclass
class Exchange:
    """One call of a team.

    Attributes:
        kind: "map", "told", "gather" or "sum".
        seconds: of each item of a map.
        bytes: of each item's result; of a told or gathered text; of a summed tensor.
        tensors: of each item of a map, how many of its result are sent: empty ones are not.
        heads: of each item of a map, bytes of the text that says what its tensors are.
        at_once: of a map, see `Team.map`.
        ahead: the map was of one item, and several processes would have had one each, see `Team.ahead`.
        once: one process does it, whatever their number, see `Team.once`.
    """

    kind: str
    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    tensors: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    at_once: int = AT_ONCE
    ahead: bool = False
    once: bool = False


@dataclass(frozen=True)
class Traffic:
    """Bytes that a process hands to each kind of operation, and how many operations there are.

    Attributes:
        broadcast, gathered, reduced: bytes of the tensors of broadcasts, all-gathers (one process's) and all-reduces.
        messages: number of operations.
    """

    broadcast: int = 0
    gathered: int = 0
    reduced: int = 0
    messages: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.broadcast + other.broadcast,
            self.gathered + other.gathered,
            self.reduced + other.reduced,
            self.messages + other.messages,
        )


class Tally(Team):
    """One process that notes what it would say to others.

    Args:
        clock: seconds by which items are timed.

    Attributes:
        exchanges: in their order.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.exchanges: list[Exchange] = []
        self._clock = clock
        self._ahead = False

    @property
    def ahead(self) -> int:
        """See `Team.ahead`."""
        self._ahead = True
        return 1

    def map(self, work: Callable[[T], Results], items: Sequence[T], at_once: int = AT_ONCE) -> Iterator[Results]:
        """See `Team.map`."""
        noted = Exchange("map", ahead=self._ahead and len(items) == 1, at_once=at_once)
        self._ahead = False
        self.exchanges.append(noted)
        for item in items:
            began = self._clock()
            found = work(item)
            noted.seconds.append(self._clock() - began)
            noted.bytes.append(sum(tensor.nbytes for tensor in found))
            noted.tensors.append(sum(tensor.numel() > 0 for tensor in found))
            noted.heads.append(len(head(found)))
            yield found

    def once(self, work: Callable[[], Results]) -> Results:
        """See `Team.once`."""
        found = super().once(work)
        self.exchanges[-1].once = True
        return found

    def told(self, value: Any) -> Any:
        """See `Team.told`."""
        self.exchanges.append(Exchange("told", bytes=[len(json.dumps(value))]))
        return value

    def gather(self, value: Any) -> list[Any]:
        """See `Team.gather`."""
        self.exchanges.append(Exchange("gather", bytes=[len(json.dumps(value))]))
        return [value]

    def any(self, flag: bool) -> bool:
        """See `Team.any`."""
        self.exchanges.append(Exchange("sum", bytes=[NUMBER_BYTES]))
        return flag

    def sum(self, values: Tensor) -> Tensor:
        """See `Team.sum`."""
        self.exchanges.append(Exchange("sum", bytes=[values.nbytes]))
        return values

    def wait(self) -> None:
        """See `Team.wait`."""
        self.any(False)


def head(found: Iterable[Tensor]) -> str:
    """What a process says of its results before it sends them: their types, shapes and devices."""
    return json.dumps([[str(x.dtype), list(x.shape), x.device.type] for x in found])


def traffic(exchanges: Iterable[Exchange], size: int) -> Traffic:
    """What each of `size` processes would hand to the operations of torch.distributed, as `Processes` uses them."""
    return sum((_traffic(exchange, size) for exchange in exchanges), Traffic())


def _traffic(noted: Exchange, size: int) -> Traffic:
    if noted.kind == "told":  # its length, then the text
        return Traffic(broadcast=NUMBER_BYTES + noted.bytes[0], messages=2)
    if noted.kind == "gather":
        return _gathered(noted.bytes[0])
    if noted.kind == "sum":
        return Traffic(reduced=noted.bytes[0], messages=1)
    total, group = Traffic(), size * noted.at_once
    for start in range(0, len(noted.bytes), group):
        turns = [slice(start + rank, start + group, size) for rank in range(size)]
        total += _gathered(max(_list_bytes(noted.heads[turn]) for turn in turns))
        sent = [sum(noted.bytes[turn]) for turn in turns]
        total += Traffic(broadcast=sum(sent), messages=sum(bytes_of > 0 for bytes_of in sent))
    return total


def _gathered(longest: int) -> Traffic:
    """A length and a brief text; then, if one is longer, texts as long as the longest."""
    more = longest if longest > BRIEF else 0
    return Traffic(gathered=HEAD + BRIEF + more, messages=2 if more else 1)


def _list_bytes(texts: Sequence[int]) -> int:
    """Bytes of a JSON list of values of so many bytes."""
    return 2 + sum(texts) + 2 * max(0, len(texts) - 1)
