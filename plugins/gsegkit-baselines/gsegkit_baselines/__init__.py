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
    kit: str = ""


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
    "grabcut": _Baseline(
        "foreground:GrabCut",
        "foreground: GrabCut from a rectangle a little inside the border; learns nothing",
        modules=("cv2", "sklearn", "kornia"),
        extra="[grabcut]",
        paper="Rother et al. 2004, GrabCut",
    ),
    "centre-prior": _Baseline("prior:CentrePrior", "foreground: one constant mask, from labels", pairs=True),
    "colour-kmeans": _Baseline(
        "colour:ColourKMeans",
        "parts: clusters of colours (Lab) over all photographs",
        modules=("sklearn", "kornia"),
        kit="CLUSTERS",
    ),
    "grabcut-kmeans": _Baseline(
        "colour:GrabCutKMeans",
        "parts: GrabCut in each photograph, and clusters of the colours inside over all of them",
        modules=("cv2", "sklearn", "kornia"),
        extra="[grabcut]",
        kit="CLUSTERS",
    ),
    "feature-kmeans": _Baseline(
        "linear:FeatureKMeans",
        "parts: clusters of a frozen network's features over all photographs",
        modules=("sklearn", "timm"),
        kit="FEATURE_CLUSTERS",
    ),
    "ncut-head": _Baseline(
        "ncut:NCutHead",
        "foreground: normalised cuts of a frozen network's features, and a head that learned from all of them",
        modules=("scipy", "sklearn", "timm"),
        paper="Wang et al. 2022, TokenCut, arXiv:2202.11539, with a head",
        kit="CUTS",
    ),
    "few-labels": _Baseline(
        "linear:FewLabels",
        "parts: logistic regression on a frozen network's features, from a few labelled photographs",
        pairs=True,
        modules=("sklearn", "timm"),
        kit="FEATURES",
    ),
    "onnx-mask": _Baseline(
        "onnx_mask:OnnxMask",
        "your own network as an ONNX file, read as a graph and nothing else",
        modules=("onnx", "onnxruntime"),
        extra="[onnx]",
        kit="ONNX",
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
            kit=f"gsegkit_baselines.kit:{baseline.kit}" if baseline.kit else "",
            summary=baseline.summary,
            paper=baseline.paper,
            provides=() if baseline.pairs else ("without-pairs",),
            modules=baseline.modules,
            extra=f"gsegkit-baselines{baseline.extra}",
        )
        for name, baseline in _BASELINES.items()
    ]
