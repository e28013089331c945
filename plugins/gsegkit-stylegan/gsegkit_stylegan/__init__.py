"""Generators pggan, stylegan, stylegan2 and stylegan3 for gsegkit, with safe readers and a trainer."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl

_PROVIDES = ("latent-grad", "features", "feature-edit", "classes", "weights")

_READERS = (
    ("stylegan2", "StyleGAN2Reader", "StyleGAN2 and ADA: NVIDIA pickles, rosinality .pt, genforce .pth"),
    ("stylegan3", "StyleGAN3Reader", "StyleGAN3, configs T and R: NVIDIA pickles, state dicts with NVIDIA's names"),
    ("stylegan", "StyleGANReader", "StyleGAN: TensorFlow pickles, genforce .pth"),
    ("pggan", "PGGANReader", "progressive GAN: TensorFlow pickles, genforce .pth"),
)


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="generator",
            name="stylegan2",
            target="gsegkit_stylegan.stylegan2:StyleGAN2",
            config="gsegkit_stylegan.config:StyleGAN2Config",
            kit="gsegkit_stylegan.kit:STYLEGAN2",
            summary="StyleGAN2 and StyleGAN2-ADA: sampling, editing, and training with ADA on small folders",
            paper="Karras et al. 2020, arXiv:1912.04958 and arXiv:2006.06676",
            provides=(*_PROVIDES, "trainable"),
        ),
        Component(
            kind="generator",
            name="stylegan3",
            target="gsegkit_stylegan.stylegan3:StyleGAN3",
            config="gsegkit_stylegan.config:StyleGAN3Config",
            kit="gsegkit_stylegan.kit:STYLEGAN3",
            summary="StyleGAN3 (configs T and R), for existing weights",
            paper="Karras et al. 2021, arXiv:2106.12423",
            provides=_PROVIDES,
        ),
        Component(
            kind="generator",
            name="stylegan",
            target="gsegkit_stylegan.stylegan:StyleGAN",
            config="gsegkit_stylegan.config:StyleGANConfig",
            kit="gsegkit_stylegan.kit:STYLEGAN",
            summary="StyleGAN v1, for existing weights",
            paper="Karras et al. 2019, arXiv:1812.04948",
            provides=_PROVIDES,
        ),
        Component(
            kind="generator",
            name="pggan",
            target="gsegkit_stylegan.pggan:PGGAN",
            config="gsegkit_stylegan.config:PGGANConfig",
            kit="gsegkit_stylegan.kit:PGGAN",
            summary="progressive GAN, for existing weights",
            paper="Karras et al. 2018, arXiv:1710.10196",
            provides=_PROVIDES,
        ),
        *(_reader(name, cls, summary) for name, cls, summary in _READERS),
    ]


def _reader(name: str, cls: str, summary: str) -> Component:
    return Component(
        kind="checkpoint-reader",
        name=name,
        target=f"gsegkit_stylegan.readers.reader:{cls}",
        kit=f"gsegkit_stylegan.kit:{name.upper()}_READER",
        summary=summary,
    )
