"""A training step of several processes: each has its rows of the batch, and all take the step that one would take.

A loss is made of sums over the whole batch (`summed`), so that the gradients of the processes add up to those of one
(`add_gradients`), and batch normalisation sees the whole batch (`common_statistics`). What one process computes is not
touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gsegkit.context import RunContext
from gsegkit.distributed.team import Team
from gsegkit.errors import ConfigError

OVER_ROWS = {"dim": (0, 2, 3), "correction": 0}  # of `torch.var_mean`: the statistics of a batch of maps


def whole_batches(ctx: RunContext, batch_size: int, name: str) -> RunContext | None:
    """The context of a training whose batches the processes divide.

    Where a batch has fewer rows than there are processes, the first one trains alone, and the others get None: they
    have nothing to do.
    """
    if batch_size >= ctx.team.size:
        return ctx
    if not ctx.team.first:
        return None
    ctx.warn(
        f"{name}: a batch of {batch_size} cannot be divided among {ctx.team.size} processes, so the first trains "
        "alone; raise batch_size"
    )
    return ctx.alone()


def check_divides(team: Team, batch_size: int) -> None:
    """Refuse a batch that has fewer rows than there are processes.

    Raises:
        ConfigError: it does.
    """
    if batch_size < team.size:
        raise ConfigError(
            f"a batch of {batch_size} cannot be divided among {team.size} processes",
            f"set batch_size to {team.size} or more, or start fewer processes",
        )


def rows_of(team: Team, count: int) -> slice:
    """This process's rows of a batch: neighbours, of all processes as many up to one.

    Example:
        >>> rows_of(Team(), 5)
        slice(0, 5, None)
    """
    least, more = divmod(count, team.size)
    start = team.rank * least + min(team.rank, more)
    return slice(start, start + least + (team.rank < more))


def summed(team: Team, values: Tensor) -> Tensor:
    """Sum over the processes; its gradient is that of this process's own part, see `add_gradients`."""
    if team.alone:
        return values
    found: Tensor = _Sum.apply(values, team)
    return found


def whole_mean(team: Team, values: Tensor, count: int) -> Tensor:
    """Mean over the `count` rows of all processes, of [n, ...] values of this process's rows; see `summed`."""
    return values.mean() if team.alone else summed(team, values.sum()) / (count * values[0].numel())


def whole_rows(team: Team, values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Values of all rows of a batch in their order, without gradients: [n, ...] -> [count, ...].

    Args:
        team: all must call it.
        values: of this process's rows.
        rows: which ones they are, [n] int64.
        count: rows of the batch.
    """
    if team.alone:
        return values.detach()
    every = values.new_zeros(count, *values.shape[1:])
    every[rows] = values.detach()
    return team.sum(every)


def add_gradients(team: Team, parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of a loss that was made of `summed` parts by their sum over the processes, in one message.

    All processes must give the same parameters; those without a gradient stay so.
    """
    found = [] if team.alone else [parameter.grad for parameter in parameters if parameter.grad is not None]
    kinds = {(grad.dtype, grad.device): None for grad in found}
    for kind in kinds:
        grads = [grad for grad in found if (grad.dtype, grad.device) == kind]
        total = team.sum(torch.cat([grad.flatten() for grad in grads]))
        parts = torch.split(total, [grad.numel() for grad in grads])
        torch._foreach_copy_(grads, [part.view_as(grad) for part, grad in zip(parts, grads, strict=True)])


def common_statistics(team: Team) -> contextlib.AbstractContextManager[Any]:
    """Around a forward pass: batch normalisation sees the rows of all processes, see `CommonStatistics`."""
    return contextlib.nullcontext() if team.alone else CommonStatistics(team)


class CommonStatistics(TorchFunctionMode):
    """Within it, batch normalisation in training takes mean and variance over the rows of all processes.

    It acts on `torch.nn.functional.batch_norm`, which the layers of all libraries call, and on `torch.var_mean` as in
    `OVER_ROWS`, which layers of our own call. No layer is replaced, so names of tensors stay what they are. All
    processes must run the same layers, each with at least one row.

    `torch.nn.SyncBatchNorm` is not used: it needs GPUs, and timm has layers of its own.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team = team

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `torch.overrides.TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _batch_norm(self.team, *args, **kwargs)
        dim = kwargs.get("dim")
        if func is torch.var_mean and isinstance(dim, list | tuple) and {**kwargs, "dim": tuple(dim)} == OVER_ROWS:
            return _VarMean.apply(*args, self.team)
        return func(*args, **kwargs)


def _batch_norm(
    team: Team,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm` with common statistics in training."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    shape = (1, -1, *[1] * (input.ndim - 2))
    exact = input if input.dtype == torch.float64 else input.float()
    normal, mean, variance, count = _Normalise.apply(exact, team, eps)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    if weight is not None:
        normal = normal * weight.reshape(shape)
    if bias is not None:
        normal = normal + bias.reshape(shape)
    result: Tensor = normal.to(input.dtype)
    return result


class _Sum(torch.autograd.Function):
    """Forward the sum over the processes, backward the gradient as it is."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, team: Team) -> Tensor:
        return team.sum(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) with mean and variance over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Team, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [dim for dim in range(x.ndim) if dim != 1]
        shape = (1, -1, *[1] * (x.ndim - 2))
        variance, mean, count = _moments(team, x, dims)
        scale = (variance + eps).rsqrt().to(x.dtype)
        normal = (x - mean.to(x.dtype).reshape(shape)) * scale.reshape(shape)
        ctx.save_for_backward(normal, scale, count)
        ctx.team, ctx.dims, ctx.shape = team, dims, shape
        ctx.mark_non_differentiable(mean, variance, count)
        return normal, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        normal, scale, count = ctx.saved_tensors
        sums = torch.stack([gradient.sum(dim=ctx.dims), (gradient * normal).sum(dim=ctx.dims)])
        mean, along = (ctx.team.sum(sums) / count.to(sums.dtype)).reshape(2, *ctx.shape).unbind()
        return (gradient - mean - normal * along) * scale.reshape(ctx.shape), None, None


class _VarMean(torch.autograd.Function):
    """`torch.var_mean` of [N, C, h, w] over all but the channels, over all processes: two tensors [C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Team) -> tuple[Tensor, Tensor]:
        variance, mean, count = _moments(team, x, [0, 2, 3])
        variance, mean = variance.to(x.dtype), mean.to(x.dtype)
        ctx.save_for_backward(x, mean, count)
        ctx.team = team
        return variance, mean

    @staticmethod
    def backward(ctx: Any, of_variance: Tensor, of_mean: Tensor) -> tuple[Tensor, None]:
        x, mean, count = ctx.saved_tensors
        sums = ctx.team.sum(torch.stack([of_variance, of_mean])) / count.to(x.dtype)
        of_variance, of_mean = sums[..., None, None].unbind()
        return 2 * (x - mean[:, None, None]) * of_variance + of_mean, None


def _moments(team: Team, x: Tensor, dims: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Variance [C], mean [C] and number of values of each channel, over all processes, in float64."""
    # Sums of squares about each process's own mean: about zero they would cancel.
    variance, own = torch.var_mean(x, dim=dims, correction=0)
    channels = x.shape[1]
    parts = torch.zeros(team.size, 2, channels + 1, device=x.device, dtype=torch.float64)
    parts[team.rank, 0, :-1], parts[team.rank, 1, :-1] = own, variance
    parts[team.rank, 0, -1] = x.numel() // channels
    parts = team.sum(parts)  # each process fills its own place
    means, variances, counts = parts[:, 0, :-1], parts[:, 1, :-1], parts[:, 0, -1:]
    count = counts.sum()
    mean = (counts * means).sum(dim=0) / count
    return (counts * (variances + (means - mean).square())).sum(dim=0) / count, mean, count
