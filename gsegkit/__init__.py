"""gsegkit: turn any generative image model into a segmenter, without a single label.

Importing this package does not import torch; the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsegkit.api import evaluate, evaluate_generator, export, load, predict, run, synthesize, train
    from gsegkit.engine.plan import Plan
    from gsegkit.plugins import Component, hookimpl, installed

__version__ = "0.1.0"

_LAZY = {
    "Component": "gsegkit.plugins",
    "Plan": "gsegkit.engine.plan",
    "evaluate": "gsegkit.api",
    "evaluate_generator": "gsegkit.api",
    "export": "gsegkit.api",
    "hookimpl": "gsegkit.plugins",
    "installed": "gsegkit.plugins",
    "load": "gsegkit.api",
    "predict": "gsegkit.api",
    "run": "gsegkit.api",
    "synthesize": "gsegkit.api",
    "train": "gsegkit.api",
}

__all__ = [
    "Component",
    "Plan",
    "__version__",
    "evaluate",
    "evaluate_generator",
    "export",
    "hookimpl",
    "installed",
    "load",
    "predict",
    "run",
    "synthesize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'gsegkit' has no attribute '{name}'")
