"""SelfCondGAN, UncondGAN and the class-conditional GAN of the same code; and the sizes of its clusters."""

from __future__ import annotations

from pathlib import Path

import torch
from gsegkit_foreign import Record, read_foreign
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_resgan.readers.folding import FILES_HINT, State, Tensors
from gsegkit_resgan.readers.found import Found, block, found

LICENCE = (
    "code MIT (self-conditioned-gan); its weights carry no statement of their own; data: ImageNet or Places365 "
    "(non-commercial research)"
)
RESIDUAL = 0.1  # what a block multiplies its branch by
CLUSTERER_HINT = "give the *_clusterer.pkl that was published beside the model"
MAX_CLUSTERS = 100_000


def selfcond(table: dict[str, Tensor]) -> Found:
    """A generator of self-conditioned-gan. Its first layer takes [z, class]; the class has length 1."""
    tensors = Tensors({name.removeprefix("layers."): tensor for name, tensor in table.items()})
    state = State(tensors)
    embedding = tensors.take("get_latent.embedding.weight", 2) if "get_latent.embedding.weight" in tensors else None
    first = state.conv("first", "fc", rank=2)
    blocks = []
    size = 0
    while f"resnet_{size}_0.conv_0.weight" in tensors:
        for half in range(2):
            name, to = f"resnet_{size}_{half}", f"blocks.{2 * size + half}"
            before = state.conv(f"{to}.convs.0", f"{name}.conv_0")
            after = state.conv(f"{to}.convs.1", f"{name}.conv_1", scale=RESIDUAL)
            if f"{name}.conv_s.weight" in tensors:
                state.conv(f"{to}.shortcut", f"{name}.conv_s", bias=False)
            blocks.append(block(before, after, up=half == 0 and size > 0))
        size += 1
    state.conv("to_rgb", "conv_img")
    arch: dict[str, object] = {"block": "plain", "norm": "none", "feature": "res", "blocks": blocks}
    arch |= {"start": _start(first, blocks), "z_dim": int(first.shape[1])}
    if embedding is not None:
        arch |= _classes(state, first, embedding)
    return found("self-conditioned-gan", state, LICENCE, (), **arch)


def _start(first: Tensor, blocks: list[dict[str, object]]) -> int:
    """Side of the first maps; 0 when the sizes do not fit, which the network's bounds refuse."""
    width = int(str(blocks[0]["inputs"])) if blocks else 0
    side = int((len(first) / width) ** 0.5 + 0.5) if width else 0
    return side if side * side * width == len(first) else 0


def _classes(state: State, first: Tensor, embedding: Tensor) -> dict[str, object]:
    classes, size = (int(n) for n in embedding.shape)
    z_dim = int(first.shape[1]) - size
    norms = embedding.norm(dim=1, keepdim=True)
    if z_dim < 1 or not bool((norms > 0).all()):
        raise ArtifactError("'get_latent.embedding.weight' does not fit the layer 'fc'", FILES_HINT)
    state.found["embedding"] = embedding / norms
    state.found["first.weight"] = torch.cat([first[:, z_dim:], first[:, :z_dim]], dim=1)
    return {"z_dim": z_dim, "num_classes": classes, "class_dim": size, "first": "class+z"}


def cluster_sizes(path: Path, classes: int) -> list[float]:
    """How probable each class is: the share of photographs in its cluster. Nothing in the file is executed.

    Args:
        path: the pickled clusterer.
        classes: of the generator.

    Raises:
        ArtifactError: not a clusterer, or one with labels that the generator does not have.
    """
    file = read_foreign(path)
    root = file.shallow(file.root)
    if not isinstance(root, Record) or "x_labels" not in root.state:
        raise ArtifactError(f"{path}: not a clusterer: it has no x_labels", CLUSTERER_HINT)
    labels = file.tensor(root.state["x_labels"], "x_labels")
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool or not len(labels):
        raise ArtifactError(f"{path}: x_labels is not a list of labels", CLUSTERER_HINT)
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= min(classes, MAX_CLUSTERS):
        what = f"labels from {low} to {high}, but the generator has {classes} classes"
        raise ArtifactError(f"{path}: {what}", CLUSTERER_HINT)
    counts = torch.bincount(labels, minlength=classes).double()
    shares: list[float] = (counts / counts.sum()).tolist()
    return shares
