"""The plain algorithm, for comparison: every SVM solved again after every merge, by another optimiser, in float64."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize


def solve(x, y, C):
    """Least f by L-BFGS on the primal; returns (w, b) and f."""
    lam, d = C / len(x), x.shape[1]

    def f(v):
        hinge = np.maximum(0, 1 - y * (x @ v[:d] + v[d]))
        pull = -2 * lam * y * hinge
        return 0.5 * v[:d] @ v[:d] + lam * hinge @ hinge, np.append(v[:d] + x.T @ pull, pull.sum())

    found = minimize(
        f, np.zeros(d + 1), jac=True, method="L-BFGS-B", options={"maxiter": 20_000, "ftol": 1e-15, "gtol": 1e-9}
    )
    return found.x, found.fun


def tree(x, labels, C):
    """Merges as [(members of p, members of q, IoU of p, {members: IoU})], members as sets of initial clusters."""
    x, labels = x.astype(np.float64), labels.copy()
    members = {int(k): frozenset([int(k)]) for k in np.unique(labels)}
    merges = []
    while len(members) > 1:
        names = sorted(members)
        V = np.stack([solve(x, np.where(labels == k, 1.0, -1.0), C)[0] for k in names])
        scores = V[:, :-1] @ x.T + V[:, -1:]
        inside = labels == np.array(names)[:, None]
        iou = ((scores > 0) & inside).sum(1) / ((scores > 0) | inside).sum(1)
        confidence = (np.clip(scores, -1, 1) + 1) / 2
        gram = confidence @ confidence.T
        ecos = gram / np.sqrt(np.outer(gram.diagonal(), gram.diagonal()))
        np.fill_diagonal(ecos, -1)
        p = int(iou.argmin())
        q = int(ecos[p].argmax())
        merges.append(
            (
                members[names[p]],
                members[names[q]],
                float(iou[p]),
                {members[n]: float(i) for n, i in zip(names, iou, strict=True)},
            )
        )
        labels[labels == names[p]] = names[q]
        members[names[q]] |= members.pop(names[p])
    return merges
