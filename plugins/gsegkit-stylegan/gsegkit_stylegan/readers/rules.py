"""Renaming rules: how one tensor of the canonical layout is stored in another one, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gsegkit_foreign import all_finite
from torch import Tensor

from gsegkit.errors import ArtifactError, and_more

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Op:
    """A change of a stored tensor: `read` towards the canonical layout, `write` back."""

    read: Change
    write: Change

    def then(self, after: Op) -> Op:
        """First this change, then `after`, when reading."""
        return Op(lambda t: after.read(self.read(t)), lambda t: self.write(after.write(t)))


@dataclass(frozen=True)
class Rule:
    """Where a canonical tensor is found, and what must be done to it."""

    theirs: str
    op: Op


#: Canonical name -> rule of one layout.
Layout = Callable[[str], Rule]


def _front(count: int) -> Op:
    """Leading axes of length one, dropped on reading."""

    def read(t: Tensor) -> Tensor:
        if tuple(t.shape[:count]) != (1,) * count:
            raise ValueError(f"expected {count} leading axes of length 1")
        return t.reshape(t.shape[count:])

    return Op(read, lambda t: t.reshape(*(1,) * count, *t.shape))


SAME = Op(lambda t: t, lambda t: t)
TRANSPOSED = Op(lambda t: t.t(), lambda t: t.t())
FLIPPED = Op(lambda t: t.flip(-2, -1), lambda t: t.flip(-2, -1))  # true convolution against correlation
HWIO = Op(lambda t: t.permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0))
HWOI = Op(lambda t: t.permute(2, 3, 0, 1), lambda t: t.permute(2, 3, 0, 1))  # of transposed convolutions
IOHW = Op(lambda t: t.transpose(0, 1), lambda t: t.transpose(0, 1))
WITHOUT_ONE = Op(lambda t: t + 1, lambda t: t - 1)  # style bias stored as the distance from one
FRONT = _front(1)
FRONT2 = _front(2)
SCALAR = Op(lambda t: t.reshape(()), lambda t: t.reshape(1))
ROW = Op(lambda t: t.reshape(t.numel()), lambda t: t.reshape(1, -1, 1, 1))  # a bias kept as an image


def read_layout(
    found: Mapping[str, Tensor], names: Iterable[str], layout: Layout, ignore: Callable[[str], bool], what: str
) -> dict[str, Tensor]:
    """Turn tensors of another layout into canonical ones; strict in both directions.

    Args:
        found: the file's tensors.
        names: canonical names that the network has.
        layout: where each of them is stored.
        ignore: says which of the file's tensors carry no weights (filters, counters).
        what: name of the layout, for messages.

    Returns:
        Canonical name -> contiguous float32 tensor.

    Raises:
        ArtifactError: missing, unexpected, misshapen or non-finite tensors; names the first five.
    """
    state: dict[str, Tensor] = {}
    problems: list[str] = []
    used: set[str] = set()
    for name in names:
        rule = layout(name)
        used.add(rule.theirs)
        tensor = found.get(rule.theirs)
        if tensor is None:
            problems.append(f"missing '{rule.theirs}'")
            continue
        if not tensor.is_floating_point():
            problems.append(f"'{rule.theirs}' holds {tensor.dtype} numbers, not weights")
            continue
        if not all_finite(tensor):
            problems.append(f"'{rule.theirs}' holds NaN or infinite values")
            continue
        try:
            state[name] = rule.op.read(tensor.float()).contiguous()
        except (RuntimeError, ValueError, IndexError):
            problems.append(f"'{rule.theirs}' has shape {list(tensor.shape)}, which no such network has")
    problems += [f"unexpected '{name[:80]}'" for name in found if name not in used and not ignore(name)]
    raise_problems(problems, what)
    return state


def write_layout(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """The inverse of `read_layout`: canonical tensors under the names and in the form of `layout`."""
    rules = {name: layout(name) for name in state}
    return {rule.theirs: rule.op.write(state[name]).contiguous() for name, rule in rules.items()}


def raise_problems(problems: list[str], what: str) -> None:
    """Raise ArtifactError with the first five problems, if there are any."""
    if not problems:
        return
    raise ArtifactError(
        f"not a complete {what}: {and_more(problems)}",
        "it may come from a modified network or be a part of a checkpoint; only unmodified networks are read",
    )
