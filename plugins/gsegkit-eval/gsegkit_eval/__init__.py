"""Evaluators for gsegkit: masks (foreground / background), clusters (parts), frechet (a generator's images)."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="evaluator",
            name="masks",
            target="gsegkit_eval.masks:Masks",
            config="gsegkit_eval.config:MasksConfig",
            summary="accuracy, foreground IoU, mIoU, F_beta and its maximum, with two trivial baselines",
            paper="Melas-Kyriazi et al. 2022, ICLR (protocol)",
            modules=("scipy",),
            extra="gsegkit-eval",
        ),
        Component(
            kind="evaluator",
            name="clusters",
            target="gsegkit_eval.clusters:Clusters",
            config="gsegkit_eval.config:ClustersConfig",
            summary="AMI, ARI, NMI, greedy (KLiSH) and Hungarian mIoU of unnamed classes",
            paper="Xu et al. 2022, KLiSH (greedy maximum-matching mIoU)",
            modules=("scipy", "sklearn"),
            extra="gsegkit-eval",
        ),
        Component(
            kind="generator-evaluator",
            name="frechet",
            target="gsegkit_eval.frechet:Frechet",
            config="gsegkit_eval.config:FrechetConfig",
            kit="gsegkit_eval.kit:SETTINGS",
            summary="Frechet distance of images, and of layers such as a bare background, to photographs",
            paper="Heusel et al. 2017, NeurIPS (distance); Yang et al. 2022, WACV (of backgrounds)",
            modules=("timm",),
            extra="gsegkit-eval",
        ),
    ]
