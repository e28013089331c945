"""The checkpoint readers `selfcondgan` and `uncondgan`."""

from __future__ import annotations

from gsegkit_resgan.readers.reader import FamilyReader


class SelfCondGANReader(FamilyReader):
    """Generators with classes; `generator_test`, the average, is preferred. Takes the clusterer beside the model."""

    component = "selfcondgan"
    looks_for = (
        "selfcondgan_*_model.pt or classcondgan_*_model.pt (get_latent.embedding.weight, resnet_0_0.conv_0.weight)"
    )


class UncondGANReader(FamilyReader):
    """Generators without classes."""

    component = "uncondgan"
    looks_for = "uncondgan_*_model.pt (resnet_0_0.conv_0.weight and conv_img.weight, no get_latent.embedding.weight)"
