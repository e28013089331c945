"""KLiSH's merging: ours against the plain algorithm as published, and against scikit-learn's LinearSVC.

Same points, same k-means clusters, same objective, one process, CPU seconds of one thread. Rows of the result:

* ours: the whole tree, every SVM to a relative accuracy of 1e-6;
* published: all SVMs of a level by one L-BFGS, at most 20 x 5 iterations, which stops above the optimum. `plain="full"`
  runs every level; `plain="levels"` runs some and sums a straight line fitted to their times;
* converged: the same, but until the objective is within 1e-4 of ours, at some levels, each started from the optimum of
  the level before (which flatters it); summed as above;
* liblinear: scikit-learn's LinearSVC at some levels, three classes of each times K, tolerance at the same objective;
* growth: ours at other N, D and K0, beside the floor: the operations and bytes that a certified tree needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish, Tree
from gsegkit_klish.svm import signs
from torch import Tensor

from benchmarks.protocols.common import Lab, say
from gsegkit.clustering.extractor import build_kmeans
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext

C, TOL = 5000.0, 1e-6
SAME = 1e-4  # "the same objective"
CAP = 20  # outer iterations of the published optimiser, of 5 inner ones each
MOST = 200  # outer iterations after which "converged" gives up: then its time is a lower bound, see `above`
LIBLINEAR_TOLS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
LEVELS = (1.0, 0.6, 0.3, 0.1)  # shares of K0 at which the slow ones are measured


def synthetic(n: int, d: int, seed: int = 0) -> Tensor:
    """14 classes of six long blobs each, in a shared subspace, with channels of different scale; overlapping."""
    g = torch.Generator().manual_seed(seed)
    randn = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    shared, scale = randn(32, d) / 32**0.5, torch.exp(0.7 * randn(d))
    each = n // 84 + 1
    blobs = []
    for _ in range(14):
        place, basis = 1.5 * randn(32) @ shared, randn(16, d) / 4
        for _ in range(6):
            axes = randn(4, 16) * torch.tensor([[2.0], [1.0], [0.7], [0.5]])
            blobs.append(place + (randn(16) + randn(each, 4) @ axes) @ basis)
    x = torch.cat(blobs)
    x = torch.nn.functional.leaky_relu((x + 0.3 * randn(*x.shape)) * scale, 0.2)
    return x[torch.randperm(len(x), generator=g)[:n]].contiguous()


def generated(n: int, d: int) -> Tensor:
    """Pixels of the zoo's coffee leaves, the last d channels of all its maps."""
    from gsegkit.clustering.config import ClusterConfig
    from gsegkit.clustering.points import collect_points
    from gsegkit.plugins import installed

    config = ClusterConfig(min_scale=0, pixels_per_image=max(1, n // 256))
    points = collect_points(
        installed().build("generator", "stylegan2", {"weights": "coffee-leaf-64"}), config, RunContext(Path("."))
    )
    return points.x[:n, -d:].contiguous()


def cpu(work: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


class Recorder(Klish):
    """Our fit, keeping the state before each merge at the levels asked for."""

    def __init__(self, config: KlishConfig, levels: tuple[int, ...]) -> None:
        super().__init__(config)
        self.wanted, self.states, self.clock = levels, {}, {}

    def _initial(self, *args):
        self.clock["first"], tree = cpu(lambda: super(Recorder, self)._initial(*args))
        return tree

    def _kmeans(self, *args):
        self.clock["kmeans"], centres = cpu(lambda: super(Recorder, self)._kmeans(*args))
        return centres

    def _merge(self, tree: Tree, *rest) -> None:
        live = tree.live
        if len(live) in self.wanted:
            self.states[len(live)] = {"labels": tree.labels.clone(), "V": tree.V.clone(), "live": live}
        super()._merge(tree, *rest)


def objective(x: Tensor, V: Tensor, Y: Tensor, lam: float) -> Tensor:
    """Sum over classes; V [K, D + 1], Y [N, K]."""
    hinge = (1 - Y * torch.addmm(V[:, -1], x, V[:, :-1].T)).clamp(min=0)
    return 0.5 * V[:, :-1].square().sum() + lam * hinge.square().sum()


def published(
    x: Tensor, V: Tensor, Y: Tensor, lam: float, target: float | None, most: int
) -> tuple[Tensor, int, float]:
    """One level: L-BFGS over all classes, no line search, 5 iterations a call; until its rule, or until `target`."""
    K = V.shape[0]
    w, b = V[:, :-1].clone().requires_grad_(), V[:, -1].clone().requires_grad_()
    optimiser = torch.optim.LBFGS([w, b], lr=1, max_iter=5, history_size=100)
    value = float("inf")

    def closure() -> Tensor:
        nonlocal value
        optimiser.zero_grad()
        hinge = (1 - Y * torch.addmm(b, x, w.T)).clamp(min=0)
        loss = (0.5 * w.square().sum() + lam * hinge.square().sum()) / K
        loss.backward()
        value = float(loss.detach()) * K
        return loss.detach()

    for outer in range(most):  # noqa: B007
        before = w.detach().clone()
        optimiser.step(closure)
        if target is None and float((w.detach() - before).abs().max()) < 1e-4:
            break
        if target is not None and value <= target * (1 + SAME):
            break
    V = torch.cat([w.detach(), b.detach()[:, None]], dim=1)
    return V, outer + 1, float(objective(x, V, Y, lam))


def one_hot(labels: Tensor, live: list[int]) -> Tensor:
    return torch.stack([signs(labels == slot) for slot in live], dim=1)


def plain_full(x: Tensor, labels: Tensor, centres: Tensor, lam: float) -> dict:
    """The published algorithm from start to end, its own tree."""
    K = len(centres)
    d = centres.square().sum(dim=1).max()
    V = torch.cat([centres / d, -0.5 * centres.square().sum(dim=1, keepdim=True) / d], dim=1)
    labels, live, sizes = labels.clone(), list(range(K)), torch.bincount(labels, minlength=K).double()
    merges, seconds = [], time.process_time()
    while len(live) > 1:
        Y = one_hot(labels, live)
        V[live], _, _ = published(x, V[live], Y, lam, None, CAP)
        scores = torch.addmm(V[live, -1], x, V[live, :-1].T)
        iou = ((scores > 0) & (Y > 0)).sum(0) / ((scores > 0) | (Y > 0)).sum(0).clamp(min=1)
        confidence = (scores.clamp(-1, 1) + 1) / 2
        gram = confidence.T @ confidence
        norm = gram.diagonal().sqrt()
        ecos = (gram / (norm[:, None] * norm)).fill_diagonal_(0)
        p = int(iou.argmin())
        q = int(ecos[p].argmax())
        p, q = live[p], live[q]
        merges.append((p, q))
        share = sizes[p] / (sizes[p] + sizes[q])
        V[q] = torch.lerp(V[q], V[p], float(share))
        labels[labels == p] = q
        sizes[q] += sizes[p]
        live.remove(p)
        say(f"published: {len(live)} left, {time.process_time() - seconds:.0f} s")
    return {"seconds": time.process_time() - seconds, "merges": merges}


def at_levels(x: Tensor, lam: float, states: dict[int, dict], most: int, kind: str) -> dict[int, dict]:
    """CPU seconds of one level of the plain algorithm, from the optimum of the level before."""
    rows = {}
    for k, state in sorted(states.items(), reverse=True):
        V, Y = state["V"][state["live"]], one_hot(state["labels"], state["live"])
        target = float(objective(x, V, Y, lam))
        start = state["start"][state["live"]]
        row: dict = {"ours": target}
        if kind == "liblinear":
            row |= liblinear(x, Y, lam, V)
        else:
            seconds, (_, calls, value) = cpu(
                lambda start=start, Y=Y, target=target: published(
                    x, start, Y, lam, target if kind == "converged" else None, most
                )
            )
            row |= {"seconds": seconds, "evaluations": calls * 5, "above": value / target - 1}
        rows[k] = row
        say(f"{kind} {k}: {row}")
    return rows


def liblinear(x: Tensor, Y: Tensor, lam: float, V: Tensor, classes: int = 3) -> dict:
    """LinearSVC on a few of the classes, at the loosest tolerance that reaches our objective; times K."""
    from sklearn.svm import LinearSVC

    points, used, above = x.numpy(), 0.0, []
    chosen = np.linspace(0, Y.shape[1] - 1, classes).round().astype(int)
    for k in chosen:
        target = float(objective(x, V[k : k + 1], Y[:, k : k + 1], lam))
        for tol in LIBLINEAR_TOLS:
            model = LinearSVC(C=lam, dual=False, tol=tol, intercept_scaling=100.0, max_iter=10_000)
            seconds, _ = cpu(lambda model=model, k=k: model.fit(points, Y[:, k].numpy()))
            v = torch.from_numpy(np.append(model.coef_[0], model.intercept_)).float()[None]
            gap = float(objective(x, v, Y[:, k : k + 1], lam)) / target - 1
            if gap <= SAME:
                break
        used += seconds
        above.append(gap)
    return {"seconds": used / classes * Y.shape[1], "above": max(above)}


def summed(rows: dict[int, dict], k0: int) -> float:
    """Seconds of all levels: a straight line through the measured ones, summed from K0 to 2."""
    ks = np.array(list(rows))
    seconds = np.array([row["seconds"] for row in rows.values()])
    line = np.polyfit(ks, seconds, 1)
    return float(np.maximum(np.polyval(line, np.arange(2, k0 + 1)), 0).sum())


def ours(x: Tensor, k0: int, levels: tuple[int, ...], folder: Path) -> tuple[float, Recorder]:
    """CPU seconds of the tree without k-means, and what was recorded on the way."""
    n = len(x)
    points = Points(x, torch.zeros(n).long(), torch.arange(n), (1, n), ("f",))
    part = Recorder(KlishConfig(k0=k0, C=C, tol=TOL, init_points=None, filter=False), levels)
    seconds, _ = cpu(lambda: part.cluster(points, RunContext(folder, checkpoint_seconds=1e9)))
    return seconds - part.clock["kmeans"], part


def floor(n: int, d: int, k0: int) -> dict[str, float]:
    """Least work of a certified tree: label, certify K0 classes, one certifying pass and one ECoS row a merge."""
    return {"gflop": 6e-9 * n * d * k0, "gigabyte": 1e-9 * (4.0 * n * d * k0 + 2.0 * n * k0**2)}


def speed(
    lab: Lab, n: int = 65_536, d: int = 256, k0: int = 100, data: str = "synthetic", plain: str = "levels",
    with_liblinear: bool = False, growth: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The rows above; `data`: synthetic or generated, `plain`: full, levels or none, `growth`: other sizes too."""
    if lab.tiny:
        n, d, k0, growth = 512, 8, 8, False
    x = synthetic(n, d) if data == "synthetic" else generated(n, d)
    n, d = x.shape
    lam = C / n
    measured = tuple(sorted({max(3, round(share * k0)) for share in LEVELS}))
    before = tuple(k + 1 for k in measured)
    folder = lab.work
    published(x[:64], torch.zeros(2, d + 1), torch.ones(64, 2), 1.0, None, 1)  # what is imported late is not counted
    centres, labels = build_kmeans("auto").fit(x, k0, 0)
    tree_seconds, part = ours(x, k0, measured + before, folder)
    first, kmeans_seconds = part.clock["first"] - part.clock["kmeans"], part.clock["kmeans"]
    result: dict[str, Any] = {
        "size": {"n": n, "d": d, "k0": k0, "data": data, "C": C},
        "kmeans_seconds": kmeans_seconds,
        "ours": {"seconds": tree_seconds, "first": first, "merges": tree_seconds - first, "tol": TOL},
        "floor": floor(n, d, k0),
    }
    say(str(result["ours"]))
    states = {}
    for k in measured:
        state = part.states[k]
        coarser = part.states.get(k + 1)
        start = coarser["V"].clone() if coarser is not None else None
        if start is not None and coarser is not None:  # the published warm start of the merged cluster
            (gone,) = set(coarser["live"]) - set(state["live"])
            (into,) = set(state["labels"][coarser["labels"] == gone].tolist())
            sizes = torch.bincount(coarser["labels"], minlength=len(start))
            start[into] = torch.lerp(start[into], start[gone], float(sizes[gone] / (sizes[gone] + sizes[into])))
        else:
            scale = centres.square().sum(dim=1).max()
            start = torch.cat([centres / scale, -0.5 * centres.square().sum(dim=1, keepdim=True) / scale], dim=1)
            start = start[torch.bincount(labels, minlength=k0).argsort(descending=True, stable=True)]
        states[k] = {**state, "start": start}
    if plain != "none":
        rows = at_levels(x, lam, states, CAP, "published")
        total = summed(rows, k0)
        result["published"] = {"levels": rows, "seconds": total, "ratio": total / tree_seconds}
        if plain == "full":
            whole = plain_full(x, labels, centres, lam)
            result["published"] |= {"full_seconds": whole["seconds"], "full_ratio": whole["seconds"] / tree_seconds}
        rows = at_levels(x, lam, states, MOST, "converged")
        total = summed({k: row for k, row in rows.items() if k != k0}, k0) + rows[k0]["seconds"]
        result["converged"] = {"levels": rows, "seconds": total, "ratio": total / tree_seconds}
    if with_liblinear:
        rows = at_levels(x, lam, states, 0, "liblinear")
        total = summed(rows, k0)
        result["liblinear"] = {"levels": rows, "seconds": total, "ratio": total / tree_seconds}
    if growth:
        result["growth"] = []
        for gn, gd, gk in ((n // 2, d, k0), (n, d // 2, k0), (n, d, k0 // 2), (2 * n, d, k0)):
            gx = synthetic(gn, gd)
            spent, _ = ours(gx, gk, (), folder)
            result["growth"].append({"n": gn, "d": gd, "k0": gk, "seconds": spent, **floor(gn, gd, gk)})
            say(str(result["growth"][-1]))
    return result
