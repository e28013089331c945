"""Segmenters for gsegkit that need no generator: what one gets without us."""

from __future__ import annotations

from typing import NamedTuple

from gsegkit.plugins import Component, hookimpl


class _Baseline(NamedTuple):
    """One segmenter: module and class, what it is, what it needs, and where it was published."""

    target: str
    summary: str
    pairs: bool = False
    modules: tuple[str, ...] = ()
    extra: str = ""
    paper: str = ""


_BASELINES = {
    "otsu": _Baseline(
        "foreground:Otsu",
        "foreground: Otsu's threshold on grey values, border rule; learns nothing",
        paper="Otsu 1979, A Threshold Selection Method from Gray-Level Histograms",
    ),
    "two-means": _Baseline(
        "foreground:TwoMeans",
        "foreground: two clusters of each photograph's colours (Lab), border rule; learns nothing",
        modules=("sklearn", "kornia"),
    ),
}


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="segmenter",
            name=name,
            target=f"gsegkit_baselines.{baseline.target}",
            config=f"gsegkit_baselines.config:{baseline.target.partition(':')[2]}Config",
            summary=baseline.summary,
            paper=baseline.paper,
            provides=() if baseline.pairs else ("without-pairs",),
            modules=baseline.modules,
            extra=f"gsegkit-baselines{baseline.extra}",
        )
        for name, baseline in _BASELINES.items()
    ]
