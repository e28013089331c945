"""Discovery: hook specification, component records, and the registry of everything installed.

Nothing here imports torch. A plugin's entry point is a light module that yields `Component` records; the heavy
class behind a record is imported only when somebody asks for it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from gsegkit.capabilities import unknown_capabilities
from gsegkit.config import Config, build_config, current_names
from gsegkit.errors import (
    ConfigError,
    GsegkitError,
    MissingDependencyError,
    PluginConflictError,
    PluginLoadError,
    UnknownPluginError,
)

PLUGIN_API = 1  # of this gsegkit; raised when a plugin could notice a change
OLDEST_API = 1  # the oldest that it still understands
ENTRY_POINT_GROUP = "gsegkit"
DISABLE_VARIABLE = "GSEGKIT_DISABLE_PLUGINS"  # comma-separated distributions or entry points; `*` = all

KINDS: dict[str, str] = {
    "generator": "makes images from latents",
    "extractor": "reads masks out of a generator",
    "refiner": "cleans or drops (image, mask) pairs",
    "segmenter": "learns from the pairs, then segments real photographs",
    "evaluator": "scores a segmenter against ground truth",
    "generator-evaluator": "compares a generator's images with photographs",
    "painter": "paints pictures from masks; learns from the pairs",
    "kmeans": "k-means backend",
    "dataset": "reads a folder of images or of images and masks",
    "weights": "generator weights that ship with a plugin",
    "checkpoint-reader": "reads weights that other software wrote",
    "samples": "photographs that ship with a plugin, to try a segmenter on",
    "launcher": "starts the processes of a run, here or on a cluster",
}
KIND_ALIASES = {
    "gen": "generator",
    "refine": "refiner",
    "seg": "segmenter",
    "eval": "evaluator",
    "reader": "checkpoint-reader",
}
SHORT_KINDS = {kind: short for short, kind in KIND_ALIASES.items()}

hookspec = pluggy.HookspecMarker("gsegkit")
hookimpl = pluggy.HookimplMarker("gsegkit")


@dataclass(frozen=True)
class Component:
    """One thing a plugin offers. Plain strings only, so that listing it costs no heavy import.

    Attributes:
        kind: one of `KINDS`.
        name: the name on the command line, lower case.
        target: `"package.module:Class"`, imported on first use.
        config: `"package.module:ConfigClass"`, a light module; its one instance constructs the target.
        kit: `"package.kit:SETTINGS"`, a `gsegkit.testing.KitSettings` in a light module of its own; empty = the
            conformance kit uses the default options.
        summary: one line for `gsegkit list`.
        paper: citation or URL, empty when there is none.
        licence: licence of code and weights when it is not Apache-2.0.
        provides: capabilities (see `gsegkit.capabilities`).
        requires: capabilities that the generator of the same run must provide.
        inputs: `"images"` when an image folder must be given.
        modules: importable packages that the target needs; checked before anything runs.
        extra: what to install when one of `modules` is missing, e.g. `"gsegkit-faiss[cpu]"`.
        api: plugin interface version that the component was written for, `OLDEST_API` to `PLUGIN_API`.
    """

    kind: str
    name: str
    target: str
    config: str = "gsegkit.config:Config"
    kit: str = ""
    summary: str = ""
    paper: str = ""
    licence: str = "Apache-2.0"
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    extra: str = ""
    api: int = PLUGIN_API


class HookSpec:
    """The hooks that a plugin may implement with `@gsegkit.plugins.hookimpl`."""

    @hookspec
    def gsegkit_components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the components of this plugin. Called once, at discovery; must not import torch."""

    @hookspec
    def gsegkit_commands(self, app: Any) -> None:
        """Add commands to the typer application `app`. Called only by the command line; stay light."""

    @hookspec
    def gsegkit_stage_done(self, stage: str, folder: str, report: dict[str, Any]) -> None:
        """Told after each finished stage: its name, its folder, and its facts (seconds, counts)."""


@dataclass(frozen=True)
class Entry:
    """A component together with the distribution that brought it."""

    component: Component
    dist: str
    version: str

    @property
    def full_name(self) -> str:
        """`name@distribution`, the unambiguous name."""
        return f"{self.component.name}@{self.dist}"

    def missing_modules(self) -> list[str]:
        """Names of needed packages that cannot be found, without importing them."""
        return [name for name in self.component.modules if not _module_exists(name)]

    def config_class(self) -> type[Config]:
        """Import and return the options model (light)."""
        return self._import(self.component.config)

    def kit_settings(self) -> Any:
        """Import and return what the plugin tells the conformance kit (light); None when it tells nothing."""
        return self._import(self.component.kit) if self.component.kit else None

    def target_class(self) -> type:
        """Import and return the component's class (heavy).

        Raises:
            MissingDependencyError: a package that the component names is not installed.
            PluginLoadError: the plugin's own code failed.
        """
        missing = self.missing_modules()
        if missing:
            raise MissingDependencyError(
                f"{self.component.kind} '{self.component.name}' needs the package "
                f"'{missing[0]}', which is not installed",
                f"pip install '{self.component.extra or self.dist}'",
            )
        return self._import(self.component.target)

    def build(self, config: Config | None = None) -> Any:
        """Construct the component from `config`, or from its defaults."""
        cls = self.target_class()
        try:
            return cls(config if config is not None else self.config_class()())
        except GsegkitError:
            raise
        except Exception as error:
            raise PluginLoadError(
                f"{self.component.kind} '{self.full_name}' could not be constructed: {type(error).__name__}: {error}",
                "gsegkit doctor shows the traceback of broken plugins",
            ) from error

    def _import(self, path: str) -> Any:
        module, _, attribute = path.partition(":")
        try:
            value: Any = importlib.import_module(module)
            for part in attribute.split("."):
                value = getattr(value, part)
        except Exception as error:
            raise PluginLoadError(
                f"{self.component.kind} '{self.full_name}' could not be imported from '{path}': "
                f"{type(error).__name__}: {error}",
                f"reinstall it (pip install --force-reinstall {self.dist}) or report it to its author",
            ) from error
        return value


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be loaded, kept so that `list` and `doctor` can name it."""

    dist: str
    entry_point: str
    error: BaseException

    @property
    def reason(self) -> str:
        """One line: the kind of error and its first line."""
        text = str(self.error).strip().splitlines()
        return f"{type(self.error).__name__}: {text[0] if text else 'no message'}"


@dataclass(frozen=True)
class HookCaller:
    """A hook of one plugin. Calling it returns the failure, None when all went well; nothing is raised."""

    dist: str
    entry_point: str
    hook: Callable[..., list[Any]]

    def __call__(self, **arguments: Any) -> Failure | None:
        """Call the hook."""
        try:
            for result in self.hook(**arguments):
                if isinstance(result, Iterator):  # the hook is a generator: run it to its end
                    list(result)
        except (Exception, SystemExit) as error:
            return Failure(self.dist, self.entry_point, error)
        return None


@dataclass
class Registry:
    """Everything that discovery found: entries, failures, and the plugin manager for the other hooks."""

    entries: list[Entry] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: _new_manager())

    def add(self, plugin: object, dist: str, version: str = "", entry_point: str = "") -> None:
        """Register one plugin module or object and read its components.

        Any failure, at registration or in its hook, is kept in `failures`; the others go on.
        """
        key = f"{dist}:{entry_point or id(plugin)}"
        try:
            self.manager.register(plugin, name=key)
            self.manager.check_pending()
            hook = getattr(plugin, "gsegkit_components", None)
            components = list(hook()) if hook is not None else []
            for component in components:
                _check_component(component)
        except (Exception, SystemExit) as error:
            if self.manager.get_plugin(key) is not None:
                self.manager.unregister(name=key)
            self.failures.append(Failure(dist, entry_point, error))
        else:
            self.entries += [Entry(component, dist, version) for component in components]

    def call(self, hook: str, **arguments: Any) -> list[Failure]:
        """Call a hook of every plugin, each on its own; returns, and keeps in `failures`, what went wrong."""
        failures = [failure for one in self.callers(hook) if (failure := one(**arguments)) is not None]
        self.failures += failures
        return failures

    def callers(self, hook: str) -> list[HookCaller]:
        """One caller for each plugin that has the hook."""
        callers = []
        for plugin in [impl.plugin for impl in getattr(self.manager.hook, hook).get_hookimpls()]:
            others = [other for other in self.manager.get_plugins() if other is not plugin]
            dist, _, entry_point = (self.manager.get_name(plugin) or "").partition(":")
            callers.append(HookCaller(dist, entry_point, self.manager.subset_hook_caller(hook, others)))
        return callers

    def find(self, kind: str, name: str) -> Entry:
        """Return the one entry called `name` or `name@distribution`.

        Raises:
            UnknownPluginError: nothing has this name; the hint says what is near or what to install.
            PluginConflictError: two distributions offer it.
        """
        kind = KIND_ALIASES.get(kind, kind)
        if kind not in KINDS:
            raise UnknownPluginError(f"no component kind '{kind}'", f"kinds: {', '.join(KINDS)}")
        short, _, dist = name.partition("@")
        found = [entry for entry in self.of_kind(kind) if entry.component.name == short and dist in ("", entry.dist)]
        if len(found) == 1:
            return found[0]
        if found:
            raise PluginConflictError(
                f"{kind} '{name}' is provided by {' and by '.join(e.dist for e in found)}",
                f"write {' or '.join(entry.full_name for entry in found)}",
            )
        raise UnknownPluginError(f"no {kind} '{name}' is installed", self._remedy(kind, short))

    def of_kind(self, kind: str) -> list[Entry]:
        """Entries of one kind, sorted by name."""
        kind = KIND_ALIASES.get(kind, kind)
        return sorted((e for e in self.entries if e.component.kind == kind), key=lambda e: (e.component.name, e.dist))

    def available(self, kind: str) -> frozenset[str]:
        """Names of the components of one kind whose packages are all installed."""
        return frozenset(entry.component.name for entry in self.of_kind(kind) if not entry.missing_modules())

    def conflicts(self) -> dict[tuple[str, str], list[Entry]]:
        """Names that more than one distribution offers: (kind, name) -> entries."""
        groups: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault((entry.component.kind, entry.component.name), []).append(entry)
        return {key: group for key, group in groups.items() if len(group) > 1}

    def build(self, kind: str, name: str, options: Mapping[str, Any] | None = None, *, stored: bool = False) -> Any:
        """Find, configure and construct in one step.

        Args:
            kind: component kind.
            name: `name` or `name@distribution`.
            options: the component's own; None = its defaults.
            stored: the options come from a stored record, so names that they had in earlier versions are read too.
        """
        entry = self.find(kind, name)
        cls = entry.config_class()
        given = current_names(cls, options or {}) if stored else options or {}
        return entry.build(build_config(cls, given, where=entry.component.name))

    def _remedy(self, kind: str, name: str) -> str:
        dist = KNOWN_PLUGINS.get((kind, name))
        if dist:
            broken = next((f for f in self.failures if f.dist == dist), None)
            if broken:
                return f"{dist} brings it but failed to load ({broken.reason}); see gsegkit doctor"
            return f"pip install {dist}"
        if other := [e.component.kind for e in self.entries if e.component.name == name]:
            return f"'{name}' is of the kind {other[0]}, not {kind}"
        names = sorted({entry.component.name for entry in self.of_kind(kind)})
        if near := difflib.get_close_matches(name, names, n=1):
            return f"did you mean '{near[0]}'?"
        return f"installed: {', '.join(names) or 'none'}"


def discover(disabled: Iterable[str] = ()) -> Registry:
    """Read every installed plugin of the entry-point group `gsegkit`.

    pluggy's own loader is not used: there, one plugin that fails on import aborts the whole load, and a second
    distribution with the same entry-point name is dropped without a word.
    """
    registry = Registry()
    off = set(disabled)
    seen: set[tuple[str, str]] = set()
    for point in sorted(_entry_points(), key=lambda p: (_dist_name(p), p.name)):
        dist = _dist_name(point)
        if (dist, point.name) in seen:  # one distribution found through two paths
            continue
        seen.add((dist, point.name))
        if dist != "gsegkit" and off & {"*", dist, point.name}:
            continue
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:
            registry.failures.append(Failure(dist, point.name, error))
            continue
        version = point.dist.version if point.dist is not None else ""
        registry.add(plugin, dist, version, point.name)
    return registry


@cache
def installed() -> Registry:
    """The registry of this process, discovered on first use; `GSEGKIT_DISABLE_PLUGINS` is read here."""
    names = os.environ.get(DISABLE_VARIABLE, "").split(",")
    return discover(name.strip() for name in names if name.strip())


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("gsegkit")
    manager.add_hookspecs(HookSpec)
    return manager


def _entry_points() -> Iterator[metadata.EntryPoint]:
    yield from metadata.entry_points(group=ENTRY_POINT_GROUP)


def _dist_name(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"


def _module_exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _check_component(component: Component) -> None:
    if not isinstance(component, Component):
        raise TypeError(f"gsegkit_components() must yield Component, got {type(component).__name__}")
    if not OLDEST_API <= component.api <= PLUGIN_API:
        older = "gsegkit" if component.api > PLUGIN_API else "the plugin"
        raise ConfigError(
            f"component '{component.name}' was written for plugin interface {component.api}; "
            f"this gsegkit supports {OLDEST_API} to {PLUGIN_API}",
            f"upgrade {older}",
        )
    if component.kind not in KINDS:
        raise ConfigError(f"component '{component.name}' has the unknown kind '{component.kind}'")
    unknown = unknown_capabilities(component.provides + component.requires)
    if unknown:
        raise ConfigError(f"component '{component.name}' names the unknown capability '{unknown[0]}'")


#: What the first-party distributions bring: distribution -> kind -> names. Any of them may not be installed.
_FIRST_PARTY: dict[str, dict[str, str]] = {
    "gsegkit-baselines": {"segmenter": "otsu two-means"},
    "gsegkit-biggan": dict.fromkeys(("generator", "checkpoint-reader"), "biggan bigbigan"),
    "gsegkit-clustering": {"extractor": "kmeans ahc kasp"},
    "gsegkit-datasets": {
        "dataset": "folder cub flowers102 flowers17 dut-omron duts ecssd celebamask-hq stanford-cars stanford-dogs apc"
        " voc oxford-pets"
    },
    "gsegkit-dcgan": {"generator": "dcgan", "checkpoint-reader": "dcgan"},
    "gsegkit-directions": {"extractor": "directions colour-maps", "segmenter": "unet-paper"},
    "gsegkit-eval": {"evaluator": "masks clusters", "generator-evaluator": "frechet fid kid precision-recall"},
    "gsegkit-faiss": {"kmeans": "faiss"},
    "gsegkit-klish": {"extractor": "klish"},
    "gsegkit-labels4free": {"extractor": "labels4free"},
    "gsegkit-layered": {"generator": "layered perturbgan"},
    "gsegkit-ray": {"launcher": "ray"},
    "gsegkit-refine": {"refiner": "area components change confidence holes guided colours voynov"},
    "gsegkit-selfcondgan": dict.fromkeys(("generator", "checkpoint-reader"), "selfcondgan uncondgan"),
    "gsegkit-slurm": {"launcher": "slurm"},
    "gsegkit-smp": {
        "segmenter": "unet unetplusplus manet linknet fpn pspnet deeplabv3 deeplabv3plus pan upernet segformer dpt"
    },
    "gsegkit-spade": {"painter": "class-adaptive spade oasis", "checkpoint-reader": "spade oasis"},
    "gsegkit-studiogan": dict.fromkeys(("generator", "checkpoint-reader"), "acgan ggan sagan sngan contragan"),
    "gsegkit-stylegan": dict.fromkeys(("generator", "checkpoint-reader"), "pggan stylegan stylegan2"),
    "gsegkit-zoo": {
        "weights": "blood-cells-64 blood-cells-128 coffee-leaf-64 lpc-64 portraits-64 portraits-128",
        "samples": "blood-cells portraits",
    },
}
#: (kind, name) -> the distribution to install.
KNOWN_PLUGINS = {(k, n): dist for dist, kinds in _FIRST_PARTY.items() for k, v in kinds.items() for n in v.split()}
