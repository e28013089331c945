"""The checkpoint readers `stylegan2`, `stylegan3`, `stylegan` and `pggan`."""

from __future__ import annotations

from gsegkit_foreign import opened, source_of

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.interfaces import CheckpointReader
from gsegkit_stylegan.readers.detect import find


class _FamilyReader(CheckpointReader):
    """What they share: a file is looked through once, then the one whose generator it holds takes it."""

    def sniff(self, file: CheckpointFile) -> bool:
        """See `CheckpointReader.sniff`."""
        match = file.once(find)
        return match is not None and match.generator == self.component

    def read(self, file: CheckpointFile) -> Checkpoint:
        """See `CheckpointReader.read`."""
        match = file.once(find)
        assert match is not None
        found, foreign = match.read(), opened(file)
        arch = found.arch.model_dump(mode="json")
        classes = f", {found.arch.num_classes} classes" if found.arch.num_classes else ""
        return Checkpoint(
            component=found.generator,
            layout=found.layout,
            state={name: tensor.contiguous() for name, tensor in found.state.items()},
            facts={"arch": arch},
            config={**arch, "weights": "none"},
            summary=f"{found.arch.resolution} px{classes}",
            notes=found.notes,
            source=source_of(foreign),
            card={
                "code_not_executed": dict(sorted(found.sources.items())),
                "names_not_imported": sorted(foreign.names),
            },
        )


class StyleGAN2Reader(_FamilyReader):
    """StyleGAN2 and StyleGAN2-ADA of NVIDIA (PyTorch and TensorFlow), rosinality and genforce."""

    component = "stylegan2"
    looks_for = (
        "pickles of NVIDIA's PyTorch and TensorFlow code, rosinality .pt (conv1.conv.modulation.weight), genforce .pth "
        "(synthesis.early_layer.const), state dicts with synthesis.b4.const"
    )


class StyleGAN3Reader(_FamilyReader):
    """StyleGAN3 of NVIDIA, configs T and R."""

    component = "stylegan3"
    looks_for = "pickles of NVIDIA's PyTorch code, state dicts with synthesis.input.freqs"


class StyleGANReader(_FamilyReader):
    """StyleGAN of NVIDIA's TensorFlow code and genforce."""

    component = "stylegan"
    looks_for = "pickles of NVIDIA's TensorFlow code, genforce .pth (synthesis.layer0.const)"


class PGGANReader(_FamilyReader):
    """Progressive GAN of the TensorFlow code and genforce."""

    component = "pggan"
    looks_for = "pickles of the TensorFlow code, genforce .pth (layer1.weight and output0.weight)"
