"""The processes of a run, as an algorithm sees them. One process is a team too, so that algorithms read the same.

Results do not depend on the number of processes, because nothing is added in an order that depends on it: `map` hands
the parts of a loop to the processes in turn, and gives every process all results in the loop's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")
Results = tuple[Tensor, ...]
AT_ONCE = 4  # see `Team.map`
HEAD, BRIEF = 8, 2040  # bytes of a text's length, and of texts that `Team.gather` needs no second message for


class Team:
    """A run in one process: every share is the whole, and nobody has to be told.

    Attributes:
        rank: number of this process, 0 .. size - 1.
        size: how many there are.
        local_rank: its number on its machine, by which it takes its GPU.

    Example:
        >>> import torch
        >>> team = Team()
        >>> total = torch.zeros(3)
        >>> for (part,) in team.map(lambda block: (block.sum(dim=0),), torch.ones(8, 3).split(2)):
        ...     total += part
        >>> total
        tensor([8., 8., 8.])
    """

    rank = 0
    size = 1
    local_rank = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    @property
    def ahead(self) -> int:
        """How many items to give to `map` where only the first is needed, and others may be: one a process."""
        return self.size

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's items of a list that all have: every `size`-th, from `rank` on."""
        return [items[i] for i in range(self.rank, len(items), self.size)]

    def map(self, work: Callable[[T], Results], items: Sequence[T], at_once: int = AT_ONCE) -> Iterator[Results]:
        """The results of all items in their order, each computed by one process and given to all.

        All processes must call it with the same items, and read it to its end.

        Args:
            work: item -> tensors, on the CPU or on the process's device.
            items: anything that a result depends on; not on the number of processes.
            at_once: results that a process computes before it tells the others: more cost memory, fewer cost time,
                since all wait for the slowest.
        """
        for item in items:
            yield work(item)

    def once(self, work: Callable[[], Results]) -> Results:
        """What one process computes, given to all; all must call it."""
        (found,) = self.map(lambda _: work(), range(1))
        return found

    def told(self, value: Any) -> Any:
        """The first process's value, JSON-ready; what the others give is ignored."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The JSON-ready values of all processes, by rank; every process gets them."""
        return [value]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in one of the processes."""
        return flag

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, the same bits in all of them; exact for integers.

        Of floats the last digits depend on the number of processes; where that matters, use `map`.
        """
        return values

    def wait(self) -> None:
        """Until all processes are here."""


ALONE = Team()
