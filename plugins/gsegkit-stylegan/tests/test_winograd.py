"""The convolution with fewer multiplications equals the direct one, and is not taken where a gradient is asked."""

import pytest
import torch
import torch.nn.functional as F
from gsegkit_stylegan.networks import winograd as module
from gsegkit_stylegan.networks.winograd import conv3x3, winograd


@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 1), (7, 13, 1), (3, 5, 2), (9, 6, 0), (70, 66, 1)])
def test_it_equals_the_direct_convolution_at_any_size(height, width, padding):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64, generator=generator)
    made = winograd(x.contiguous(memory_format=torch.channels_last), weight, padding)
    torch.testing.assert_close(made, F.conv2d(x, weight, padding=padding), atol=1e-12, rtol=0)


def test_kernels_in_blocks_are_the_same(monkeypatch):
    x, weight = torch.randn(1, 8, 12, 12, dtype=torch.float64), torch.randn(6, 8, 3, 3, dtype=torch.float64)
    whole = winograd(x, weight)
    monkeypatch.setattr(module, "BLOCK", 6 * 8 * 8 * 5)  # five of 36 rows at a time
    torch.testing.assert_close(winograd(x, weight), whole, atol=1e-12, rtol=0)


def test_rounding_in_single_precision_is_a_few_times_that_of_the_direct_sum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 128, 24, 24, generator=generator)
    weight = torch.randn(64, 128, 3, 3, generator=generator) / 128
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = (conv3x3(x, weight) - exact).abs().max() / exact.std()
    direct = (F.conv2d(x, weight, padding=1) - exact).abs().max() / exact.std()
    assert direct < error < 1e-4  # larger: it was the other way


def test_gradients_go_through_the_direct_convolution():
    x = torch.randn(1, 64, 24, 24, requires_grad=True)
    weight, bias = torch.randn(64, 64, 3, 3), torch.randn(64)
    made = conv3x3(x, weight, bias)
    assert torch.equal(made, F.conv2d(x, weight, bias, padding=1))
    (gradient,) = torch.autograd.grad(made.sum(), x)
    assert gradient.abs().min() > 0
    torch.testing.assert_close(conv3x3(x.detach(), weight, bias), made.detach(), atol=5e-3, rtol=0)
