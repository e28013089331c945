"""Section 9 of the study of the reference code: its own numbers, from its own functions."""

import pytest
import torch
from gsegkit_directions.losses import code_edges, code_prior, luma, printed_edges, printed_prior, sobel, terms


def distance(size):
    axis = torch.linspace(-1, 1, size)
    return torch.hypot(axis.expand(size, size), axis.view(-1, 1).expand(size, size))


@pytest.mark.parametrize(
    ("size", "mean", "centre", "edge", "corner"),
    [
        (64, 0.777269, -3.0193, 0.8914, 2.5478),
        (128, 0.771203, -3.0403, 0.9153, 2.5720),
        (256, 0.768192, -3.0506, 0.9273, 2.5841),
        (1024, 0.765943, -3.0582, 0.9362, 2.5931),
    ],
)
def test_code_prior(size, mean, centre, edge, corner):
    prior = -code_prior(size, size)  # the code's sign
    assert float(distance(size).mean()) == pytest.approx(mean, abs=2e-6)
    assert float(prior.min()) == pytest.approx(centre, abs=1e-4)
    assert float(prior[0, size // 2]) == pytest.approx(edge, abs=1e-4)
    assert float(prior[0, 0]) == pytest.approx(corner, abs=1e-4)
    assert float(prior.double().mean()) == pytest.approx(0, abs=1e-6)
    assert float((prior < 0).float().mean()) == pytest.approx(0.46, abs=0.005)


def test_printed_prior():
    prior = printed_prior(128, 128)
    assert float(prior.max()) == pytest.approx(0.9843, abs=1e-4)
    assert float(prior[0, 64]) == pytest.approx(-0.4143, abs=1e-4)
    assert float(prior[0, 0]) == pytest.approx(-1, abs=1e-6)
    assert float(prior.mean()) == pytest.approx(-0.0906, abs=1e-4)


def test_the_two_priors_are_one_up_to_scale_and_offset():
    code, printed = -code_prior(128, 128), printed_prior(128, 128)
    torch.testing.assert_close(code, -2.8284271 * printed + (2.8284271 - 4 * 0.7712029), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("shifted", "original", "prior", "edges"),
    [
        (lambda disc: torch.full_like(disc, 0.5), lambda disc: torch.zeros_like(disc), 0.0, 0.0),
        (lambda disc: disc, lambda disc: torch.zeros_like(disc), -0.67717, 0.05666),
        (lambda disc: -disc, lambda disc: torch.zeros_like(disc), 0.67717, 0.05666),
        (lambda disc: 1.5 * disc, lambda disc: disc, -1.01575, 0.01423),
    ],
)
def test_code_terms_with_weights_2_and_10(shifted, original, prior, edges):
    disc = torch.where(distance(128) < 0.5, 0.5, -0.5).expand(1, 3, 128, 128)
    term = terms("code", 128, 128)
    assert -2 * float(term.contrast(shifted(disc))) == pytest.approx(prior, abs=1e-5)
    before = term.edges(original(disc))
    assert 10 * float(term.edge_change(shifted(disc), before)) == pytest.approx(edges, abs=1e-5)


def test_code_edges_are_those_of_kornia():
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)
    found = code_edges(ramp)[0, 0] / 0.9999  # the luma's weights sum to that
    torch.testing.assert_close(found[:, 1:-1], torch.ones(16, 14), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 0], torch.full((16,), 0.5), atol=1e-5, rtol=0)
    step = (torch.arange(16) >= 8).float().expand(1, 3, 16, 16)
    row = code_edges(step)[0, 0, 5]
    assert row[7:9].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    assert row[[0, 5, 10]].tolist() == pytest.approx([0.001] * 3, abs=1e-6)


def test_sobel_is_the_correlation_with_the_plain_kernels():
    images = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    kernel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([-1.0, 0, 1]))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate").reshape(6, 1, 11, 13)
    for index, weights in enumerate((kernel, kernel.T)):
        wanted = torch.nn.functional.conv2d(padded, weights[None, None]).view(2, 3, 9, 11)
        torch.testing.assert_close(sobel(images)[:, index], wanted)
    squares = sobel(images).square().sum(dim=(1, 2))
    torch.testing.assert_close(printed_edges(images)[:, 0], squares)


def test_a_lighter_middle_is_positive_for_every_reading():
    disc = torch.where(distance(32) < 0.5, 0.5, -0.5).expand(1, 3, 32, 32)
    for reading in ("printed", "code"):
        term = terms(reading, 32, 32)
        assert float(term.contrast(disc)) > 0 > float(term.contrast(-disc))


def test_pictures_of_any_shape_have_a_prior_of_mean_zero():
    prior = code_prior(33, 47)
    assert prior.shape == (33, 47)
    assert abs(float(prior.double().mean())) < 1e-6
    assert prior.argmax() == 16 * 47 + 23


def test_relative_terms_do_not_know_the_contrast():
    disc = torch.where(distance(32) < 0.5, 0.5, -0.5).expand(1, 3, 32, 32)
    rows = []
    for contrast in (1.0, 0.1):
        term = terms("relative", 32, 32)
        before = term.edges(contrast * disc)
        term = term._replace(energy=float(term.edge_energy(before).mean()))
        shifted = 1.2 * contrast * disc
        rows.append([float(term.edge_change(shifted, before)), float(term.contrast(shifted))])
    assert rows[0] == pytest.approx(rows[1], rel=0.01)
    assert float(luma(torch.ones(1, 3, 2, 2))[0, 0, 0, 0]) == pytest.approx(0.9999)
