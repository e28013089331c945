"""Generators `biggan` and `bigbigan` for gsegkit, and readers of the files that others trained."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl

_PROVIDES = ("latent-grad", "features", "feature-edit", "weights")
_READERS = (
    ("biggan", "BigGANReader", "BigGAN: BigGAN-PyTorch, Hugging Face's BigGAN-deep, StudioGAN's big_resnet"),
    ("bigbigan", "BigBiGANReader", "BigBiGAN, converted to BigGAN-PyTorch"),
)


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="generator",
            name="biggan",
            target="gsegkit_biggan.biggan:BigGAN",
            config="gsegkit_biggan.config:BigGANConfig",
            kit="gsegkit_biggan.kit:BIGGAN",
            summary="BigGAN and BigGAN-deep, 32 to 512 px, class-conditional, for existing weights",
            paper="Brock et al., Large Scale GAN Training for High Fidelity Natural Image Synthesis, arXiv:1809.11096",
            provides=(*_PROVIDES, "classes"),
        ),
        Component(
            kind="generator",
            name="bigbigan",
            target="gsegkit_biggan.biggan:BigBiGAN",
            config="gsegkit_biggan.config:BigBiGANConfig",
            kit="gsegkit_biggan.kit:BIGBIGAN",
            summary="BigBiGAN, the unconditional BigGAN, for existing weights",
            paper="Donahue and Simonyan, Large Scale Adversarial Representation Learning, arXiv:1907.02544",
            provides=_PROVIDES,
        ),
        *(_reader(name, cls, summary) for name, cls, summary in _READERS),
    ]


def _reader(name: str, cls: str, summary: str) -> Component:
    return Component(
        kind="checkpoint-reader",
        name=name,
        target=f"gsegkit_biggan.readers:{cls}",
        kit=f"gsegkit_biggan.kit:{name.upper()}_READER",
        summary=summary,
    )
