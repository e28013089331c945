"""Segmenters for gsegkit: every segmentation-models-pytorch architecture, any smp or timm encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gsegkit.plugins import Component, hookimpl


class Architecture(NamedTuple):
    """One architecture: its options model in `gsegkit_smp.config`, what it is, and where it was published."""

    config: str
    summary: str
    paper: str


#: Listed here and not asked of smp, whose import takes seconds; a test compares this with smp's own mapping.
ARCHITECTURES: dict[str, Architecture] = {
    "unet": Architecture("UnetConfig", "U-Net: encoder, decoder, skip connections", "arXiv:1505.04597"),
    "unetplusplus": Architecture("UnetPlusPlusConfig", "U-Net++: nested skip connections", "arXiv:1807.10165"),
    "manet": Architecture("MAnetConfig", "MA-Net: attention in a U-Net decoder", "doi:10.1109/ACCESS.2020.3025372"),
    "linknet": Architecture("LinknetConfig", "LinkNet: light decoder, added skips", "arXiv:1707.03718"),
    "fpn": Architecture("FPNConfig", "feature pyramid network", "arXiv:1901.02446"),
    "pspnet": Architecture("PSPNetConfig", "pyramid pooling; coarse and fast", "arXiv:1612.01105"),
    "deeplabv3": Architecture("DeepLabV3Config", "DeepLabV3: dilated encoder, atrous pooling", "arXiv:1706.05587"),
    "deeplabv3plus": Architecture("DeepLabV3PlusConfig", "DeepLabV3+: DeepLabV3 and a decoder", "arXiv:1802.02611"),
    "pan": Architecture("PANConfig", "pyramid attention; images of 128 px and more", "arXiv:1805.10180"),
    "upernet": Architecture("UPerNetConfig", "UPerNet: pyramid pooling on a feature pyramid", "arXiv:1807.10221"),
    "segformer": Architecture("SegformerConfig", "SegFormer's all-MLP decoder", "arXiv:2105.15203"),
    "dpt": Architecture("DPTConfig", "dense prediction on a vision transformer", "arXiv:2103.13413"),
}


@hookimpl
def gsegkit_components() -> Iterator[Component]:
    """One segmenter for each architecture."""
    for name, architecture in ARCHITECTURES.items():
        yield Component(
            kind="segmenter",
            name=name,
            target="gsegkit_smp.segmenter:SmpSegmenter",
            config=f"gsegkit_smp.config:{architecture.config}",
            summary=architecture.summary,
            paper=architecture.paper,
            licence="Apache-2.0; networks of segmentation-models-pytorch (MIT) and timm (Apache-2.0)",
            modules=("segmentation_models_pytorch", "timm"),
        )
