"""The conformance kit: checks that any plugin's components can run, and pytest helpers.

    from gsegkit.testing import parametrize_with_checks

    @parametrize_with_checks(["my-method"])
    def test_contract(check):
        check()

Importing this package is light; torch is imported with the first check.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gsegkit.testing.settings import KitSettings

if TYPE_CHECKING:
    from gsegkit.testing.kit import (
        CheckResult,
        check_checkpoint_reader,
        check_component,
        check_dataset,
        check_evaluator,
        check_extractor,
        check_generator,
        check_generator_evaluator,
        check_kmeans,
        check_launcher,
        check_painter,
        check_refiner,
        check_samples,
        check_segmenter,
        check_weights,
        checks_for,
        parametrize_with_checks,
        run_checks,
    )
    from gsegkit.testing.listener import Listener, StopAfter
    from gsegkit.testing.subject import CheckFailedError, CheckSkippedError, Subject

_ELSEWHERE = {
    "CheckFailedError": "subject",
    "CheckSkippedError": "subject",
    "Subject": "subject",
    "Listener": "listener",
    "StopAfter": "listener",
}

__all__ = [
    "CheckFailedError",
    "CheckResult",
    "CheckSkippedError",
    "KitSettings",
    "Listener",
    "StopAfter",
    "Subject",
    "check_checkpoint_reader",
    "check_component",
    "check_dataset",
    "check_evaluator",
    "check_extractor",
    "check_generator",
    "check_generator_evaluator",
    "check_kmeans",
    "check_launcher",
    "check_painter",
    "check_refiner",
    "check_samples",
    "check_segmenter",
    "check_weights",
    "checks_for",
    "parametrize_with_checks",
    "run_checks",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gsegkit.testing' has no attribute '{name}'")
    return getattr(import_module(f"gsegkit.testing.{_ELSEWHERE.get(name, 'kit')}"), name)
