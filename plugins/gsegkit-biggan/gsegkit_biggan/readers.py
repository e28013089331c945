"""The checkpoint readers `biggan` and `bigbigan`."""

from __future__ import annotations

from gsegkit_resgan.readers.reader import FamilyReader


class BigGANReader(FamilyReader):
    """BigGAN-PyTorch, Hugging Face's BigGAN-deep, StudioGAN's big_resnet."""

    component = "biggan"
    looks_for = (
        "BigGAN-PyTorch's G.pth or G_ema.pth (output_layer.2.weight), pytorch-pretrained-BigGAN's "
        "(generator.gen_z.weight_orig), StudioGAN's big_resnet (linear0.weight_orig and shared.weight)"
    )


class BigBiGANReader(FamilyReader):
    """BigBiGAN's weights in the layout of BigGAN-PyTorch."""

    component = "bigbigan"
    looks_for = "BigBiGAN_x1.pth: as BigGAN-PyTorch, with one row repeated in shared.weight, or called bigbigan"
