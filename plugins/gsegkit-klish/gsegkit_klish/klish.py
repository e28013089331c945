"""KLiSH: k-means with linear separability heuristic.

Xu, Zhang and Hu, "Extracting Semantic Knowledge from GANs with Unsupervised Learning", Sec. 3.2 and Algorithm 1:
pixels are cut into many k-means clusters; each gets an SVM; the least separable cluster joins the one it is confused
with most; and so on, down to one cluster.

Exact and incremental. The SVMs of Eq. 3 share no variable, and a merge changes the labels of the merged cluster alone.
So every other SVM, its IoU (Eq. 4) and its ECoS with the others (Eq. 5) stay what they are: a merge solves one SVM and
computes one row of ECoS, and the tree is that of the plain algorithm, which solves all of them again.

Reading order, beside the paper: which maps are read (Sec. 4.1) is `gsegkit.clustering.points.select_layers`; the first
clusters and their filter (Sec. 3.2) are `Klish._initial`; Eq. 3, the SVMs, is svm.py; Eq. 4 is `_iou`, Eq. 5 is in
`Klish._merge` and `_choose`, which are the body of Algorithm 1, `Klish.cluster`; the cut is `default_cut`; classifiers
become class probabilities in `gsegkit.clustering.extractor`; Algorithm 2 is `gsegkit.classes.greedy`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.clustering.blocks import AT_ONCE, blocks
from gsegkit.clustering.extractor import (
    ClusterExtractor,
    Clustering,
    Partition,
    assign,
    centre_classifiers,
    check_count,
    fit_kmeans,
    one_step,
)
from gsegkit.clustering.points import Points
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.distributed.team import ALONE, Team
from gsegkit.errors import ConfigError, DataError, InterruptedRunError
from gsegkit.rundir import CHECKPOINT_FILE
from gsegkit.seeds import child_seed
from gsegkit.tensors import load_tree, save_tree
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.svm import SVMSolver, signs

SMOKE_CLUSTERS = 8
SUMMED = 1 << 16  # points that are added at once, at most
LOGIT_EPS = 1e-6  # IoUs of 0 and 1 have no logit
TIE = 1e-6  # IoUs closer than this are equal: the larger ECoS, then the lower index decides

Ahead = dict[tuple[int, int], tuple[Tensor, Tensor]]  # SVMs of merges that may follow, by the ids of both clusters


@dataclass
class Tree:
    """The state of merging; a cluster is a slot, a merge frees the slot of the cluster that was taken in.

    Attributes:
        labels: [N] int64, slot of each point.
        leaf: [N] int64, the initial clusters; they are the leaves of the tree.
        V: [K0, D + 1] float32 classifiers of the slots, scores: [K0, N] float32.
        iou: [K0] float64, Eq. 4; gram: [K0, K0] float64, sums of products of confidences, from which Eq. 5 follows.
        ids: what cluster a slot holds: the leaves are 0 .. K0 - 1, merged clusters K0, K0 + 1 ...; -1 = free.
        nodes: classifiers of all clusters so far, by id.
        merges: for each merge [id p, id q, new id, IoU of p, ECoS of p and q].
    """

    labels: Tensor
    leaf: Tensor
    V: Tensor
    scores: Tensor
    iou: Tensor
    gram: Tensor
    ids: list[int]
    nodes: list[Tensor]
    node_iou: list[float]
    merges: list[list[float]] = field(default_factory=list)

    @property
    def live(self) -> list[int]:
        """Slots that hold a cluster."""
        return [slot for slot, name in enumerate(self.ids) if name >= 0]


class Klish(ClusterExtractor):
    """Extractor `klish`."""

    config: KlishConfig
    clusters_together = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)  # type: ignore[arg-type]

    def memory_per_point(self) -> int:
        """Scores and confidences of K0 clusters, float32."""
        return 8 * self.config.k0

    def cluster(self, points: Points, ctx: RunContext) -> Clustering:
        """Algorithm 1: from K0 clusters down to one, with every level kept."""
        c = self.config
        solver = SVMSolver(points.x, c.C, c.tol, c.svm_rounds, c.newton_steps, ctx.team)
        tree = self._resumed(points, ctx) or self._initial(points, solver, ctx)
        confidence = tree.scores.clamp(-1, 1).add_(1).mul_(0.5)
        saved, ahead = time.monotonic(), Ahead()
        try:
            for _ in ctx.track(range(len(tree.live) - 1), "merging clusters", self._whole(len(tree.live), ctx) - 1):
                self._merge(tree, confidence, solver, ahead)
                if time.monotonic() - saved >= ctx.checkpoint_seconds:
                    self._save(tree, ctx)
                    saved = time.monotonic()
        except InterruptedRunError:  # raised between two merges
            self._save(tree, ctx)
            raise
        found = self._clustering(tree)
        if not ctx.team.first:
            return found
        self._warn_of_snowball(tree, ctx)
        return self._refit(found, points) if self.config.refit == "softmax" else found

    # ---- initial clusters ----------------------------------------------------------------------------------------

    def _initial(self, points: Points, solver: SVMSolver, ctx: RunContext) -> Tree:
        c = self.config
        k0 = c.k0 if not ctx.smoke else min(c.k0, max(SMOKE_CLUSTERS, c.k or 0))
        check_count(points, k0)
        with one_step(ctx, "k-means", round(self._whole(k0, ctx) / k0)):
            centres = self._kmeans(points.x, k0, ctx)
        labels, centres = _assigned(points.x, centres, ctx.team)
        if len(centres) < 2:
            raise DataError(
                "all pixels fell into one cluster", "the feature maps are constant: is the generator broken?"
            )
        V, scores = self._solve_all(solver, labels, len(centres), ctx)
        iou = _ious(scores, labels)
        if c.filter and len(centres) > 2:
            keep = unusual(iou, c.filter_sigmas).logical_not()
            ctx.info(f"filter: {int(keep.sum())} of {len(keep)} initial clusters kept")
            if not bool(keep.all()):
                kept = centres[keep.to(centres.device)]
                with one_step(ctx, "k-means after the filter", round(self._whole(k0, ctx) / k0)):
                    moved = _lloyd(points.x, kept, c.lloyd_steps, c.lloyd_tol, ctx.team)
                labels, centres = _assigned(points.x, moved, ctx.team)
                V, scores = self._solve_all(solver, labels, len(centres), ctx)
                iou = _ious(scores, labels)
        if c.k is not None and c.k > len(centres):
            raise ConfigError(
                f"{len(centres)} of {k0} initial clusters are left, so they cannot be cut into {c.k}",
                "lower k, raise k0, or set filter=false",
            )
        confidence = scores.clamp(-1, 1).add_(1).mul_(0.5)
        return Tree(
            labels=labels,
            leaf=labels.clone(),
            V=V,
            scores=scores,
            iou=iou,
            gram=(confidence @ confidence.T).double(),
            ids=list(range(len(centres))),
            nodes=list(V.clone()),
            node_iou=iou.tolist(),
        )

    def _whole(self, clusters: int, ctx: RunContext) -> int:
        """How many clusters there would be in the whole run, where this one has so many."""
        return max(clusters, self.config.k0) if ctx.smoke else clusters

    def _kmeans(self, x: Tensor, k0: int, ctx: RunContext) -> Tensor:
        count = self.config.init_points or len(x)
        if count < len(x):
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(child_seed(ctx.seed, "init")))
            x = x[order[: max(count, k0)].sort().values.to(x.device)]
        seed = child_seed(ctx.seed, "kmeans") % 2**31
        centres, _ = fit_kmeans(self.config.kmeans, x.float(), k0, seed, ctx.team)
        return centres

    def _solve_all(self, solver: SVMSolver, labels: Tensor, k: int, ctx: RunContext) -> tuple[Tensor, Tensor]:
        """All SVMs, with progress; a stop takes effect between two."""
        ctx.progress.start(f"{ctx.folder.name}: separating {k} clusters", k, 0, self._whole(k, ctx))

        def tick(done: int) -> None:
            ctx.check_stop()
            ctx.progress.advance(done, {})

        try:
            V, scores, _ = solver.solve_all(labels, k, tick)
        finally:
            ctx.progress.finish()
        return V, scores

    # ---- one merge -----------------------------------------------------------------------------------------------

    def _merge(self, tree: Tree, confidence: Tensor, solver: SVMSolver, ahead: Ahead) -> None:
        """p, the cluster of least IoU, joins q, the one of largest ECoS with it."""
        live = torch.tensor(tree.live)
        p, q, ecos = self._choose(tree, live)
        solved = self._solved(tree, p, q, solver, ahead) if len(live) > 2 else None
        merged = len(tree.nodes)
        tree.merges.append([tree.ids[p], tree.ids[q], merged, float(tree.iou[p]), ecos])
        tree.labels[tree.labels == p] = q
        if solved is None:  # one cluster is left: nothing to separate it from
            tree.ids[p], tree.ids[q] = -1, merged
            return
        tree.V[q], tree.scores[q] = solved
        tree.iou[q] = _iou(tree.scores[q], tree.labels == q)
        confidence[q] = tree.scores[q].clamp(-1, 1).add_(1).mul_(0.5)  # Eq. 5
        row = torch.mv(confidence, confidence[q]).double()
        tree.gram[q], tree.gram[:, q] = row, row
        tree.ids[p], tree.ids[q] = -1, merged
        tree.nodes.append(tree.V[q].clone())
        tree.node_iou.append(float(tree.iou[q]))

    def _solved(self, tree: Tree, p: int, q: int, solver: SVMSolver, ahead: Ahead) -> tuple[Tensor, Tensor]:
        """The SVM of p and q together, and its scores.

        It depends on the two alone. So the processes solve, each one, the merges that will probably follow: a merge
        that does is there already, and the tree is the same, whichever of them do.
        """
        wanted = (tree.ids[p], tree.ids[q])
        if wanted not in ahead:
            pairs = self._likely(tree, (p, q), solver.team.ahead, ahead)
            for (one, other), found in zip(
                pairs, solver.team.map(lambda pair: _solve_pair(tree, *pair, solver), pairs), strict=True
            ):
                ahead[tree.ids[one], tree.ids[other]] = (found[0], found[1])
        solved = ahead.pop(wanted)
        for pair in [pair for pair in ahead if {*pair} & {*wanted}]:
            del ahead[pair]
        return solved

    def _likely(self, tree: Tree, first: tuple[int, int], count: int, ahead: Ahead) -> list[tuple[int, int]]:
        """Slots of a merge, and of those that would follow if their clusters had nothing to do with it."""
        pairs, live = [first], tree.live
        p, q = first
        while len(pairs) < count and len(live) > 3:
            live = [slot for slot in live if slot not in (p, q)]
            p, q, _ = self._choose(tree, torch.tensor(live))
            if (tree.ids[p], tree.ids[q]) not in ahead:
                pairs.append((p, q))
        return pairs

    def _choose(self, tree: Tree, live: Tensor) -> tuple[int, int, float]:
        """Slots p and q, and their ECoS."""
        iou, gram = tree.iou.cpu()[live], tree.gram.cpu()[live][:, live]
        norm = gram.diagonal().clamp(min=1e-12).sqrt()
        ecos = gram / (norm[:, None] * norm)  # Eq. 5
        ecos.fill_diagonal_(-1)
        if self.config.max_share is not None:
            share = torch.bincount(tree.labels.cpu(), minlength=len(tree.ids))[live] / len(tree.labels)
            full = share > self.config.max_share
            if int(full.sum()) < len(live) - 1:  # someone else is left to join
                ecos[:, full] = ecos[:, full] - 2
                iou = torch.where(full, torch.inf, iou)  # and it does not join another either
        weakest = (iou <= iou.min() + TIE).nonzero().squeeze(1)
        p = int(weakest[ecos[weakest].amax(dim=1).argmax()])
        q = int(ecos[p].argmax())
        return int(live[p]), int(live[q]), float(gram[p, q] / (norm[p] * norm[q]))

    # ---- results -------------------------------------------------------------------------------------------------

    def _clustering(self, tree: Tree) -> Clustering:
        """Every level from K0 to 2, read from the merges."""
        num_leaves = len(tree.merges) + 1
        ids, position = list(range(num_leaves)), list(range(num_leaves))  # position: leaf -> cluster id
        levels = {}
        for p, q, merged, iou, ecos in tree.merges:
            p, q, merged = int(p), int(q), int(merged)
            where = {name: i for i, name in enumerate(ids)}
            facts = {"min_iou": round(iou, 6), "weakest": p, "joins": q, "into": merged, "ecos": round(ecos, 6)}
            levels[len(ids)] = Partition(tuple(ids), tuple(ids), tuple(where[name] for name in position), facts)
            ids = [name for name in ids if name not in (p, q)] + [merged]
            position = [merged if name in (p, q) else name for name in position]
        V = torch.stack(tree.nodes)
        found = {"iou": [round(value, 6) for value in tree.node_iou]}
        return Clustering(leaf=tree.leaf, levels=levels, weight=V[:, :-1], bias=V[:, -1], facts=found)

    def default_cut(self, found: Clustering) -> int:
        """The number of clusters by min_iou, or automatic."""
        least = {k: float(level.facts["min_iou"]) for k, level in found.levels.items()}
        if self.config.min_iou is not None:
            return cut_by_iou(least, self.config.min_iou)
        return cut_automatic(least, self.config.auto_iou, self.config.auto_max)

    def _warn_of_snowball(self, tree: Tree, ctx: RunContext) -> None:
        last, most = self.config.snowball_levels, self.config.snowball_share
        sizes = torch.bincount(tree.leaf.cpu(), minlength=len(tree.merges) + 1).tolist()
        share = snowball_share(tree.merges, sizes, last)
        if len(tree.merges) >= last and share > most:
            ctx.warn(
                f"{share:.0%} of the last {last} merges went into the largest cluster: these features are "
                "barely separable; cut higher (k), or try max_share=0.5"
            )

    def _refit(self, found: Clustering, points: Points) -> Clustering:
        """A multinomial classifier for the first cut; the tree keeps its SVMs."""
        k = self.config.k if self.config.k is not None else self.default_cut(found)
        if k not in found.levels:
            return found
        level = found.levels[k]
        target = torch.tensor(level.leaves, device=found.leaf.device)[found.leaf]
        rows = list(level.rows)
        weight, bias = fit_softmax(
            points.x, target, found.weight[rows], found.bias[rows], self.config.refit_steps, self.config.refit_decay
        )
        first = len(found.weight)
        changed = Partition(
            level.ids, tuple(range(first, first + k)), level.leaves, {**level.facts, "classifier": "softmax"}
        )
        return Clustering(
            leaf=found.leaf,
            levels={**found.levels, k: changed},
            weight=torch.cat([found.weight, weight]),
            bias=torch.cat([found.bias, bias]),
            scale={k: 1.0},
            facts=found.facts,
        )

    # ---- resuming ------------------------------------------------------------------------------------------------

    def _save(self, tree: Tree, ctx: RunContext) -> None:
        if ctx.team.first:  # the others hold the same
            save_tree(ctx.folder / CHECKPOINT_FILE, {**vars(tree), "nodes": torch.stack(tree.nodes)})

    def _resumed(self, points: Points, ctx: RunContext) -> Tree | None:
        path = ctx.folder / CHECKPOINT_FILE
        if not path.exists():
            return None
        saved: dict[str, Any] = load_tree(path, points.x.device)
        tree = Tree(**{**saved, "nodes": list(saved["nodes"])})
        ctx.info(f"merging: resumed with {len(tree.live)} clusters left")
        return tree


# ---- pieces of the algorithm -------------------------------------------------------------------------------------


def cut_by_iou(least: dict[int, float], threshold: float) -> int:
    """The largest number of clusters at which the lowest IoU reaches the threshold; the best there is if none does."""
    reached = [k for k, iou in least.items() if iou >= threshold]
    return max(reached) if reached else max(least, key=lambda k: least[k])


def cut_automatic(least: dict[int, float], threshold: float, most: int) -> int:
    """The IoU rule with at most that many clusters."""
    return cut_by_iou({k: iou for k, iou in least.items() if k <= most} or least, threshold)


def unusual(iou: Tensor, sigmas: float = 1.0) -> Tensor:
    """Initial clusters to filter, [K] bool: logit(IoU) that many standard deviations below the mean (Sec. 3.2)."""
    logit = iou.double().clamp(LOGIT_EPS, 1 - LOGIT_EPS).logit()
    return logit < logit.mean() - sigmas * logit.std()


def snowball_share(merges: list[list[float]], sizes: list[int], levels: int = 20) -> float:
    """Share of the last `levels` merges (all but the very last) in which one partner was the largest cluster."""
    size = dict(enumerate(sizes))
    into_largest = []
    for p, q, merged, *_ in merges:
        largest = max(size, key=lambda name: size[name])
        into_largest.append(largest in (p, q))
        size[int(merged)] = size.pop(int(p)) + size.pop(int(q))
    last = into_largest[-levels:-1]
    return sum(last) / max(len(last), 1)


def fit_softmax(
    x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, steps: int = 100, decay: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """A linear softmax classifier by L-BFGS, from a starting point; [N, D], [N] int64, [K, D], [K]."""
    x = x.float()
    with torch.enable_grad():
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([w, b], max_iter=steps, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = F.cross_entropy(F.linear(x, w, b), labels) + decay * w.square().mean()
            value.backward()
            return value

        optimiser.step(loss)
    return w.detach(), b.detach()


def _solve_pair(tree: Tree, p: int, q: int, solver: SVMSolver) -> tuple[Tensor, Tensor]:
    """The SVM of two clusters together against the rest, and its scores."""
    in_p, in_q = tree.labels == p, tree.labels == q
    size_p, size_q = int(in_p.sum()), int(in_q.sum())
    y = signs(in_p | in_q)
    v, scores, _ = solver.solve(y, *_better_start(tree, p, q, size_p / (size_p + size_q), y, solver))
    return v, scores


def _better_start(tree: Tree, p: int, q: int, share: float, y: Tensor, solver: SVMSolver) -> tuple[Tensor, Tensor]:
    """Of two cheap guesses at the merged SVM the better: the size-weighted mean, or "p or q": their sum + 1."""
    mean = torch.lerp(tree.V[q], tree.V[p], share), torch.lerp(tree.scores[q], tree.scores[p], share)
    either = tree.V[p] + tree.V[q], tree.scores[p] + tree.scores[q] + 1
    either[0][-1] += 1
    return min((mean, either), key=lambda guess: solver.value(guess[0], guess[1], y))


def _assigned(x: Tensor, centres: Tensor, team: Team = ALONE) -> tuple[Tensor, Tensor]:
    """Nearest centre of every point, clusters by falling size, empty ones left out."""
    labels = assign(x, *centre_classifiers(centres), team)
    sizes = torch.bincount(labels, minlength=len(centres))
    order = sizes.argsort(descending=True, stable=True)
    order = order[sizes[order] > 0]
    place = torch.empty(len(centres), dtype=torch.int64, device=x.device)
    place[order] = torch.arange(len(order), device=x.device)
    return place[labels], centres[order]


def _lloyd(x: Tensor, centres: Tensor, steps: int, tol: float, team: Team = ALONE) -> Tensor:
    """k-means from given centres."""
    rows = blocks(len(x), SUMMED)
    for _ in range(steps):
        weight, bias = centre_classifiers(centres)
        sums = torch.zeros_like(centres)

        def nearest(part: slice, weight: Tensor = weight, bias: Tensor = bias) -> tuple[Tensor, Tensor]:
            block = x[part].float()
            labels = assign(block, weight, bias)
            return labels, torch.zeros_like(weight).index_add_(0, labels, block)

        found = list(team.map(nearest, rows, AT_ONCE))
        labels = torch.cat([own for own, _ in found])
        for _, part in found:
            sums += part
        sizes = torch.bincount(labels, minlength=len(centres))
        moved = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
        change = float((moved - centres).abs().max())
        centres = moved
        if change < tol:
            break
    return centres


def _ious(scores: Tensor, labels: Tensor) -> Tensor:
    """IoU of every cluster, [K] float64."""
    return torch.tensor([_iou(row, labels == k) for k, row in enumerate(scores)], dtype=torch.float64)


def _iou(scores: Tensor, inside: Tensor) -> float:
    """Eq. 4: of the SVM's positive points and the cluster's."""
    found = scores > 0
    return int((found & inside).sum()) / max(int((found | inside).sum()), 1)
