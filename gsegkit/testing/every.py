"""Checks of every kind of component: its record, its options, its construction."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import subprocess
import sys

from gsegkit import interfaces
from gsegkit.config import Config, build_config
from gsegkit.errors import ConfigError, UnknownPluginError
from gsegkit.launching import Launcher
from gsegkit.painting import Painter
from gsegkit.testing.subject import CheckFailedError, CheckSkippedError, Subject

BASES: dict[str, type] = {
    "generator": interfaces.Generator,
    "extractor": interfaces.MaskExtractor,
    "refiner": interfaces.Refiner,
    "segmenter": interfaces.Segmenter,
    "evaluator": interfaces.Evaluator,
    "generator-evaluator": interfaces.GeneratorEvaluator,
    "painter": Painter,
    "kmeans": interfaces.KMeans,
    "dataset": interfaces.DatasetReader,
    "weights": interfaces.Weights,
    "checkpoint-reader": interfaces.CheckpointReader,
    "samples": interfaces.Samples,
    "launcher": Launcher,
}
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
HEAVY = ("torch", "torchvision", "numpy.random", "scipy", "sklearn", "kornia", "timm", "faiss")


def check_record(subject: Subject) -> None:
    """The `Component` record: a good name, a summary, and a target that is what its kind says."""
    if subject.entry is None:
        raise CheckSkippedError("not registered")
    component = subject.entry.component
    subject.expect(NAME.fullmatch(component.name), "gsegkit_components", f"name '{component.name}' is not like-this")
    subject.expect(component.summary, "gsegkit_components", "the summary is empty")
    cls = subject.call("__init__", subject.entry.target_class)
    base = BASES[component.kind]
    subject.expect(
        inspect.isclass(cls) and issubclass(cls, base),
        "gsegkit_components",
        f"target {component.target} is not a subclass of {base.__module__}.{base.__name__}",
    )
    trainable = issubclass(cls, interfaces.TrainableGenerator)
    declared = "trainable" in component.provides
    subject.expect(
        trainable == declared, "gsegkit_components", f"'trainable' is {declared} but TrainableGenerator is {trainable}"
    )
    without = issubclass(cls, interfaces.PhotographSegmenter)
    subject.expect(
        without == ("without-pairs" in component.provides),
        "gsegkit_components",
        f"'without-pairs' is {not without} but PhotographSegmenter is {without}",
    )


def check_light_import(subject: Subject) -> None:
    """Importing the options and the kit's settings imports no torch and nothing heavy: `gsegkit list` stays fast."""
    if subject.entry is None:
        raise CheckSkippedError("not registered")
    component = subject.entry.component
    for module in [path.partition(":")[0] for path in (component.config, component.kit) if path]:
        found = _heavy_imports(module, os.pathsep.join(sys.path))
        subject.expect(not found, "gsegkit_components", f"importing {module} imports {found}")


@functools.cache
def _heavy_imports(module: str, path: str) -> str:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    return done.stdout.strip() if done.returncode == 0 else f"nothing: {done.stderr.strip().splitlines()[-1]}"


def check_default_options(subject: Subject) -> None:
    """The options are a `Config` whose defaults are valid and whose every field is described."""
    cls = subject.config_class
    subject.expect(issubclass(cls, Config), "config", f"{cls.__name__} is not a gsegkit.config.Config")
    subject.call("config", build_config, cls, subject.defaults, subject.name)
    bare = [name for name, field in cls.model_fields.items() if not field.description]
    subject.expect(not bare, "config", f"option '{bare[0] if bare else ''}' has no description")


def check_options_through_json(subject: Subject) -> None:
    """The options come back equal from JSON, so that a run can be replayed from its config.json."""
    for config in (subject.config(), build_config(subject.config_class, subject.defaults, subject.name)):
        text = subject.call("config", lambda value: json.dumps(value.model_dump(mode="json")), config)
        back = subject.call("config", build_config, subject.config_class, json.loads(text), subject.name)
        subject.expect(back == config, "config", f"comes back from JSON as {back!r}, was {config!r}")


def check_unknown_option(subject: Subject) -> None:
    """An option that does not exist is an error, not ignored."""
    options = {**subject.defaults, "no_such_option": 1}
    subject.refuses(
        "config",
        (ConfigError,),
        "an unknown option",
        lambda: build_config(subject.config_class, options, subject.name),
    )


def check_default_construction(subject: Subject) -> None:
    """It can be constructed from its default options, and keeps them as `config`."""
    config = build_config(subject.config_class, subject.defaults, subject.name)
    try:
        part = subject.make(config)
    except CheckFailedError as error:
        if isinstance(error.__cause__, UnknownPluginError):  # such as default weights of another distribution
            raise CheckSkippedError(f"the default options name what is not installed: {error.__cause__}") from error
        raise
    base = BASES[subject.kind]
    subject.expect(isinstance(part, base), "__init__", f"made {type(part).__name__}, not a {base.__name__}")
    subject.expect(part.config == config, "__init__", "did not keep its options as self.config")


EVERY_CHECKS = (
    check_record,
    check_light_import,
    check_default_options,
    check_options_through_json,
    check_unknown_option,
    check_default_construction,
)
