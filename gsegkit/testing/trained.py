"""What the checks of trained parts share: equal states, and a part that was stored and loaded."""

from __future__ import annotations

from typing import Any

from gsegkit.interfaces import ModulePart
from gsegkit.parts import load_part, save_part
from gsegkit.testing import fixtures
from gsegkit.testing.subject import Subject


def expect_same_state(subject: Subject, one: ModulePart, two: ModulePart, what: str) -> None:
    """Fail with `what` and the first tensor that differs, unless two trained parts have equal tensors."""
    changed = fixtures.first_difference(fixtures.state_of(one), fixtures.state_of(two))
    subject.expect(not changed, "fit", f"{what} in {changed}")


def stored_and_loaded(subject: Subject, part: ModulePart, names: tuple[str, ...]) -> Any:
    """A new part in eval mode that was loaded from what `part` was stored as; fails unless `names` are as before."""
    with fixtures.context() as ctx:
        subject.call("facts", save_part, part, ctx.folder, subject.kind, subject.name)
        other = subject.make()
        subject.call("restore", load_part, other, ctx.folder)
    for name in names:
        same = getattr(other, name, None) == getattr(part, name)
        subject.expect(same, "restore", f"{name} is {getattr(other, name, None)!r} after loading")
    return other.eval()
