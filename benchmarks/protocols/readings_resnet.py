"""BigGAN 128 and SNGAN 128 as their own code computes them on a CPU, from a file's tensors under its own names.

BigGAN in the layout of BigGAN-PyTorch, SNGAN in that of PyTorch-StudioGAN (2020-21). Between the convolutions both do
what the reference operators do: normalisation, gain and bias, ReLU and enlarging are steps of their own, and maps are
enlarged before the 1x1 shortcut. Spectral norms are divided out in every pass, as BigGAN-PyTorch does at evaluation
too; `folded` does it once before, which leaves only the layers to compare. Written from the layer tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
#: Normalised maps [N, C, h, w], and the name of the normalisation -> maps with its gains and biases.
Conditional = Callable[[Tensor, str], Tensor]
BIGGAN_EPS, STUDIO_EPS = 1e-5, 1e-4
CHUNKS = 6  # parts of BigGAN's noise at 128 px: one for the first layer, one for each block


def biggan(state: State, z: Tensor, labels: Tensor) -> Tensor:
    """[N, 120], [N] -> [N, 3, 128, 128]."""
    first, *chunks = z.chunk(CHUNKS, dim=1)
    of_class = state["shared.weight"][labels]
    x = dense(state, "linear", first)
    x = x.view(len(z), -1, 4, 4)
    for i, chunk in enumerate(chunks):
        vector = torch.cat([of_class, chunk], dim=1)

        def conditional(x: Tensor, name: str, vector: Tensor = vector) -> Tensor:
            x = normalised(state, name, "stored_mean", "stored_var", x, BIGGAN_EPS)
            gain, bias = (vector @ weight(state, f"{name}.{part}").t() for part in ("gain", "bias"))
            return x * (1 + gain[:, :, None, None]) + bias[:, :, None, None]

        x = block(state, f"blocks.{i}.0", ("conv1", "conv2", "conv_sc"), x, conditional)
        if f"blocks.{i}.1.gamma" in state:
            x = attention(state, f"blocks.{i}.1", x)
    name = "output_layer.0"
    x = F.batch_norm(x, state[f"{name}.stored_mean"], state[f"{name}.stored_var"], state[f"{name}.gain"],
                     state[f"{name}.bias"], eps=BIGGAN_EPS)  # fmt: skip
    return torch.tanh(conv(state, "output_layer.2", F.relu(x)))


def sngan(state: State, z: Tensor, labels: Tensor) -> Tensor:
    """[N, 128], [N] -> [N, 3, 128, 128]."""
    x = dense(state, "linear0", z).view(len(z), -1, 4, 4)

    def conditional(x: Tensor, name: str) -> Tensor:
        x = normalised(state, f"{name}.bn", "running_mean", "running_var", x, STUDIO_EPS)
        gain, bias = (state[f"{name}.{part}.weight"][labels] for part in ("embed0", "embed1"))
        return x * (1 + gain[:, :, None, None]) + bias[:, :, None, None]

    i = 0
    while f"blocks.{i}.0.conv2d1.weight" in state:
        x = block(state, f"blocks.{i}.0", ("conv2d1", "conv2d2", "conv2d0"), x, conditional)
        i += 1
    x = F.batch_norm(x, state["bn4.running_mean"], state["bn4.running_var"], state["bn4.weight"], state["bn4.bias"],
                     eps=STUDIO_EPS)  # fmt: skip
    return torch.tanh(conv(state, "conv2d5", F.relu(x)))


def block(state: State, name: str, convs: tuple[str, str, str], x: Tensor, conditional: Conditional) -> Tensor:
    """Norm, ReLU, enlarge, 3x3, norm, ReLU, 3x3, beside an enlarged map and its 1x1 shortcut."""
    first, second, shortcut = (f"{name}.{conv}" for conv in convs)
    hidden = F.relu(conditional(x, f"{name}.bn1"))
    hidden = conv(state, first, F.interpolate(hidden, scale_factor=2))
    hidden = conv(state, second, F.relu(conditional(hidden, f"{name}.bn2")))
    return hidden + conv(state, shortcut, F.interpolate(x, scale_factor=2))


def attention(state: State, name: str, x: Tensor) -> Tensor:
    """Self-attention of BigGAN-PyTorch: keys and values pooled, the whole matrix of weights at once."""
    n, c, h, w = x.shape
    theta = conv(state, f"{name}.theta", x).view(n, c // 8, h * w)
    phi = F.max_pool2d(conv(state, f"{name}.phi", x), 2).view(n, c // 8, h * w // 4)
    g = F.max_pool2d(conv(state, f"{name}.g", x), 2).view(n, c // 2, h * w // 4)
    beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), dim=-1)
    found = torch.bmm(g, beta.transpose(1, 2)).view(n, c // 2, h, w)
    return state[f"{name}.gamma"] * conv(state, f"{name}.o", found) + x


def normalised(state: State, name: str, mean: str, var: str, x: Tensor, eps: float) -> Tensor:
    """By the stored statistics, without gain and bias."""
    return F.batch_norm(x, state[f"{name}.{mean}"], state[f"{name}.{var}"], eps=eps)


def conv(state: State, name: str, x: Tensor) -> Tensor:
    """A convolution that keeps the side."""
    kernel = weight(state, name)
    return F.conv2d(x, kernel, state.get(f"{name}.bias"), padding=kernel.shape[-1] // 2)


def dense(state: State, name: str, x: Tensor) -> Tensor:
    """A dense layer."""
    return F.linear(x, weight(state, name), state[f"{name}.bias"])


def weight(state: State, name: str) -> Tensor:
    """A weight, divided by its spectral norm when it has one: one iteration from the stored vector."""
    kernel = state[f"{name}.weight"]
    if f"{name}.u0" not in state:
        return kernel
    matrix = kernel.view(len(kernel), -1)
    v = F.normalize(state[f"{name}.u0"] @ matrix)
    u = F.normalize(v @ matrix.t())
    return kernel / (v @ matrix.t() @ u.t()).squeeze()


def folded(state: State) -> dict[str, Tensor]:
    """The same tensors with their spectral norms divided out already."""
    vectors = {name for name in state if name.endswith((".u0", ".sv0"))}
    kept = {name: tensor for name, tensor in state.items() if name not in vectors}
    stems = [name.removesuffix(".u0") for name in vectors if name.endswith(".u0")]
    return kept | {f"{stem}.weight": weight(state, stem) for stem in stems}
