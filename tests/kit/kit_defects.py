"""Small components with one defect each, and the claim that the kit finds it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gsegkit.config import Config
from gsegkit.testing import CheckFailedError, Subject, checks_for

TOY = ("latent-grad", "features", "feature-edit", "masks", "classes", "truth")
EVERY = ("settings", "record", "light-import", "default-options", "options-through-json", "unknown-option")
EVERY += ("default-construction",)  # checks of every kind; their defects are in tests/test_testing_kit.py


@dataclass(frozen=True)
class Defect:
    """A component with one defect, the check that must find it, and the method and words of its message."""

    cls: type
    config: Config
    check: str
    method: str
    words: str
    requires: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.cls.__name__


@dataclass
class Defects:
    """The defects of one kind of component.

    Attributes:
        kind: the component kind.
        config: options that most of them are constructed with.
        provides: capabilities that all of them claim.
    """

    kind: str
    config: Config = field(default_factory=Config)
    provides: tuple[str, ...] = ()
    found: list[Defect] = field(default_factory=list)

    def __call__(self, check: str, method: str, words: str, config: Config | None = None, requires=()):
        """Decorate a defective class: `check` must fail and say `method(): ... words ...`."""

        def note(cls):
            self.found.append(Defect(cls, config or self.config, check, method, words, requires))
            return cls

        return note

    def verify(self, defect: Defect) -> None:
        """The check that is meant for it fails, and names kind, component and method."""
        subject = self.subject(lambda: defect.cls(defect.config), requires=defect.requires)
        with pytest.raises(CheckFailedError, match=defect.words) as caught:
            dict(checks_for(subject))[defect.check]()
        message = str(caught.value)
        assert message.startswith(f"{self.kind} '{defect}'")
        assert f"{defect.method}(): " in message

    def subject(self, make, **record) -> Subject:
        """A component of this kind under test."""
        return Subject.of_part(self.kind, make, **{"provides": self.provides, **record})

    def unproven(self, make) -> list[str]:
        """Checks of this kind that no defect has shown to be able to fail."""
        shown = {defect.check for defect in self.found} | set(EVERY)
        return [name for name, _ in checks_for(self.subject(make)) if name not in shown]
