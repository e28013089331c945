"""The generators `acgan`, `ggan`, `sagan`, `sngan` and `contragan`: what a discriminator taught differs, not they."""

from __future__ import annotations

from gsegkit_resgan.generator import ResidualGenerator

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.interfaces import Segmenter, TrainableGenerator
from gsegkit.tensors import load_state
from gsegkit_studiogan.config import ACGANConfig, ContraGANConfig, GGANConfig, SAGANConfig, SNGANConfig
from gsegkit_studiogan.training import train


class ACGAN(ResidualGenerator):
    """Taught by a discriminator that also classifies."""

    name = "acgan"
    config: ACGANConfig


class GGAN(ResidualGenerator):
    """Taught without classes, with the hinge loss.

    Example:
        >>> import torch
        >>> generator = GGAN(GGANConfig(resolution=32, channels=2))
        >>> generator.sample(torch.arange(2)).images.shape
        torch.Size([2, 3, 32, 32])
    """

    name = "ggan"
    config: GGANConfig


class SAGAN(ResidualGenerator):
    """With self-attention."""

    name = "sagan"
    config: SAGANConfig


class SNGAN(ResidualGenerator, TrainableGenerator):
    """Taught by a spectrally normalised discriminator; trainable on photographs, without classes."""

    name = "sngan"
    divided = True
    config: SNGANConfig

    def fit(self, images: UnlabelledImages, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Train a new network of the options' shape from random weights on `images`, fitted by `config.fit`."""
        self.licence, self.prior, self.fit_rule = "", (), self.config.fit
        self.mirrored = self.config.mirror.replace("none", "")
        self.set_network(self.config.trained_arch())
        load_state(self, train(self.config, images, ctx, self.device), "the training")


class ContraGAN(ResidualGenerator):
    """BigGAN's network, taught by comparing pictures of a class."""

    name = "contragan"
    config: ContraGANConfig
