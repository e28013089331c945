"""Refiners for gsegkit: area, components, change, confidence, holes, guided, colours, voynov."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl

_SUMMARIES = {
    "area": ("Area", "drops images whose foreground is too small or too large"),
    "components": ("Components", "keeps the connected pieces above a share of the largest"),
    "change": ("Change", "drops images that the edit did not change, blank or saturated ones"),
    "confidence": ("Confidence", "uncertain pixels become 255 (ignore)"),
    "holes": ("Holes", "fills small holes in the foreground"),
    "guided": ("Guided", "snaps mask borders to the image's edges (guided filter)"),
    "colours": ("Colours", "sharpens masks by the colours that each class has in this one image (EM)"),
    "voynov": ("Voynov", "the papers' refinement in one: small pieces, large masks, unimodal images"),
}
_PAPERS = {
    "change": "Voynov et al. 2021, arXiv:2006.04988 (histogram rule)",
    "guided": "He et al. 2010, Guided Image Filtering",
    "colours": "Rother et al. 2004, GrabCut, with K classes, a semantic prior and EM",
    "voynov": "Voynov et al. 2021, arXiv:2006.04988; Melas-Kyriazi et al. 2022, arXiv:2105.08127",
}
_MODULES = {
    "components": ("scipy",),
    "holes": ("scipy",),
    "guided": ("kornia",),
    "colours": ("kornia",),
    "voynov": ("scipy",),
}


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="refiner",
            name=name,
            target=f"gsegkit_refine.{name}:{cls}",
            config=f"gsegkit_refine.config:{cls}Config",
            summary=summary,
            paper=_PAPERS.get(name, ""),
            modules=_MODULES.get(name, ()),
            extra="gsegkit-refine",
        )
        for name, (cls, summary) in _SUMMARIES.items()
    ]
