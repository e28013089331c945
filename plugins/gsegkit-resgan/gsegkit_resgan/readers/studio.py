"""PyTorch-StudioGAN: resnet and big_resnet, of 2020-21 and later. The same block under other names."""

from __future__ import annotations

from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_resgan.readers.folding import FILES_HINT, State, Tensors
from gsegkit_resgan.readers.found import Found, block, found

EPS = 1e-4
LICENCE = (
    "code MIT (PyTorch-StudioGAN); its authors offered the weights for research; data: as the file's run, "
    "ImageNet and TinyImageNet are for non-commercial research"
)
_ATTENTION = {"theta": "conv1x1_theta", "phi": "conv1x1_phi", "g": "conv1x1_g", "o": "conv1x1_attn"}
_ACTIVATION = "the file does not say its activation: ReLU was taken, as in all configurations of the papers"


def studiogan(table: dict[str, Tensor]) -> Found:
    """A generator of StudioGAN. An attention has an entry of its own among the blocks, which shifts their numbers."""
    tensors = Tensors(table)
    state = State(tensors)
    shared = tensors.take("shared.weight", 2) if "shared.weight" in tensors else None
    first = state.conv("first", "linear0", rank=2)
    blocks: list[dict[str, object]] = []
    entry, kinds = 0, set()
    while any(f"blocks.{entry}.0.{mark}" in tensors for mark in ("sigma", "conv2d1.bias")):
        name, to = f"blocks.{entry}.0", f"blocks.{len(blocks)}"
        entry += 1
        if f"{name}.sigma" in tensors:
            if not blocks or blocks[-1]["attention"]:
                raise ArtifactError(f"an attention without a block before it: '{name}'", FILES_HINT)
            state.attention(f"attention.{len(blocks) - 1}", name, _ATTENTION, "sigma")
            blocks[-1]["attention"] = True
            continue
        kinds |= {_norm(state, f"{to}.norms.{j}", f"{name}.bn{j + 1}", shared is not None) for j in range(2)}
        convs = [state.conv(f"{to}.convs.{j}", f"{name}.conv2d{j + 1}") for j in range(2)]
        state.conv(f"{to}.shortcut", f"{name}.conv2d0")
        blocks.append(block(convs[0], convs[1], up=True))
    state.affine("last", "bn4", "weight", "bias")
    state.conv("to_rgb", "conv2d5")
    if len(kinds) != 1:
        raise ArtifactError("blocks whose normalisations are of several kinds", FILES_HINT)
    arch = {"block": "resnet", "blocks": blocks, "eps": EPS, "last_eps": EPS}
    arch |= _conditioning(state, first, shared, len(blocks), kinds.pop())
    code = "PyTorch-StudioGAN " + ("big_resnet" if shared is not None else "resnet")
    return found(code, state, LICENCE, (_ACTIVATION,), **arch)


def _norm(state: State, to: str, name: str, shared: bool) -> str:
    """One normalisation of a block; "affine", "table" or "map"."""
    tensors = state.tensors
    if f"{name}.weight" in tensors:
        state.affine(to, name, "weight", "bias")
        return "affine"
    legacy = any(f"{name}.embed0.{leaf}" in tensors for leaf in ("weight", "weight_orig"))
    gain, bias = (
        tensors.weight(f"{name}.{part}", 2) for part in (("embed0", "embed1") if legacy else ("gain", "bias"))
    )
    if shared:
        state.mapped_norm(to, name, gain, bias)
        return "map"
    if not legacy:
        gain, bias = gain.t(), bias.t()  # a linear layer on one-hot labels
    state.norm(to, name, (gain + 1).contiguous(), bias.contiguous())
    return "table"


def _conditioning(state: State, first: Tensor, shared: Tensor | None, count: int, kind: str) -> dict[str, object]:
    inputs = int(first.shape[1])
    if shared is None:
        rows = int(state.found["blocks.0.norms.0.gain"].shape[0])
        classes = {"num_classes": rows} if kind == "table" else {}
        return {"norm": kind, "z_dim": inputs, **classes}
    state.found["embedding"] = shared
    classes = {"num_classes": int(shared.shape[0]), "class_dim": int(shared.shape[1])}
    return {"first": "chunk", "norm": "class+chunk", "chunk": inputs, "z_dim": inputs * (count + 1), **classes}
