"""The augmentations and their controller."""

import pytest
import torch
from gsegkit_stylegan.training import ada
from gsegkit_stylegan.training.ada import MAX_P, AdaController, augment

KINDS = ("blit", "geometry", "colour")


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def photographs(n=32, side=16):
    return torch.rand(n, 3, side, side, generator=draw(9)) * 2 - 1


def test_nothing_happens_at_zero():
    images = photographs()
    assert augment(images, 0.0, KINDS, draw()) is images


def test_the_same_generator_gives_the_same_images():
    a, b = (augment(photographs(), 0.5, KINDS, draw(4)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, augment(photographs(), 0.5, KINDS, draw(5)))


@pytest.mark.parametrize("kind", KINDS)
def test_about_the_right_share_is_touched(kind):
    """Three to five coins (some throws of blit are identities) at p = 0.1."""
    images = photographs(400)
    touched = (augment(images, 0.1, (kind,), draw()) - images).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 0.1 < touched.float().mean() < 0.55


def only(*wanted):
    """Draws in which all but the named kinds are the identity's."""

    class Only(ada._Draws):
        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if name in ("normal", "uniform", "integer") and name not in wanted:
                return lambda *args: torch.zeros(self.n)
            if name in ("normals", "uniforms") and name not in wanted:
                return lambda *args: tuple(torch.zeros(2, self.n))
            return value

    return Only(20_000, 0.25, draw())


@pytest.mark.parametrize(("kind", "shift"), [("blit", "uniforms"), ("geometry", "normals")])
def test_one_coin_moves_both_axes(kind, shift):
    """A shift is one transformation: a quarter of the images move, and those along both axes."""
    x, y = ada._geometry(only(shift), (kind,), 512)[:, :2, 2].unbind(1)
    moved = (x != 0) | (y != 0)
    assert moved.float().mean() == pytest.approx(0.25, abs=0.01)
    assert ((x != 0) & (y != 0))[moved].float().mean() > 0.97, "no coin of its own for each axis"
    assert abs(torch.corrcoef(torch.stack([x[moved], y[moved]]))[0, 1]) < 0.05


def test_two_rotations_share_one_probability():
    """Of the images, p are turned before or after the stretch."""
    matrix = ada._geometry(only("uniform"), ("geometry",), 64)
    turned = (matrix[:, :2, :2] - torch.eye(2)).abs().amax(dim=(1, 2)) > 1e-6
    assert turned.float().mean() == pytest.approx(0.25, abs=0.01)


def test_blit_moves_pixels_and_makes_none():
    """Flips, quarter turns and whole-pixel shifts: every value of the result was there before."""
    images = photographs(24)
    moved = augment(images, 1.0, ("blit",), draw())
    assert (moved - images).abs().max() > 0.5
    for before, after in zip(images, moved, strict=True):
        colours = before.flatten(1).T
        distance = torch.cdist(after.flatten(1).T, colours).min(dim=1).values
        assert distance.max() < 1e-3


def test_a_flip_is_a_flip():
    matrix = ada._scaling(torch.tensor([-1.0]), torch.tensor([1.0]))
    images = photographs(1)
    torch.testing.assert_close(ada._warp(images, matrix[:, :2]), images.flip(3), atol=1e-5, rtol=0)


def test_colour_is_affine_and_keeps_the_grey_axis_in_expectation():
    images = photographs(4)
    seed = 3
    a = augment(images, 1.0, ("colour",), draw(seed))
    b = augment(images * 0.5, 1.0, ("colour",), draw(seed))
    zero = augment(images * 0, 1.0, ("colour",), draw(seed))
    torch.testing.assert_close(b, (a + zero) / 2, atol=1e-5, rtol=0)


def test_hue_and_saturation_keep_brightness():
    """Without brightness, contrast and luma flip, the mean over RGB stays."""

    class Only(ada._Draws):
        def normal(self, std):
            return super().normal(std) if std == 1.0 else torch.zeros(self.n)

        def integer(self, high):
            return torch.zeros(self.n)

    images = photographs(8)
    turned = ada._recolour(images, ada._colour(Only(8, 1.0, draw())))
    assert (turned - images).abs().max() > 0.1
    torch.testing.assert_close(turned.mean(dim=1), images.mean(dim=1), atol=1e-5, rtol=0)


def test_gradients_reach_the_images():
    images = photographs(4).requires_grad_()
    augment(images, 0.8, KINDS, draw()).sum().backward()
    assert images.grad.abs().sum(dim=(1, 2, 3)).min() > 0


def test_the_controller_follows_the_signs():
    controller = AdaController(target=0.6, kimg=1.0, interval=4, batch_size=8)
    for step in range(8):
        controller.update(step, torch.ones(8))
    assert controller.p == pytest.approx(2 * 4 * 8 / 1000)
    assert controller.r_t == 1.0
    for step in range(8, 12):
        controller.update(step, torch.tensor([1.0, -1.0] * 4))
    assert controller.p == pytest.approx(1 * 4 * 8 / 1000)
    for step in range(12, 4000):
        controller.update(step, torch.ones(8))
    assert controller.p == MAX_P


def test_the_controller_can_stop_in_the_middle_of_an_interval():
    whole = AdaController(0.6, 1.0, 4, 8)
    first = AdaController(0.6, 1.0, 4, 8)
    logits = torch.randn(20, 8, generator=draw())
    for step in range(20):
        whole.update(step, logits[step])
    for step in range(6):
        first.update(step, logits[step])
    second = AdaController(0.6, 1.0, 4, 8)
    second.load_state_dict(first.state_dict())
    for step in range(6, 20):
        second.update(step, logits[step])
    assert second.state_dict() == whole.state_dict()


def test_the_controller_reads_logits_only_when_p_changes():
    """Reading a number stalls a GPU; a saved state misses none for it."""
    controller = AdaController(0.6, 1.0, 4, 8)
    for step in range(3):
        controller.update(step, torch.tensor([1.0, -1.0, 1.0, 1.0]))
    assert controller.signs == 0
    assert controller.state_dict() == {"p": 0.0, "signs": 1.5, "count": 3, "r_t": 0.0}


def test_no_target_no_augmentation():
    controller = AdaController(0.0, 1.0, 4, 8, start=0.5)
    controller.update(3, torch.ones(8))
    assert controller.p == 0.0
