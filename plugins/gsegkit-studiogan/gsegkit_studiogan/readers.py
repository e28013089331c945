"""The checkpoint readers of StudioGAN's files, one for each generator.

ACGAN and SNGAN have the same network, as have BigGAN and ContraGAN. The run's name in the file, the file's name or its
folder's says which it is; where none does, both readers know the file, and the user chooses.
"""

from __future__ import annotations

from gsegkit_resgan.readers.reader import FamilyReader


class ACGANReader(FamilyReader):
    """ACGAN: tables of gains, no spectral norm."""

    component = "acgan"
    looks_for = "StudioGAN's model=G-*.pth with tables for each class (blocks.0.0.bn1.embed0.weight or gain.weight)"


class GGANReader(FamilyReader):
    """GGAN, LSGAN, WGAN-WC ...: no classes."""

    component = "ggan"
    looks_for = "StudioGAN's model=G-*.pth without classes (blocks.0.0.bn1.weight)"


class SAGANReader(FamilyReader):
    """SAGAN: tables with a spectral norm, or no classes with one."""

    component = "sagan"
    looks_for = "StudioGAN's model=G-*.pth with spectral norms (linear0.weight_orig) and without shared.weight"


class SNGANReader(FamilyReader):
    """SNGAN and ProjGAN: tables of gains, no spectral norm in the generator."""

    component = "sngan"
    looks_for = "as for acgan; without classes when the run, the file or its folder is called sngan"


class ContraGANReader(FamilyReader):
    """ContraGAN: BigGAN's network."""

    component = "contragan"
    looks_for = "StudioGAN's model=G_ema-*.pth of the network big_resnet (linear0.weight_orig and shared.weight)"
