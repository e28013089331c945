"""One-versus-rest L2-SVMs (Eq. 3 of Xu, Zhang and Hu), solved to the optimum by Newton steps on working sets.

    f(w, b) = 1/2 |w|^2 + lambda sum_n max(0, 1 - y_n (w.x_n + b))^2,      lambda = C / N

Only points with y (w.x + b) < 1 enter the gradient and the Hessian; at the optimum they are a few in a hundred. So a
problem is solved on a working set, the points of least margin; one pass over all points then shows which others violate
the margin, and they join it, until there are none. What comes out is the optimum over all points, not over a sample.
Before that a rough solution, on the points that the starting point takes for those, says which they will be.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsegkit.distributed.team import ALONE, Team

WORKING = 2.0  # a first working set has this many times the points inside the margin
WORKING_MIN = 4  # and at least this many points per feature
ROUGH = 1e-2  # accuracy of the solution by which the working set is chosen
EXACT = 1e-3  # closer than this to the optimum, gradients are summed over points: the Hessian's own are rounded
NEAR = 0.1  # points this close to the margin join together with those that violate it
SEARCH_STEPS = 8  # most steps of a line search
SEARCH_TOL = 1e-2  # and its accuracy
JITTER = 1e-6  # added to the Hessian's diagonal, relative to its mean: the bias has no penalty of its own
GRAM_BLOCKS = 4  # a Gram matrix is made in this many strips
BLOCK = 1 << 24  # numbers in the largest temporary of a pass over all points


class SVMSolver:
    """Solves SVMs on fixed points.

    A classifier is one vector v = (w, b), [D + 1] float32.

    Attributes:
        x: [N, D] float32, float16 or bfloat16; may be mapped from a file.
        lam: C / N.
        tol: relative accuracy: half the squared Newton decrement over f, an estimate of the gap to the optimum.
        rounds: most working sets of one problem; 2 or 3 is what happens.
        steps: most Newton steps on one working set; about 10 is what happens.
        team: the processes among which the classes of `solve_all` are divided; all hold the same points.
    """

    def __init__(self, x: Tensor, C: float, tol: float, rounds: int = 30, steps: int = 60, team: Team = ALONE) -> None:
        self.x, self.team = x, team
        self.rounds, self.steps = rounds, steps
        self.lam = C / len(x)
        self.tol = tol
        self._rows = Workspace(x.shape[1] + 1, x.device)
        self._active = Workspace(x.shape[1] + 1, x.device)

    # ---- problems ------------------------------------------------------------------------------------------------

    def solve_all(
        self, labels: Tensor, num_classes: int, tick: Callable[[int], None] = lambda done: None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One SVM for each class against the rest.

        Args:
            labels: [N] int64.
            num_classes: K.
            tick: called with the number of problems solved so far.

        Returns:
            V [K, D + 1] float32, scores [K, N] float32, and values f [K] float64.
        """
        V = self.ridge(labels, num_classes)
        scores = self.scores(V)
        values = torch.zeros(num_classes, dtype=torch.float64)
        working: list[Tensor | None] = [None] * num_classes

        def begin(k: int) -> tuple[Tensor]:
            y = signs(labels == k)
            return (self.rough(y, *self.rescale(V[k], scores[k], y)),)

        for k, (v,) in enumerate(self.team.map(begin, range(num_classes))):
            V[k] = v
            tick(0)
        scores = self.scores(V)
        open_ = list(range(num_classes))

        def improve(k: int) -> tuple[Tensor, ...]:
            y = signs(labels == k)
            rows = self.extend(working[k], y, scores[k])
            if rows is None:
                return ()
            v, value = self.newton(rows, y, V[k], scores[k])
            return v, torch.tensor(value, dtype=torch.float64), rows

        for _ in range(self.rounds):
            still_open = []
            for k, found in zip(open_, self.team.map(improve, open_), strict=True):
                if not found:
                    tick(num_classes - len(open_) + 1)
                    continue
                V[k], values[k], working[k] = found
                still_open.append(k)
            open_ = still_open
            if not open_:
                break
            scores[open_] = self.scores(V[open_])
        return V, scores, values

    def solve(self, y: Tensor, v: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, float]:
        """One SVM from a starting point.

        Args:
            y: [N] float32, +1 or -1.
            v: [D + 1] float32, where to start.
            scores: [N] float32, its scores.

        Returns:
            v, scores and f at the optimum.
        """
        v = self.rough(y, *self.rescale(v, scores, y))
        scores = self.scores(v[None])[0]
        working, value = None, 0.0
        for _ in range(self.rounds):
            rows = self.extend(working, y, scores)
            if rows is None:
                break
            v, value = self.newton(rows, y, v, scores)
            working = rows
            scores = self.scores(v[None])[0]
        return v, scores, value

    def value(self, v: Tensor, scores: Tensor, y: Tensor) -> float:
        """The objective f over all points."""
        hinge = (1 - y * scores).clamp_(min=0)
        return 0.5 * float(v[:-1] @ v[:-1]) + self.lam * float(hinge @ hinge)

    def scores(self, V: Tensor) -> Tensor:
        """[K, D + 1] -> [K, N] float32: one pass over all points."""
        w, b = V[:, :-1], V[:, -1:]
        if self.x.dtype == torch.float32:
            return torch.addmm(b, w, self.x.T)
        blocks = torch.split(self.x, max(1, BLOCK // self.x.shape[1]))
        return torch.cat([torch.addmm(b, w, block.float().T) for block in blocks], dim=1)

    # ---- starting points -----------------------------------------------------------------------------------------

    def ridge(self, labels: Tensor, num_classes: int) -> Tensor:
        """Least squares to +1 / -1, [K, D + 1]: all points count, so that one Hessian serves every class."""
        d = self.x.shape[1]
        gram = torch.zeros(d + 1, d + 1, device=self.x.device)
        sums = torch.zeros(num_classes, d + 1, device=self.x.device)
        size = max(1, BLOCK // d)

        def products(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            block, label = part
            rows = self._rows.take(block, torch.arange(len(block), device=block.device))
            return lower_gram(rows), torch.zeros_like(sums).index_add_(0, label, rows)

        parts = list(zip(torch.split(self.x, size), torch.split(labels, size), strict=True))
        for products_of_rows, sums_of_rows in self.team.map(products, parts):
            gram += products_of_rows
            sums += sums_of_rows
        total = sums.sum(dim=0)
        hessian = 2 * self.lam * gram
        hessian.diagonal()[:-1] += 1
        target = 2 * self.lam * (2 * sums - total)
        factor = cholesky(hessian)
        return torch.cholesky_solve(target.T, factor).T.contiguous()

    def rescale(self, v: Tensor, scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The a v + (0, b) of least f and its scores: Newton's method in two numbers, on the scores alone."""
        ww, a, b = float(v[:-1] @ v[:-1]), 1.0, 0.0
        for _ in range(SEARCH_STEPS):
            hinge = 1 - y * (a * scores + b)
            inside = (hinge > 0).nonzero().squeeze(1)
            s, h = scores[inside], (hinge * y)[inside]
            g_a, g_b = a * ww - 2 * self.lam * float(s @ h), -2 * self.lam * float(h.sum())
            h_aa = ww + 2 * self.lam * float(s @ s)
            h_ab, h_bb = 2 * self.lam * float(s.sum()), 2 * self.lam * len(s)
            determinant = h_aa * h_bb - h_ab * h_ab
            if determinant <= 1e-12 * h_aa * max(h_bb, 1e-12):
                break
            step_a = (h_bb * g_a - h_ab * g_b) / determinant
            a -= step_a
            b -= (h_aa * g_b - h_ab * g_a) / determinant
            if abs(step_a) < SEARCH_TOL * abs(a):
                break
        v = a * v
        v[-1] += b
        return v, a * scores + b

    def rough(self, y: Tensor, v: Tensor, scores: Tensor) -> Tensor:
        """A v near the optimum, from the points of least margin."""
        return self.newton(self.nearest(y * scores), y, v, scores, ROUGH)[0]

    # ---- working sets --------------------------------------------------------------------------------------------

    def extend(self, rows: Tensor | None, y: Tensor, scores: Tensor) -> Tensor | None:
        """The next working set as [m] int64; None when no point outside `rows` is inside the margin: solved."""
        slack = y * scores
        if rows is None:
            return self.nearest(slack)
        slack[rows] = torch.inf
        if not bool((slack < 1).any()):
            return None
        new = (slack < 1 + NEAR).nonzero().squeeze(1)
        return torch.cat([rows, new]).sort().values

    def nearest(self, slack: Tensor) -> Tensor:
        """A first working set, the points of least margin, as [m] int64."""
        count = max(int(WORKING * int((slack < 1).sum())), WORKING_MIN * self.x.shape[1])
        if count >= len(slack):
            return torch.arange(len(slack), device=slack.device)
        return slack.topk(count, largest=False, sorted=False).indices.sort().values

    def newton(
        self, rows: Tensor, y: Tensor, v: Tensor, scores: Tensor, tol: float | None = None
    ) -> tuple[Tensor, float]:
        """Minimise f over a working set ([m] int64) by Newton steps with an exact line search."""
        lam, tol = self.lam, tol or self.tol
        x, y, s = self._rows.take(self.x, rows), y[rows], scores[rows]
        inside = Inside(x, y, lam, self._active)
        value, near = 0.0, False
        for _ in range(self.steps):
            hinge = (1 - y * s).clamp_(min=0)
            inside.become(hinge > 0)
            value = 0.5 * float(v[:-1] @ v[:-1]) + lam * float(hinge @ hinge)
            if near:
                gradient = torch.mv(x.T, y * hinge).mul_(-2 * lam)
                gradient[:-1] += v[:-1]
            else:
                gradient = inside.gradient(v)
            step = -torch.cholesky_solve(gradient[:, None], cholesky(inside.hessian)).squeeze(1)
            decrement = -float(gradient @ step)
            if decrement <= 2 * tol * value and (near or tol >= EXACT):
                break
            near = decrement <= EXACT * value
            change = torch.mv(x, step)
            t = self._line_search(v, step, 1 - y * s, y * change)
            v = torch.add(v, step, alpha=t)
            s = torch.add(s, change, alpha=t)
        return v, value

    def _line_search(self, v: Tensor, step: Tensor, hinge: Tensor, change: Tensor) -> float:
        """The t that minimises f(v + t step); f is quadratic between the points where a row enters or leaves."""
        slope0, curve0 = float(v[:-1] @ step[:-1]), float(step[:-1] @ step[:-1])
        t = 1.0
        for _ in range(SEARCH_STEPS):
            left = torch.add(hinge, change, alpha=-t).clamp_(min=0)
            moved = change * (left > 0)
            slope = slope0 + t * curve0 - 2 * self.lam * float(moved @ left)
            curve = curve0 + 2 * self.lam * float(moved @ change)
            t -= slope / curve
            if abs(slope / curve) < SEARCH_TOL * abs(t):
                break
        return t


class Inside:
    """f's second-order model for the points inside the margin, kept up to date where only a few come or go.

    Attributes:
        hessian: I + 2 lambda X^T X over those points, lower triangle (the bias has no penalty).
        pull: 2 lambda X^T y over them: their gradient is hessian v - pull.
    """

    def __init__(self, x: Tensor, y: Tensor, lam: float, workspace: Workspace) -> None:
        self.x, self.y, self.lam, self.workspace = x, y, lam, workspace
        self._clear()

    def _clear(self) -> None:
        self.points = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)
        self.hessian = torch.diag(self.x.new_ones(self.x.shape[1]))
        self.hessian[-1, -1] = 0
        self.pull = self.x.new_zeros(self.x.shape[1])

    def become(self, points: Tensor) -> None:
        """Take [m] bool for the points inside."""
        come, go = (points & ~self.points).nonzero().squeeze(1), (self.points & ~points).nonzero().squeeze(1)
        if 2 * (len(come) + len(go)) >= int(points.sum()):  # cheaper, and exact, from the start
            self._clear()
            come, go = points.nonzero().squeeze(1), go[:0]
        for rows, weight in ((come, 2 * self.lam), (go, -2 * self.lam)):
            if len(rows):
                x = self.workspace.take(self.x, rows)
                self.hessian.add_(lower_gram(x), alpha=weight)
                self.pull.add_(torch.mv(x.T, self.y[rows]), alpha=weight)
        self.points = points

    def gradient(self, v: Tensor) -> Tensor:
        """Of f at v, [D + 1]."""
        return torch.mv(self.hessian.tril() + self.hessian.tril(-1).T, v) - self.pull


class Workspace:
    """Memory for copies of rows with a one appended, used again and again: fresh pages cost more than the copying."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._memory = torch.empty(0, width, device=device)

    def take(self, x: Tensor, rows: Tensor) -> Tensor:
        """Rows of x, [m, width] float32, valid until the next call; x has `width` columns or one less."""
        if len(rows) > len(self._memory):
            self._memory = self._memory.new_empty(len(rows) + len(rows) // 4, self._memory.shape[1])
        found = self._memory[: len(rows)]
        width = x.shape[1]
        if x.dtype == found.dtype:
            torch.index_select(x, 0, rows, out=found[:, :width])
        else:
            found[:, :width] = x.index_select(0, rows)
        found[:, width:] = 1
        return found


def signs(inside: Tensor) -> Tensor:
    """[N] bool -> +1 where true, else -1, float32."""
    return inside.float().mul_(2).sub_(1)


def lower_gram(rows: Tensor) -> Tensor:
    """Lower triangle of rows^T rows, [m, d] float32 -> [d, d]; what stands above the diagonal is of no meaning."""
    d = rows.shape[1]
    gram = rows.new_empty(d, d)
    size = -(-d // GRAM_BLOCKS)  # torch has no symmetric product: leave out the blocks above the diagonal
    for i in range(0, d, size):
        gram[i : i + size, i + size :] = 0
        torch.mm(rows[:, i : i + size].T, rows[:, : i + size], out=gram[i : i + size, : i + size])
    return gram


def cholesky(hessian: Tensor) -> Tensor:
    """Cholesky factor [d, d] from the lower triangle, with jitter; in float64 when float32 does not suffice."""
    jitter = JITTER * float(hessian.diagonal().mean())
    shifted = hessian.clone()
    shifted.diagonal()[-1] += jitter
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if not int(failed):
        return factor
    exact = shifted.double()
    for _ in range(6):
        exact.diagonal().add_(jitter)
        factor, failed = torch.linalg.cholesky_ex(exact)
        if not int(failed):
            return factor.float()
        jitter *= 10
    raise ArithmeticError("the Hessian of an SVM is not positive definite")
