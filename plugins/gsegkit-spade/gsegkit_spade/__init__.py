"""Painters for gsegkit: a mask and a latent in, a picture out."""

from __future__ import annotations

from collections.abc import Iterable

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> Iterable[Component]:
    """The painters of this plugin, and the readers of files that others trained."""
    return [
        Component(
            kind="painter",
            name="class-adaptive",
            target="gsegkit_spade.class_adaptive:ClassAdaptivePainter",
            config="gsegkit_spade.config:ClassAdaptiveConfig",
            kit="gsegkit_spade.kit:SETTINGS",
            summary="a scale and a shift for each class; learns through the run's own segmenter",
            paper="after Park et al., SPADE, CVPR 2019, arXiv:1903.07291, and Tan et al., CLADE, arXiv:2012.04644",
        ),
        Component(
            kind="painter",
            name="spade",
            target="gsegkit_spade.spade:SpadePainter",
            config="gsegkit_spade.config:SpadeConfig",
            kit="gsegkit_spade.kit:SPATIAL",
            summary="convolutions of the mask scale and shift each level; imported GauGAN files are of this kind",
            paper="Park et al., SPADE, CVPR 2019, arXiv:1903.07291",
        ),
        Component(
            kind="painter",
            name="oasis",
            target="gsegkit_spade.oasis:OasisPainter",
            config="gsegkit_spade.config:OasisConfig",
            kit="gsegkit_spade.kit:SEGMENTING",
            summary="a discriminator that segments pictures, and a style for each region; for long trainings",
            paper="Sushko et al., OASIS, ICLR 2021, arXiv:2012.04781",
        ),
        Component(
            kind="checkpoint-reader",
            name="spade",
            target="gsegkit_spade.readers.reader:SpadeReader",
            config="gsegkit_spade.config:SpadeReaderConfig",
            kit="gsegkit_spade.kit:SPADE_READER",
            summary="net_G.pth of SPADE (GauGAN), as a painter",
        ),
        Component(
            kind="checkpoint-reader",
            name="oasis",
            target="gsegkit_spade.readers.reader:OasisReader",
            config="gsegkit_spade.config:OasisReaderConfig",
            kit="gsegkit_spade.kit:OASIS_READER",
            summary="EMA.pth and G.pth of OASIS, as a painter",
        ),
    ]
