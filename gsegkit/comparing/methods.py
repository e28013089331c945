"""What is compared: baselines that are installed, and segmenters of runs that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.classes.class_map import stored_class_map
from gsegkit.comparing.material import Material
from gsegkit.context import RunContext
from gsegkit.engine.sources import open_part
from gsegkit.errors import ArtifactError, ConfigError, GsegkitError, and_more
from gsegkit.interfaces import PhotographSegmenter, Segmenter
from gsegkit.parts import PartRecord, find_part
from gsegkit.plugins import Entry, Registry
from gsegkit.records.text import printable
from gsegkit.seeds import isolated_rng

PAIRS = "pairs"  # what the segmenter of a run learns from


@dataclass(frozen=True)
class LeftOut:
    """A method that is not compared.

    Attributes:
        name: of the method.
        why: half a sentence.
    """

    name: str
    why: str


@dataclass(frozen=True)
class Method:
    """Something that segments the photographs.

    Attributes:
        name: unlike that of any other method.
        family: its variants share it, see `criteria.consensus`.
        learns_from: see `Segmenter`.
        run: folder of a run; None = a baseline.
        identity: hash of a run's segmenter, or options of a baseline.
        labels_used: names of photographs whose labels it used before.
    """

    name: str
    family: str
    learns_from: str
    run: Path | None
    identity: Any
    labels_used: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether gsegkit made it from a generator, or from pairs."""
        return self.learns_from == PAIRS

    def fitted(self, material: Material, registry: Registry, ctx: RunContext) -> Segmenter:
        """The segmenter, fitted to the photographs where it is a baseline.

        Raises:
            GsegkitError: there is nothing to learn from these photographs, or the run is damaged.
        """
        if self.run is not None:
            stored: Segmenter = open_part(self.run, "segmenter", registry, ctx.device)
            return stored
        segmenter: Segmenter = registry.build("segmenter", self.name).to(ctx.device)
        with isolated_rng(ctx.seed):
            if isinstance(segmenter, PhotographSegmenter):
                segmenter.fit_photographs(material.files, ctx)
            else:
                segmenter.fit(material.labelled, ctx)
                segmenter.labels_used = tuple(sample.name for sample in material.labelled)
        return segmenter.eval()


def baselines(registry: Registry, names: Sequence[str] | None, labelled: int) -> tuple[list[Method], list[LeftOut]]:
    """The segmenters that need no pairs.

    Args:
        registry: what is installed.
        names: these only, in this order; None = all.
        labelled: photographs whose labels may be used; 0 = none.

    Raises:
        UnknownPluginError: no segmenter of such a name.
        ConfigError: one learns from pairs, or is named twice.
    """
    found: list[Method] = []
    left_out: list[LeftOut] = []
    entries = registry.of_kind("segmenter") if names is None else [registry.find("segmenter", n) for n in names]
    for entry in entries:
        name = entry.component.name if names is None or entry.component.name in names else entry.full_name
        if any(other.name == name for other in found):
            raise ConfigError(f"method '{name}' is given twice", "name each method once")
        try:
            learns_from = getattr(entry.target_class(), "learns_from", PAIRS)
            method = None if learns_from == PAIRS else _baseline(entry, name, learns_from, registry)
        except GsegkitError as error:
            if names is not None or "without-pairs" in entry.component.provides:
                left_out.append(LeftOut(name, error.message))
            continue
        if method is None and names is not None:
            raise ConfigError(
                f"segmenter '{name}' learns from pairs, so it is part of a run",
                "make one with gsegkit run and give its folder with --runs",
            )
        if learns_from == "labels" and not labelled:
            left_out.append(LeftOut(name, "it learns from labels, and there are none"))
        elif method is not None:
            found.append(method)
    return found, left_out


def _baseline(entry: Entry, name: str, learns_from: str, registry: Registry) -> Method:
    part: Segmenter = entry.build()
    identity = [entry.full_name, part.config.model_dump(mode="json")]
    return Method(name, family(entry.component.name, registry), learns_from, None, identity)


def family(name: str, registry: Registry) -> str:
    """The segmenter that one is a variant of by its name: `grabcut-kmeans` is one of `grabcut`, with its faults."""
    names = sorted((entry.component.name for entry in registry.of_kind("segmenter")), key=len)
    return next((other for other in names if name == other or name.startswith(f"{other}-")), name)


def runs(folders: Sequence[Path], registry: Registry) -> list[Method]:
    """The segmenters of finished runs, or of folders made by train or fit.

    Raises:
        ArtifactError: no such folder, or one without a finished segmenter.
        UnknownPluginError: its segmenter is not installed.
        ConfigError: the same folder twice.
    """
    resolved = [folder.resolve() for folder in folders]
    if twice := [str(folder) for i, folder in enumerate(folders) if resolved[i] in resolved[:i]]:
        raise ConfigError(f"run folder given twice: {and_more(twice)}", "give each run once")
    found = []
    for folder, place in zip(folders, resolved, strict=True):
        segmenter = find_part(folder, "segmenter")
        same_name = sum(other.name == place.name for other in resolved) > 1
        name = f"{place.parent.name}/{place.name}" if same_name else place.name
        learns_from = getattr(registry.find("segmenter", segmenter.name).target_class(), "learns_from", PAIRS)
        kind = _extractor(folder) or family(segmenter.name, registry)  # of `train` or `fit` there is no extractor
        used = _labels_used(folder, segmenter)
        found.append(Method(f"run {printable(name)}", kind, learns_from, folder, segmenter.sha256, used))
    return found


def _labels_used(folder: Path, segmenter: PartRecord) -> tuple[str, ...]:
    """Names of photographs whose labels named its classes, or that it learned from."""
    names, stored = stored_class_map(folder), segmenter.facts.get("labels_used", ())
    learned = [name for name in stored if isinstance(name, str)] if isinstance(stored, list) else []
    return tuple(dict.fromkeys([*(names.labels_used if names is not None else ()), *learned]))


def _extractor(folder: Path) -> str:
    try:
        return find_part(folder, "extractor").name
    except ArtifactError:
        return ""
