"""What is under test, and the words in which a check says what is wrong with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch

from gsegkit.config import Config, build_config
from gsegkit.context import RunContext
from gsegkit.errors import GsegkitError, InterruptedRunError, MissingDependencyError
from gsegkit.plugins import Entry
from gsegkit.testing.settings import KitSettings


class CheckFailedError(AssertionError):
    """A component breaks its contract; the message names plugin, method, and what was got."""


class CheckSkippedError(Exception):
    """A check cannot be run here; the message says why."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A component under test.

    Attributes:
        kind: its component kind.
        name: how messages call it.
        config_class: its options.
        construct: config -> part.
        defaults: options without which it cannot be constructed; {} for anything that is registered.
        provides, requires, inputs: as in its `Component` record.
        settings: see `KitSettings`.
        entry: the installed component, None for a class under development.
    """

    kind: str
    name: str
    config_class: type[Config]
    construct: Callable[[Config], Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    settings: KitSettings = field(default_factory=KitSettings)
    entry: Entry | None = None

    @staticmethod
    def of_entry(entry: Entry, settings: KitSettings | None = None) -> Subject:
        """An installed component; settings come from its record when they are not given."""
        component = entry.component
        config_class = entry.config_class()
        return Subject(
            kind=component.kind,
            name=entry.full_name,
            config_class=config_class,
            construct=entry.build,
            provides=component.provides,
            requires=component.requires,
            inputs=component.inputs,
            settings=settings or entry.kit_settings() or KitSettings(),
            entry=entry,
        )

    @staticmethod
    def of_part(
        kind: str,
        make: Callable[[], Any],
        settings: KitSettings | None = None,
        *,
        provides: tuple[str, ...] = (),
        requires: tuple[str, ...] = (),
        inputs: tuple[str, ...] = (),
    ) -> Subject:
        """A component that is not registered: `make()` constructs it with options that suit a test."""
        part = make()
        cls, config = type(part), part.config
        return Subject(
            kind=kind,
            name=cls.__name__,
            config_class=type(config),
            construct=cls,
            defaults=config.model_dump(exclude_unset=True),
            provides=provides,
            requires=requires,
            inputs=inputs,
            settings=settings or KitSettings(),
        )

    # ---- making --------------------------------------------------------------------------------------------------

    def config(self, **options: Any) -> Config:
        """The options for tests, changed by `options`."""
        return build_config(self.config_class, {**self.defaults, **self.settings.options, **options}, self.name)

    def make(self, config: Config | None = None) -> Any:
        """Construct the part with the options for tests, or with `config`."""
        return self.call("__init__", self.construct, config or self.config())

    # ---- saying --------------------------------------------------------------------------------------------------

    def fail(self, method: str, message: str, error: BaseException | None = None) -> NoReturn:
        """Raise CheckFailedError: `kind 'name', method(): message`."""
        raise CheckFailedError(f"{self.kind} '{self.name}', {method}(): {message}") from error

    def expect(self, condition: Any, method: str, message: str) -> None:
        """Fail unless `condition` is true."""
        if not condition:
            self.fail(method, message)

    def call(self, method: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method of the part; whatever it raises becomes a failure that names it."""
        try:
            return function(*args, **options)
        except MissingDependencyError as error:
            raise CheckSkippedError(str(error)) from error
        except (CheckFailedError, CheckSkippedError, InterruptedRunError):
            raise
        except GsegkitError as error:
            self.fail(method, f"raised {type(error).__name__}: {error}", error)
        except Exception as error:
            self.fail(method, f"raised {type(error).__name__}: {_first_line(error)}", error)

    def fit(
        self, part: Any, given: Any, ctx: RunContext, *, stop: bool = False, method: str = "fit", **options: Any
    ) -> Any:
        """`part.fit(given, ctx, **options)`, or another method of it.

        With `stop`, it is interrupted after the first step and continued by a new part.

        Returns:
            The part that ended its fit.
        """
        if stop:
            ctx.stop.set()
            try:
                self.call(method, getattr(part, method), given, ctx, **options)
            except InterruptedRunError:
                part = self.make()
            ctx.stop.clear()
        self.call(method, getattr(part, method), given, ctx, **options)
        return part

    def refuses(
        self, method: str, errors: tuple[type[GsegkitError], ...], what: str, function: Callable[[], Any]
    ) -> None:
        """Fail unless `function()` raises one of `errors`; `what` says what ought to be refused."""
        names = " or ".join(error.__name__ for error in errors)
        try:
            function()
        except errors:
            return
        except CheckFailedError as error:
            cause = error.__cause__
            if isinstance(cause, errors):
                return
            self.fail(method, f"{what} must raise {names}, got {type(cause or error).__name__}: {cause or error}")
        except Exception as error:
            self.fail(method, f"{what} must raise {names}, got {type(error).__name__}: {_first_line(error)}", error)
        self.fail(method, f"{what} must raise {names}, but nothing was raised")

    @contextmanager
    def untouched_globals(self, method: str) -> Iterator[None]:
        """Fail when the block changes a global random state or a global setting of torch."""
        with preserved_globals():
            for seed in (torch.manual_seed, np.random.seed, random.seed):  # or a second seeding would go unseen
                seed(862_743)
            before = _global_state()
            yield
            after = _global_state()
        for name, value in after.items():
            self.expect(value == before[name], method, f"changed {name}")


@contextmanager
def preserved_globals() -> Iterator[None]:
    """Put back the global random states and torch's settings after the block, so that no component spoils another."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    gradients, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it imports torch's compiler
            torch.use_deterministic_algorithms(deterministic)


def _global_state() -> dict[str, Any]:
    legacy = np.random.get_state(legacy=True)
    return {
        "torch's global random state": torch.get_rng_state().numpy().tobytes(),
        "NumPy's global random state": (legacy[1].tobytes(), legacy[2]),  # type: ignore[index]
        "Python's global random state": random.getstate(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
