"""Generator `dcgan` for gsegkit: small convolutional GANs, trainable, and the files that others trained."""

from __future__ import annotations

from collections.abc import Iterable

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> Iterable[Component]:
    """The generator, and the reader of the files that others trained."""
    return [
        Component(
            kind="generator",
            name="dcgan",
            target="gsegkit_dcgan.dcgan:DCGAN",
            config="gsegkit_dcgan.config:DCGANConfig",
            kit="gsegkit_dcgan.kit:SETTINGS",
            summary="small convolutional GAN: trains in minutes, loads files of several DCGAN variants",
            paper="Radford et al., Unsupervised Representation Learning with DCGANs, ICLR 2016, arXiv:1511.06434",
            provides=("latent-grad", "features", "feature-edit", "trainable", "weights"),
        ),
        Component(
            kind="checkpoint-reader",
            name="dcgan",
            target="gsegkit_dcgan.readers.reader:DCGANReader",
            kit="gsegkit_dcgan.kit:READER",
            summary="DCGAN generators: PyTorch's tutorial and example, WGAN-GP, dcgan_code and others",
        ),
    ]
