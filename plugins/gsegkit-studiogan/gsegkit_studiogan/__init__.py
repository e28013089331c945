"""Generators `acgan`, `ggan`, `sagan`, `sngan`, `contragan` for gsegkit, and readers of StudioGAN's files."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl

_PROVIDES = ("latent-grad", "features", "feature-edit", "weights")
_CLASSES = (*_PROVIDES, "classes")
#: name -> class, summary, paper, capabilities
_GENERATORS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "acgan": (
        "ACGAN",
        "ACGAN: residual, a table of gains for each class, 32 to 512 px, for existing weights",
        "Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, arXiv:1610.09585",
        _CLASSES,
    ),
    "ggan": (
        "GGAN",
        "geometric GAN (hinge loss): residual, unconditional, 32 to 512 px, for existing weights",
        "Lim and Ye, Geometric GAN, arXiv:1705.02894",
        _PROVIDES,
    ),
    "sagan": (
        "SAGAN",
        "self-attention GAN, 32 to 512 px, for existing weights",
        "Zhang et al., Self-Attention Generative Adversarial Networks, arXiv:1805.08318",
        _CLASSES,
    ),
    "sngan": (
        "SNGAN",
        "SNGAN: residual, for existing weights with classes, 32 to 512 px; trainable without classes",
        "Miyato et al., Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957",
        (*_CLASSES, "trainable"),
    ),
    "contragan": (
        "ContraGAN",
        "ContraGAN: BigGAN's network, 32 to 512 px, for existing weights",
        "Kang and Park, ContraGAN: Contrastive Learning for Conditional Image Generation, arXiv:2006.12681",
        _CLASSES,
    ),
}


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    generators = [
        Component(
            kind="generator",
            name=name,
            target=f"gsegkit_studiogan.generators:{cls}",
            config=f"gsegkit_studiogan.config:{cls}Config",
            kit=f"gsegkit_studiogan.kit:{name.upper()}",
            summary=summary,
            paper=paper,
            provides=provides,
        )
        for name, (cls, summary, paper, provides) in _GENERATORS.items()
    ]
    return generators + [_reader(name, cls) for name, (cls, *_) in _GENERATORS.items()]


def _reader(name: str, cls: str) -> Component:
    return Component(
        kind="checkpoint-reader",
        name=name,
        target=f"gsegkit_studiogan.readers:{cls}Reader",
        kit=f"gsegkit_studiogan.kit:{name.upper()}_READER",
        summary=f"{cls} of PyTorch-StudioGAN, both generations",
    )
