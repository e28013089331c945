"""Evaluators for gsegkit: of masks and of clusters; frechet, fid, kid and precision-recall of generators."""

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
            summary="Frechet distance of images, and of layers such as a bare background, to photographs; no download",
            paper="Heusel et al. 2017, NeurIPS (distance); Yang et al. 2022, WACV (of backgrounds)",
            modules=("timm",),
            extra="gsegkit-eval",
        ),
        _on_inception(
            "fid",
            "Fid",
            "InceptionConfig",
            "Frechet Inception distance of images, and of layers, with your Inception file (torch-fidelity)",
            "Heusel et al. 2017, NeurIPS",
        ),
        _on_inception(
            "kid",
            "Kid",
            "KidConfig",
            "kernel Inception distance of images, and of layers, with your Inception file (torch-fidelity)",
            "Binkowski et al. 2018, ICLR",
        ),
        _on_inception(
            "precision-recall",
            "PrecisionRecall",
            "PrecisionRecallConfig",
            "how many images look real, and how much of the photographs is covered (torch-fidelity)",
            "Kynkaanniemi et al. 2019, NeurIPS (theirs on VGG-16)",
        ),
    ]


def _on_inception(name: str, target: str, config: str, summary: str, paper: str) -> Component:
    return Component(
        kind="generator-evaluator",
        name=name,
        target=f"gsegkit_eval.inception:{target}",
        config=f"gsegkit_eval.config:{config}",
        kit="gsegkit_eval.kit:INCEPTION",
        summary=summary,
        paper=paper,
        modules=("torch_fidelity",),
        extra="gsegkit-eval[fid]",
    )
