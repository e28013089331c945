"""gsegkit: turn any generative image model into a segmenter, without a single label.

Importing this package does not import torch: each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsegkit.api import (
        Result,
        Session,
        annotate,
        choose,
        compare,
        copy_samples,
        evaluate,
        evaluate_generator,
        evaluate_painter,
        evaluate_pairs,
        export,
        fit,
        import_checkpoint,
        list_clusters,
        load,
        look,
        look_at_checkpoint,
        match,
        name,
        name_page,
        open_generator,
        open_labelled,
        open_painter,
        paint_page,
        paint_server,
        predict,
        reproduce,
        run,
        run_plan,
        start,
        synthesize,
        train,
        train_choice,
        train_generator,
        train_painter,
    )
    from gsegkit.engine.plan import Plan
    from gsegkit.errors import GsegkitError
    from gsegkit.plugins import Component, hookimpl, installed

__version__ = version("gsegkit")  # of the installed distribution; the number itself is in the file VERSION
_ELSEWHERE = {  # names that are not verbs
    "Component": "gsegkit.plugins",
    "GsegkitError": "gsegkit.errors",
    "Plan": "gsegkit.engine.plan",
    "hookimpl": "gsegkit.plugins",
    "installed": "gsegkit.plugins",
}

__all__ = [
    "Component",
    "GsegkitError",
    "Plan",
    "Result",
    "Session",
    "__version__",
    "annotate",
    "choose",
    "compare",
    "copy_samples",
    "evaluate",
    "evaluate_generator",
    "evaluate_painter",
    "evaluate_pairs",
    "export",
    "fit",
    "hookimpl",
    "import_checkpoint",
    "installed",
    "list_clusters",
    "load",
    "look",
    "look_at_checkpoint",
    "match",
    "name",
    "name_page",
    "open_generator",
    "open_labelled",
    "open_painter",
    "paint_page",
    "paint_server",
    "predict",
    "reproduce",
    "run",
    "run_plan",
    "start",
    "synthesize",
    "train",
    "train_choice",
    "train_generator",
    "train_painter",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, "gsegkit.api")), name)
    raise AttributeError(f"module 'gsegkit' has no attribute '{name}'")
