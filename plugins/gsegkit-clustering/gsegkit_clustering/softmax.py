"""Linear softmax classifiers that repeat given labels; what makes an agglomerative clustering predict.

Objective (published code of KLiSH): mean cross-entropy + decay * mean(W^2); the bias is free.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

RIDGE = 1e-2  # of the whitening, as a share of the mean variance: directions of no variance are left alone
HISTORY = 10  # of L-BFGS
ADAM_LR = 1e-3  # published
ADAM_STEPS = 1000  # published
ADAM_TOL = 1e-4  # published: stop when no weight moved further than this


def class_means(x: Tensor, labels: Tensor, k: int, bias: bool) -> Tensor:
    """The published start: nearest class mean, scaled so that weights are of length 1 at most.

    Args:
        x: [N, D] float32.
        labels: [N] int64 in 0 .. k-1, none of them missing.
        k: number of classes.
        bias: without it, angles are compared: the start is the direction of each mean.

    Returns:
        [k, D + 1] float32: weights and, in the last column, biases.
    """
    means = torch.zeros(k, x.shape[1], device=x.device).index_add_(0, labels, x)
    means /= torch.bincount(labels, minlength=k).unsqueeze(1)
    if not bias:
        return torch.cat([F.normalize(means, dim=1), means.new_zeros(k, 1)], dim=1)
    biases = -0.5 * means.square().sum(dim=1, keepdim=True)
    start: Tensor = torch.cat([means, biases - biases.mean()], dim=1) / means.norm(dim=1).max()
    return start


class Softmax:
    """The objective on one set of points, for any labels; minimised by L-BFGS in whitened coordinates.

    Whitening changes the path, not the optimum: it takes a third of the iterations (measured; the features of a
    generator have variances from 1 to 10,000). Weights are V P for whitened points z = P x.

    Args:
        x: [N, D] float32.
        decay: weight of mean(W^2).
        bias: whether there is one.
        tolerance: stop when an iteration lowers the loss by less than this share.
    """

    def __init__(self, x: Tensor, decay: float, bias: bool, tolerance: float) -> None:
        self.decay, self.bias, self.tolerance = decay, bias, tolerance
        self.mean = x.mean(dim=0) if bias else torch.zeros_like(x[0])
        centred = x - self.mean
        variances, axes = torch.linalg.eigh((centred.T @ centred).double() / len(x))
        scale = (variances.clamp(min=0) + RIDGE * variances.mean()).clamp(min=1e-12).rsqrt()
        self.whiten = (scale.unsqueeze(1) * axes.T).float()  # P, [D, D]
        self.colour = (axes / scale).float()  # its inverse
        one = torch.full((len(x), 1), float(bias), device=x.device)
        self.z = torch.cat([centred @ self.whiten.T, one], dim=1)  # [N, D + 1]

    def fit(self, labels: Tensor, start: Tensor) -> Tensor:
        """The optimum for labels [N], from `start`: [k, D + 1] -> [k, D + 1] float32, weights and biases of x."""
        rows = torch.arange(len(labels), device=self.z.device)

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            v = torch.from_numpy(flat).to(self.z).view(start.shape)
            scores = self.z @ v.T  # [N, k]
            total = scores.logsumexp(dim=1, keepdim=True)
            entropy = float((total.squeeze(1) - scores[rows, labels]).mean(dtype=torch.float64))
            error = (scores - total).exp_()
            error[rows, labels] -= 1
            gradient = error.T @ self.z / len(labels)
            weight = v[:, :-1] @ self.whiten
            gradient[:, :-1] += (2 * self.decay / weight.numel()) * weight @ self.whiten.T
            penalty = self.decay * float(weight.square().mean(dtype=torch.float64))
            return entropy + penalty, gradient.double().cpu().numpy().ravel()

        first = start.clone()
        first[:, :-1] = start[:, :-1] @ self.colour
        first[:, -1] += start[:, :-1] @ self.mean
        options = {"maxcor": HISTORY, "maxiter": 1000, "ftol": self.tolerance, "gtol": 1e-7}
        found = minimize(loss, first.double().cpu().numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
        v = torch.from_numpy(found.x).to(self.z).view(start.shape)
        weight = v[:, :-1] @ self.whiten
        biases = v[:, -1:] - (weight @ self.mean).unsqueeze(1)
        return torch.cat([weight, biases if self.bias else torch.zeros_like(biases)], dim=1)


def adam(x: Tensor, labels: Tensor, start: Tensor, decay: float, bias: bool) -> Tensor:
    """The published optimiser, which stops long before the optimum; result as `Softmax.fit`."""
    weight, biases = start[:, :-1].clone().requires_grad_(), start[:, -1].clone().requires_grad_(bias)
    optimizer = torch.optim.Adam([weight, biases] if bias else [weight], lr=ADAM_LR)
    with torch.enable_grad():
        for _ in range(ADAM_STEPS):
            before = weight.detach().clone()
            loss = F.cross_entropy(x @ weight.T + biases, labels) + decay * weight.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if float((weight.detach() - before).abs().max()) < ADAM_TOL:
                break
    return torch.cat([weight, biases.unsqueeze(1)], dim=1).detach()
