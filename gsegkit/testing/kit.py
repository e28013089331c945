"""Which checks apply to a component, and three ways to run them: as a table, under pytest, or as one function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gsegkit.errors import MissingDependencyError, UnknownPluginError
from gsegkit.plugins import Entry, installed
from gsegkit.testing.evaluators import EVALUATOR_CHECKS
from gsegkit.testing.every import EVERY_CHECKS
from gsegkit.testing.extractors import EXTRACTOR_CHECKS
from gsegkit.testing.generator_evaluators import GENERATOR_EVALUATOR_CHECKS
from gsegkit.testing.generators import GENERATOR_CHECKS
from gsegkit.testing.launchers import LAUNCHER_CHECKS
from gsegkit.testing.loading import CHECKPOINT_READER_CHECKS
from gsegkit.testing.minor import DATASET_CHECKS, KMEANS_CHECKS, SAMPLES_CHECKS, WEIGHTS_CHECKS
from gsegkit.testing.painters import PAINTER_CHECKS
from gsegkit.testing.refiners import REFINER_CHECKS
from gsegkit.testing.segmenters import SEGMENTER_CHECKS
from gsegkit.testing.settings import KitSettings
from gsegkit.testing.subject import CheckFailedError, CheckSkippedError, Subject, preserved_globals

Check = Callable[[Subject], None]
_KIND_CHECKS: Mapping[str, tuple[Check, ...]] = {
    "extractor": EXTRACTOR_CHECKS,
    "refiner": REFINER_CHECKS,
    "segmenter": SEGMENTER_CHECKS,
    "evaluator": EVALUATOR_CHECKS,
    "generator-evaluator": GENERATOR_EVALUATOR_CHECKS,
    "painter": PAINTER_CHECKS,
    "kmeans": KMEANS_CHECKS,
    "dataset": DATASET_CHECKS,
    "weights": WEIGHTS_CHECKS,
    "checkpoint-reader": CHECKPOINT_READER_CHECKS,
    "samples": SAMPLES_CHECKS,
    "launcher": LAUNCHER_CHECKS,
}


def check_settings(subject: Subject) -> None:
    """The names of checks in its `KitSettings` are names of checks."""
    every = [*EVERY_CHECKS, *(check for check, _ in GENERATOR_CHECKS), *(c for cs in _KIND_CHECKS.values() for c in cs)]
    known = {_name(check) for check in every}
    unknown = [name for name in (*subject.settings.expected_failures, *subject.settings.slow) if name not in known]
    subject.expect(not unknown, "kit", f"there is no check {unknown}")


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        check: its name.
        status: "passed", "failed", "skipped", "expected" (an expected failure), or "unexpected" (one that passed).
        message: what was wrong, or why it was skipped or expected; empty when it passed.
        seconds: how long it took.
    """

    check: str
    status: str
    message: str = ""
    seconds: float = 0.0


def checks_for(what: Entry | Subject, settings: KitSettings | None = None) -> list[tuple[str, Callable[[], None]]]:
    """The checks that apply to a component, by its kind and capabilities: (name, function without arguments).

    A function raises CheckFailedError when the component breaks its contract, CheckSkippedError when the check
    cannot be made here.
    """
    subject = what if isinstance(what, Subject) else Subject.of_entry(what, settings)
    if subject.kind == "generator":
        chosen: Iterable[Check] = [check for check, need in GENERATOR_CHECKS if not need or need in subject.provides]
    else:
        chosen = _KIND_CHECKS[subject.kind]
    checks = [check_settings, *EVERY_CHECKS, *chosen]
    return [(_name(check), _bind(check, subject)) for check in checks]


def run_checks(what: Entry | Subject, settings: KitSettings | None = None) -> list[CheckResult]:
    """Run every check of a component; none stops the others."""
    try:
        subject = what if isinstance(what, Subject) else Subject.of_entry(what, settings)
    except Exception as error:
        return [CheckResult("import", "failed", str(error))]
    expected = subject.settings.expected_failures
    return [_run(name, check, expected.get(name)) for name, check in checks_for(subject)]


def _run(name: str, check: Callable[[], None], expected: str | None) -> CheckResult:
    start = time.monotonic()
    try:
        check()
    except CheckSkippedError as error:
        status, message = "skipped", str(error)
    except CheckFailedError as error:
        status, message = ("failed", str(error)) if expected is None else ("expected", f"{expected}: {error}")
    except Exception as error:  # a check that trips over what the component did, which it did not foresee
        status, message = "failed", f"{type(error).__name__}: {error}"
    else:
        status, message = ("passed", "") if expected is None else ("unexpected", f"passes, though: {expected}")
    return CheckResult(name, status, message, round(time.monotonic() - start, 3))


def parametrize_with_checks(
    components: Iterable[str | tuple[str, str] | Entry],
    *,
    select: Callable[[Entry, str], bool] = lambda entry, name: True,
) -> Any:
    """A pytest decorator that runs every check as an item of its own.

    Example:
        @parametrize_with_checks(["my-method"])
        def test_contract(check):
            check()

    Args:
        components: installed components: a name, a distribution for all that it brings, (kind, name), or an entry.
        select: (entry, check name) -> whether to run it.
    """
    import pytest

    items = []
    for entry in [entry for component in components for entry in _entries(component)]:
        prefix = f"{entry.component.kind}:{entry.component.name}"
        try:
            subject = Subject.of_entry(entry)
        except Exception as error:
            items.append(pytest.param(_raiser(error), id=f"{prefix}-import"))
            continue
        for name, check in checks_for(subject):
            if select(entry, name):
                items.append(pytest.param(_for_pytest(check), id=f"{prefix}-{name}", marks=_marks(subject, name)))
    return pytest.mark.parametrize("check", items)


def _entries(component: str | tuple[str, str] | Entry) -> list[Entry]:
    if isinstance(component, Entry):
        return [component]
    if isinstance(component, tuple):
        return [installed().find(*component)]
    found = [e for e in installed().entries if component in (e.component.name, e.full_name, e.dist)]
    if not found:
        raise UnknownPluginError(f"no component or distribution '{component}' is installed", "pip install -e . first")
    return found


def _marks(subject: Subject, name: str) -> list[Any]:
    import pytest

    marks: list[Any] = [pytest.mark.slow] if name in subject.settings.slow else []
    reason = subject.settings.expected_failures.get(name)
    return [*marks, pytest.mark.xfail(reason=reason, strict=True)] if reason else marks


def _for_pytest(check: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        import pytest

        try:
            check()
        except CheckSkippedError as error:
            pytest.skip(str(error))

    return run


def _raiser(error: Exception) -> Callable[[], None]:
    def run() -> None:
        if isinstance(error, MissingDependencyError):
            import pytest

            pytest.skip(str(error))
        raise error

    return run


def _name(check: Check) -> str:
    return check.__name__.removeprefix("check_").replace("_", "-")


def _bind(check: Check, subject: Subject) -> Callable[[], None]:
    def run() -> None:
        with preserved_globals():
            check(subject)

    return run


# ---- one function a kind -------------------------------------------------------------------------------------------


def check_component(
    kind: str,
    what: Entry | Callable[[], Any],
    settings: KitSettings | None = None,
    *,
    provides: tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
    inputs: tuple[str, ...] = (),
) -> list[CheckResult]:
    """Run every check of one component of the given kind and raise for all failures at once.

    Args:
        kind: a component kind.
        what: an installed component, or a function (a class of no arguments) that constructs one.
        settings: see `KitSettings`; by default what its record names.
        provides: capabilities of a component that is not installed.
        requires: what it requires of the generator.
        inputs: what must be given to its fit().

    Returns:
        The results, none of them a failure.

    Raises:
        CheckFailedError: one line a failed check.
    """
    if isinstance(what, Entry):
        subject = Subject.of_entry(what, settings)
    else:
        subject = Subject.of_part(kind, what, settings, provides=provides, requires=requires, inputs=inputs)
    results = run_checks(subject)
    failed = [f"{result.check}: {result.message}" for result in results if result.status == "failed"]
    if failed:
        raise CheckFailedError("\n".join(failed))
    return results


def check_generator(make: Entry | Callable[[], Any], provides: tuple[str, ...] = ()) -> list[CheckResult]:
    """Check a generator; see `check_component`."""
    return check_component("generator", make, provides=provides)


def check_extractor(
    make: Entry | Callable[[], Any], requires: tuple[str, ...] = (), inputs: tuple[str, ...] = ()
) -> list[CheckResult]:
    """Check an extractor against the toy generator; see `check_component`."""
    return check_component("extractor", make, requires=requires, inputs=inputs)


def check_refiner(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check a refiner; see `check_component`."""
    return check_component("refiner", make)


def check_segmenter(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check a segmenter; see `check_component`."""
    return check_component("segmenter", make)


def check_evaluator(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check an evaluator; see `check_component`."""
    return check_component("evaluator", make)


def check_generator_evaluator(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check a generator evaluator against the toy; see `check_component`."""
    return check_component("generator-evaluator", make)


def check_painter(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check a painter; see `check_component`."""
    return check_component("painter", make)


def check_kmeans(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check a k-means backend; see `check_component`."""
    return check_component("kmeans", make)


def check_dataset(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check a reader of data folders; see `check_component`."""
    return check_component("dataset", make)


def check_weights(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check weights that ship with a plugin; see `check_component`."""
    return check_component("weights", make)


def check_samples(make: Entry | Callable[[], Any]) -> list[CheckResult]:
    """Check photographs that ship with a plugin; see `check_component`."""
    return check_component("samples", make)


def check_launcher(make: Entry | Callable[[], Any], settings: KitSettings | None = None) -> list[CheckResult]:
    """Check a launcher; see `check_component`."""
    return check_component("launcher", make, settings)


def check_checkpoint_reader(make: Entry | Callable[[], Any], settings: KitSettings | None = None) -> list[CheckResult]:
    """Check a reader of other software's files; see `check_component` and `KitSettings.sample`."""
    return check_component("checkpoint-reader", make, settings)
