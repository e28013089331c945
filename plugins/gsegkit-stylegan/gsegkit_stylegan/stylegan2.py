"""The generator `stylegan2`: sampling through `FamilyGenerator`, training through `StyleGAN2Trainer`."""

from __future__ import annotations

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.interfaces import Segmenter, TrainableGenerator
from gsegkit.training import ImageBank
from gsegkit_stylegan.config import StyleGAN2Arch, StyleGAN2Config
from gsegkit_stylegan.generator import StyleGenerator
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.training.photographs import RealImages
from gsegkit_stylegan.training.shares import own_rows
from gsegkit_stylegan.training.stylegan2 import StyleGAN2Trainer


class StyleGAN2(StyleGenerator, TrainableGenerator):
    """StyleGAN2 and StyleGAN2-ADA.

    Example:
        >>> import torch
        >>> generator = StyleGAN2(StyleGAN2Config(resolution=16, channel_base=128, channel_max=8))
        >>> generator.sample(torch.arange(4), features=("b16.conv1",)).images.shape
        torch.Size([4, 3, 16, 16])
    """

    name = "stylegan2"
    divided = True
    arch_class = StyleGAN2Arch
    config: StyleGAN2Config
    network: StyleGAN2Network

    def build(self, arch: StyleGAN2Arch) -> StyleGAN2Network:
        """See `FamilyGenerator.build`."""
        return StyleGAN2Network(arch)

    def fit(self, images: UnlabelledImages, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Train a new network of this shape from random weights on `images`; they are fitted by `config.fit`.

        Writes sample grids to `ctx.folder / "samples"`. Interrupted, it continues from its last checkpoint.
        """
        options = self.config
        own_rows(ctx.team, options.batch_size)  # refuses what cannot be divided before the photographs are read
        arch = self.arch
        size = (arch.resolution, arch.resolution)
        bank = ImageBank(images, size, options.fit, ctx, device=self.device, num_classes=arch.num_classes)
        reals = RealImages(bank, options.batch_size, options.mirror, ctx.seed)
        self.licence, self.fit_rule = "", options.fit
        self.mirrored = options.mirror.replace("none", "")
        trainer = StyleGAN2Trainer(self.network, options, reals, ctx)
        trainer.run()
        self.info = self._info()
