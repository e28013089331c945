"""BigGAN-PyTorch (and what was converted to it: BigBiGAN, TF-Hub's BigGAN), and BigGAN-deep of Hugging Face."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_resgan.readers.folding import FILES_HINT, State, Tensors
from gsegkit_resgan.readers.found import Found, block, found

_ATTENTION = {name: name for name in ("theta", "phi", "g", "o")}
_HF_ATTENTION = {"theta": "snconv1x1_theta", "phi": "snconv1x1_phi", "g": "snconv1x1_g", "o": "snconv1x1_o_conv"}
_DATA = "data: ImageNet (non-commercial research)"
CODE = f"code MIT (BigGAN-PyTorch); its weights carry no statement of their own; {_DATA}"
DEEPMIND = f"weights of DeepMind's TF-Hub module (Apache-2.0 as far as known); {_DATA}"
HF_EPS = 1e-4


def biggan_pytorch(table: dict[str, Tensor], *, unconditional: bool = False, eps: float | None = None) -> Found:
    """A generator of BigGAN-PyTorch: BigGAN, BigGAN-deep, and its scripts of SAGAN and SNGAN.

    Args:
        table: its state dict.
        unconditional: the vector of class 0 becomes a part of the network, as BigBiGAN is meant.
        eps: epsilon of the conditional normalisations; None = 1e-4 for conversions of DeepMind's weights, which have
            no `sv0`, or one vector for all classes; else 1e-5.
    """
    tensors = Tensors(table)
    state = State(tensors)
    converted = "linear.sv0" not in tensors or same_rows(table.get("shared.weight"))
    deep = "blocks.0.0.conv4.weight" in tensors
    count = _count(tensors, "blocks.{}.0.conv1.weight")
    if deep and count % 2:
        raise ArtifactError(f"BigGAN-deep of {count} blocks; two for each size were expected", FILES_HINT)
    cross_replica = "output_layer.0.bn.running_mean" in tensors
    shared = tensors.take("shared.weight", 2) if "shared.weight" in tensors else None
    first = state.conv("first", "linear", rank=2)
    blocks = []
    for i in range(count):
        for j in range(4 if deep else 2):
            _norm(state, f"blocks.{i}.norms.{j}", f"blocks.{i}.0.bn{j + 1}", shared, unconditional)
        convs = [state.conv(f"blocks.{i}.convs.{j}", f"blocks.{i}.0.conv{j + 1}") for j in range(4 if deep else 2)]
        if not deep:
            state.conv(f"blocks.{i}.shortcut", f"blocks.{i}.0.conv_sc")
        attention = f"blocks.{i}.1.gamma" in tensors
        if attention:
            state.attention(f"attention.{i}", f"blocks.{i}.1", _ATTENTION, "gamma")
        blocks.append(block(convs[0], convs[-1], not deep or i % 2 == 1, attention))
    state.affine("last", "output_layer.0", "gain", "bias")
    state.conv("to_rgb", "output_layer.2")
    used = eps or (HF_EPS if converted else 1e-5)
    arch: dict[str, object] = {"block": "deep" if deep else "resnet", "blocks": blocks}
    arch |= {"eps": used, "cross_replica": cross_replica}
    arch |= _conditioning(state, first, shared, count, unconditional)
    notes = [f"the file does not say the epsilon of its normalisations: {used:g} was taken"]
    if cross_replica:
        notes.append(
            "trained with --cross_replica: gains multiply, as in training on several GPUs; BigGAN-PyTorch itself adds "
            "them at evaluation (option cross_replica=add)"
        )
    layout = "BigBiGAN, converted to BigGAN-PyTorch" if unconditional else "BigGAN-PyTorch" + (", deep" if deep else "")
    return found(layout, state, DEEPMIND if converted or unconditional else CODE, tuple(notes), **arch)


def _norm(state: State, to: str, name: str, shared: Tensor | None, unconditional: bool) -> None:
    gain, bias = (state.tensors.weight(f"{name}.{part}", 2) for part in ("gain", "bias"))
    if shared is None:
        state.norm(to, name, gain + 1, bias)
        return
    state.mapped_norm(to, name, gain, bias)
    if unconditional:
        size = shared.shape[1]
        for part, matrix in (("gain", gain), ("bias", bias)):
            if matrix.shape[1] <= size:
                raise ArtifactError(f"'{name}.{part}' takes no noise: not a BigBiGAN", "use --gen biggan")
            state.found[f"{to}.{part}"] = state.found[f"{to}.{part}"] + (matrix[:, :size] @ shared[0])[None]
            state.found[f"{to}.{part}_map"] = matrix[:, size:].contiguous()


def _conditioning(
    state: State, first: Tensor, shared: Tensor | None, count: int, unconditional: bool
) -> dict[str, object]:
    """What of noise and class goes where, from the widths of the layers that take it."""
    inputs = int(first.shape[1])
    if shared is None:
        classes = int(state.found["blocks.0.norms.0.gain"].shape[0])
        return {"norm": "table", "z_dim": inputs, "num_classes": classes}
    classes, size = (int(n) for n in shared.shape)
    vector = int(state.found["blocks.0.norms.0.gain_map"].shape[1]) + (size if unconditional else 0)
    kind: dict[str, object]
    if vector == size + inputs:
        kind = {"first": "chunk", "norm": "class+chunk", "chunk": inputs, "z_dim": inputs * (count + 1)}
    elif vector == inputs:
        kind = {"first": "class+z", "norm": "class+z", "z_dim": inputs - size}
    else:
        kind = {"norm": "class", "z_dim": inputs}
    if unconditional:
        return kind
    state.found["embedding"] = shared
    return {**kind, "num_classes": classes, "class_dim": size}


def biggan_deep_hf(table: dict[str, Tensor]) -> Found:
    """pytorch-pretrained-BigGAN. Its condition is [z, class] and its first maps are channels-last: ours are not."""
    tensors = Tensors(table)
    state = State(tensors)
    embedding = tensors.take("embeddings.weight", 2).t().contiguous()
    size = int(embedding.shape[1])
    state.found["embedding"] = embedding
    z_dim = _deep_first(state, size)
    blocks: list[dict[str, object]] = []
    for i in range(_count(tensors, "generator.layers.{}.", prefix=True)):
        name, to = f"generator.layers.{i}", f"blocks.{len(blocks)}"
        if f"{name}.gamma" in tensors:
            if not blocks:
                raise ArtifactError("attention before the first block", FILES_HINT)
            state.attention(f"attention.{len(blocks) - 1}", name, _HF_ATTENTION, "gamma")
            blocks[-1]["attention"] = True
            continue
        for j in range(4):
            maps = (tensors.weight(f"{name}.bn_{j}.{part}", 2) for part in ("scale", "offset"))
            gain, bias = (torch.cat([one[:, z_dim:], one[:, :z_dim]], dim=1) for one in maps)
            state.mapped_norm(f"{to}.norms.{j}", f"{name}.bn_{j}", gain, bias)
        convs = [state.conv(f"{to}.convs.{j}", f"{name}.conv_{j}") for j in range(4)]
        blocks.append(block(convs[0], convs[3], len(blocks) % 2 == 1))
    state.affine("last", "generator.bn", "weight", "bias")
    state.conv("to_rgb", "generator.conv_to_rgb")
    for part in ("weight", "bias"):  # the code keeps the first three outputs
        state.found[f"to_rgb.{part}"] = state.found[f"to_rgb.{part}"][:3].contiguous()
    arch = {"block": "deep", "blocks": blocks, "first": "class+z", "norm": "class+z", "z_dim": z_dim}
    arch |= {"num_classes": int(embedding.shape[0]), "class_dim": size, "feature": "layer"}
    arch |= {"eps": HF_EPS, "last_eps": HF_EPS, "statistics": int(state.found["last.mean"].shape[0])}
    return found("BigGAN-deep of Hugging Face", state, f"code MIT (pytorch-pretrained-BigGAN); {DEEPMIND}", (), **arch)


def _deep_first(state: State, size: int) -> int:
    """The first layer: columns [z, class] -> [class, z], rows (4, 4, C) -> (C, 4, 4). Returns the size of z."""
    weight = state.conv("first", "generator.gen_z", rank=2)
    rows, z_dim = len(weight), int(weight.shape[1]) - size
    if rows % 16 or z_dim < 1:
        raise ArtifactError(f"'generator.gen_z' is {list(weight.shape)}, which no such network has", FILES_HINT)
    weight = torch.cat([weight[:, z_dim:], weight[:, :z_dim]], dim=1)
    state.found["first.weight"] = weight.view(16, rows // 16, -1).transpose(0, 1).reshape(rows, -1).contiguous()
    bias = state.found["first.bias"]
    if len(bias) != rows:
        raise ArtifactError("'generator.gen_z.bias' does not fit its weight", FILES_HINT)
    state.found["first.bias"] = bias.view(16, -1).t().reshape(-1).contiguous()
    return z_dim


def same_rows(embedding: Tensor | None) -> bool:
    """Whether several classes have one and the same vector: there are none in truth."""
    return embedding is not None and embedding.ndim == 2 and bool((embedding == embedding[:1]).all())


def _count(tensors: Tensors, pattern: str, *, prefix: bool = False) -> int:
    """How many numbered parts there are, from 0 on without a gap."""
    names, count = list(tensors.names()), 0
    while any(name.startswith(pattern.format(count)) if prefix else name == pattern.format(count) for name in names):
        count += 1
    return count
