"""A step of several processes is the step of one: batch statistics, losses, gradients, in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsegkit.context import RunContext
from gsegkit.distributed.team import Team
from gsegkit.testing import Listener
from gsegkit.testing.processes import together
from gsegkit.training import add_gradients, common_statistics, rows_of, summed, whole_batches

ROWS = 7


class Plain(nn.BatchNorm2d):
    """A layer of another library, which calls the function itself, as timm's do."""

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.2, self.eps
        )


class Own(nn.Module):
    """A layer that takes mean and variance itself."""

    def forward(self, x):
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        return (x - mean[:, None, None]) * (var[:, None, None] + 0.1).rsqrt()


def step(team):
    """Loss, gradients and running statistics of one step on this process's rows."""
    draw = torch.Generator().manual_seed(0)
    images = 100 + 3 * torch.randn(ROWS, 3, 6, 6, generator=draw, dtype=torch.float64)
    targets = torch.randn(ROWS, 2, 1, 1, generator=draw, dtype=torch.float64)
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 4, 3), Plain(4), nn.Tanh(), Own(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2, affine=False))
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2)).double()
    rows = rows_of(team, ROWS)
    with common_statistics(team):
        found = net(images[rows])
    cost, count = summed(team, torch.stack([(found - targets[rows]).square().sum(), torch.tensor(found.numel() * 1.0)]))
    loss = cost / count
    (loss + loss**2).backward()
    add_gradients(team, net.parameters())
    return [loss.detach(), *(p.grad for p in net.parameters()), *net.buffers()]


def test_a_step_of_several_processes_is_that_of_one():
    whole = step(Team())
    for size in (2, 3):
        first, *others = together(size, lambda team: [each.numpy() for each in step(team)])
        for mine in others:
            assert all((one == other).all() for one, other in zip(first, mine, strict=True)), "the same bits in all"
        for one, other in zip(whole, first, strict=True):
            torch.testing.assert_close(one, torch.from_numpy(other), rtol=1e-10, atol=1e-10, check_dtype=False)


def test_statistics_of_a_process_alone_would_be_others():
    def apart(team):
        torch.manual_seed(1)
        layer = nn.BatchNorm1d(1).double()
        x = torch.tensor([[1.0], [2.0], [5.0], [9.0]], dtype=torch.float64)
        with common_statistics(team):
            shared = layer(x[rows_of(team, 4)])
        return shared.detach().numpy(), layer(x[rows_of(team, 4)]).detach().numpy()

    for shared, own in together(2, apart):
        assert abs(shared - own).max() > 0.1


def test_evaluation_uses_the_running_statistics():
    layer = nn.BatchNorm2d(2).eval()
    layer.running_mean += 3
    images = torch.randn(4, 2, 3, 3)

    def work(team):
        with common_statistics(team), torch.no_grad():
            return layer(images[rows_of(team, 4)]).numpy()

    parts = together(2, work)
    torch.testing.assert_close(torch.cat([torch.from_numpy(part) for part in parts]), layer(images).detach())


def test_rows_are_neighbours_and_all_of_them():
    class Of(Team):
        def __init__(self, rank, size):
            self.rank, self.size = rank, size

    for size in range(1, 9):
        parts = [range(ROWS)[rows_of(Of(rank, size), ROWS)] for rank in range(size)]
        assert [row for part in parts for row in part] == list(range(ROWS))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_batch_that_is_too_small_is_left_to_the_first(batch_size, tmp_path):
    def work(team):
        said = Listener()
        found = whole_batches(RunContext(tmp_path, team=team, progress=said), batch_size, "segmenter")
        return None if found is None else found.team.size, said.warnings

    first, second, third = together(3, work)
    if batch_size == 3:
        assert [first, second, third] == [(3, [])] * 3
    else:
        assert (first[0], second, third) == (1, (None, []), (None, []))
        assert f"segmenter: a batch of {batch_size} cannot be divided among 3 processes" in first[1][0]
