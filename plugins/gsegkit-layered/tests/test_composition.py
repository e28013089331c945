"""The perturbation: its geometry, what comes in from outside, contrast."""

import math

import pytest
import torch
from gsegkit_layered.composition import Perturbation, compose, jitter_contrast, perturbed, transform
from gsegkit_layered.networks import Layers


def still(count=1, **changes):
    values = {"scale": torch.ones(count), "angle": torch.zeros(count), "shift": torch.zeros(count, 2),
              "contrast": torch.ones(count)}  # fmt: skip
    return Perturbation(**(values | changes))


def draw(count, **changes):
    values = {"scale": 0.0, "rotation": 0.0, "shift": 0.0, "contrast": 0.0, "whole_pixels": False}
    return Perturbation.draw(count, 32, **(values | changes))


def blob(row, column, side=33):
    maps = torch.zeros(1, 1, side, side)
    maps[0, 0, row, column] = 1
    return maps


def peak(maps):
    return divmod(int(maps.flatten().argmax()), maps.shape[-1])


def test_nothing_happens_at_rest():
    maps = torch.rand(2, 4, 16, 16)
    assert torch.allclose(transform(maps, still(2)), maps, atol=1e-5)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 3), (-5, 2)])
def test_shifts_are_to_the_right_and_down_and_bring_in_zeros(right, down):
    maps = torch.rand(1, 2, 16, 16) + 1
    moved = transform(maps, still(shift=torch.tensor([[right / 16, down / 16]])))
    expected = torch.zeros_like(maps)
    rows, columns = range(16), range(16)
    for row in rows:
        for column in columns:
            if row - down in rows and column - right in columns:
                expected[:, :, row, column] = maps[:, :, row - down, column - right]
    assert torch.allclose(moved, expected, atol=1e-4)


def test_turns_are_counter_clockwise_about_the_centre():
    moved = transform(blob(16, 26), still(angle=torch.tensor([math.pi / 2])))
    assert peak(moved) == (6, 16)  # from the right of the centre to above it


def test_scales_keep_the_centre():
    assert peak(transform(blob(16, 16), still(scale=torch.tensor([1.5])))) == (16, 16)
    assert peak(transform(blob(16, 20), still(scale=torch.tensor([2.0])))) == (16, 24)
    full = transform(torch.ones(1, 1, 32, 32), still(scale=torch.tensor([0.5])))
    assert float(full.mean()) == pytest.approx(0.25, abs=0.02)  # half the side, and zeros around


def test_scale_comes_before_the_turn_and_the_turn_before_the_shift():
    t = still(
        scale=torch.tensor([0.5]), angle=torch.tensor([math.pi / 2]), shift=torch.tensor([[4 / 33, 0.0]])
    )  # fmt: skip
    assert peak(transform(blob(16, 26), t)) == (11, 20)  # 10 right -> 5 right -> 5 up -> 4 right


def test_each_image_has_its_own_draw_within_the_limits():
    torch.manual_seed(0)
    t = draw(4000, scale=0.2, rotation=10.0, shift=0.125, contrast=0.3)
    for values, low, high in (
        (t.scale, 0.8, 1.2),
        (t.angle, -math.radians(10), math.radians(10)),
        (t.shift, -0.125, 0.125),
        (t.contrast, 0.7, 1.3),
    ):
        assert low <= float(values.min()) < low + 0.01 * (high - low)
        assert high >= float(values.max()) > high - 0.01 * (high - low)
    assert t.shift.shape == (4000, 2)
    assert float(torch.corrcoef(t.shift.T)[0, 1].abs()) < 0.1


def test_whole_pixels():
    moves = draw(100, shift=0.125, whole_pixels=True).shift * 32
    assert torch.allclose(moves, moves.round(), atol=1e-5)
    assert moves.abs().max() == 4


def test_contrast_is_stretched_about_the_mean_within_the_own_range():
    b = torch.tensor([-0.5, 0.0, 0.5, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    # mean 0.25; differences -0.75 -0.25 0.25 0.75
    half = jitter_contrast(b, torch.tensor([0.5]))[0, 0].flatten()
    assert torch.allclose(half, torch.tensor([-0.125, 0.125, 0.375, 0.625]))
    more = jitter_contrast(b, torch.tensor([1.2]))[0, 0].flatten()
    assert torch.allclose(more, torch.tensor([-0.5, -0.05, 0.55, 1.0]))  # ends clamped


def test_composition_by_hand():
    def flat(value, channels=3):
        return torch.full((1, channels, 2, 2), value)

    layers = Layers(b=flat(-1.0), f=flat(1.0), m=flat(0.25, 1))
    assert torch.allclose(compose(layers), flat(-0.5))  # 0.75 * -1 + 0.25 * 1


def test_a_mask_that_covers_all_leaves_a_visible_edge():
    """What punishes all-as-foreground: the background shows where the moved object has left."""
    side = 8
    layers = Layers(
        b=torch.full((1, 3, side, side), -1.0), f=torch.ones(1, 3, side, side), m=torch.ones(1, 1, side, side)
    )
    x, m = perturbed(layers, still(shift=torch.tensor([[0.25, 0.0]])))
    assert torch.allclose(m[0, 0, :, :2], torch.zeros(side, 2), atol=1e-5)
    assert torch.allclose(x[0, :, :, :2], torch.full((3, side, 2), -1.0), atol=1e-5)
    assert torch.allclose(x[0, :, :, 2:], torch.ones(3, side, side - 2), atol=1e-5)
