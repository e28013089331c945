import pytest
import torch
from gsegkit_refine import colours
from gsegkit_refine.colours import Colours, EdgeMean, Mixtures, Picture, sharpen, side_by_side
from gsegkit_refine.config import ColoursConfig

from gsegkit.types import LabelledBatch

SIDE = 64
SURE = 0.75  # of the prior, inside the region that it believes in


def disks():
    """A cell with its nucleus: truth [H, W], and a prior whose disks are moved and too large, [3, H, W]."""
    axis = torch.arange(SIDE) + 0.5

    def disk(y, x, radius):
        return (axis[:, None] - y) ** 2 + (axis[None] - x) ** 2 < radius**2

    truth = disk(32, 32, 18).long() + disk(30, 32, 8).long()
    believed = disk(36, 34, 21).long() + disk(34, 35, 10).long()
    one_hot = torch.nn.functional.one_hot(believed, 3).permute(2, 0, 1).float()
    return truth, one_hot * SURE + (1 - one_hot) * (1 - SURE) / 2


def painted(truth, colours=((235, 225, 230), (190, 150, 200), (90, 40, 130)), noise=6.0):
    """[3, H, W] uint8: each class in its colour, with noise."""
    picture = torch.tensor(colours, dtype=torch.float)[truth].permute(2, 0, 1)
    picture = picture + noise * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    return picture.clamp(0, 255).to(torch.uint8)


def miou(found, truth, classes=3):
    hits = [((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum() for k in range(classes)]
    return float(sum(hits) / classes)


@pytest.mark.parametrize("options", [{}, {"components": 2}, {"side": 48}, {"coupling": 0}])
def test_borders_move_to_where_the_colours_change(options):
    truth, prior = disks()
    found = sharpen(painted(truth), prior, ColoursConfig(**options))
    assert miou(prior.argmax(0), truth) < 0.65
    assert miou(found.argmax(0), truth) > 0.8
    torch.testing.assert_close(found.sum(dim=0), torch.ones(SIDE, SIDE))
    assert torch.equal(found, sharpen(painted(truth), prior, ColoursConfig(**options)))


@pytest.mark.parametrize("components", [1, 2])
def test_the_last_step_in_strips_is_the_last_step_at_once(monkeypatch, components):
    truth, prior = disks()
    config = ColoursConfig(side=48, components=components)
    whole = sharpen(painted(truth), prior, config)
    for values in (3 * SIDE * 5, 1):
        monkeypatch.setattr(colours, "STRIP_VALUES", values)
        torch.testing.assert_close(sharpen(painted(truth), prior, config), whole)


def test_where_classes_share_their_colours_the_prior_stays():
    truth, prior = disks()
    alike = painted(torch.zeros_like(truth), noise=25.0)
    found = sharpen(alike, prior, ColoursConfig(coupling=0))
    assert float((found.argmax(0) != prior.argmax(0)).float().mean()) < 0.02
    assert float((found - prior).abs().mean()) < 0.05


def test_one_grey_everywhere_changes_nothing_but_by_the_floor():
    _, prior = disks()
    found = sharpen(torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8), prior, ColoursConfig(coupling=0))
    floor = ColoursConfig().floor
    expected = (1 - floor) * prior + floor * prior.mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_a_rare_class_survives_and_no_class_floods():
    truth, prior = disks()
    spot = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    spot[50:53, 8:11] = True
    prior = torch.cat([prior * 0.97, torch.full((1, SIDE, SIDE), 0.03)])
    prior[:, spot] = torch.tensor([0.3, 0.05, 0.05, 0.6])[:, None]
    picture = painted(truth)
    picture[:, spot] = torch.tensor([200, 60, 20], dtype=torch.uint8)[:, None]
    found = sharpen(picture, prior, ColoursConfig())
    assert (found.argmax(0) == 3)[51, 9]
    before, after = prior.mean(dim=(1, 2)), found.mean(dim=(1, 2))
    assert float((after / before).max()) < ColoursConfig().mass
    assert float((found.argmax(0) == 3).float().mean()) < 3 * 9 / SIDE**2


def test_a_class_that_is_nowhere_stays_nowhere():
    truth, prior = disks()
    absent = torch.cat([prior, torch.zeros(1, SIDE, SIDE)])
    found = sharpen(painted(truth), absent, ColoursConfig())
    assert float(found[3].max()) < 0.2
    assert miou(found.argmax(0), truth) > 0.85


def test_large_pictures_are_learned_small_and_answered_large():
    truth, prior = disks()
    picture, large = painted(truth), torch.nn.functional.interpolate(prior[None], scale_factor=4)[0]
    picture = picture.repeat_interleave(4, 1).repeat_interleave(4, 2)
    found = sharpen(picture, large, ColoursConfig(side=64))
    assert found.shape == large.shape
    assert miou(found.argmax(0), truth.repeat_interleave(4, 0).repeat_interleave(4, 1)) > 0.8


def test_mixtures_are_the_weighted_gaussians():
    generator = torch.Generator().manual_seed(3)
    picture = Picture.of(torch.rand(3, 9, 11, generator=generator), torch.rand(2, 9, 11, generator=generator))
    r = torch.rand(2, 99, generator=generator)
    config = ColoursConfig(spread=3.0)
    fitted = Mixtures.fitted(r, picture, config, None)
    for k in range(2):
        mean = (picture.colours * r[k]).sum(1) / r[k].sum()
        centred = picture.colours - mean[:, None]
        covariance = (r[k] * centred) @ centred.T / r[k].sum() + 9 * torch.eye(3)
        expected = torch.distributions.MultivariateNormal(mean, covariance).log_prob(picture.colours.T)
        torch.testing.assert_close(fitted.theta[k] @ picture.phi, expected, atol=2e-3, rtol=1e-3)


def test_the_edge_mean_stays_on_its_side():
    colours = torch.zeros(3, 8, 8)
    colours[0, :, 4:] = 60
    values = (colours[:1] > 0).float().flatten(1)
    values[0, 2 * 8 + 1] = 1  # one wrong pixel on the left
    smoothed = EdgeMean(colours, 2)(values).reshape(8, 8)
    assert float(smoothed[2, 1]) < 0.3
    assert float(smoothed[:, 4:].min()) > 0.95
    assert float(smoothed[5:, :4].max()) < 0.06


def test_a_picture_smaller_than_the_neighbourhood():
    batch = LabelledBatch(
        torch.arange(1),
        torch.full((1, 3, 1, 2), 9, dtype=torch.uint8),
        torch.zeros(1, 1, 2, dtype=torch.uint8),
        torch.tensor([[[[0.6, 0.6]], [[0.4, 0.4]]]]),
    )
    assert Colours(ColoursConfig(radius=3)).refine(batch).masks.tolist() == [[[0, 0]]]


def test_pictures_side_by_side_give_the_same_and_leave_the_threads_alone():
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (5, 3, 20, 24), generator=generator).to(torch.uint8)
    probs = torch.rand(5, 3, 20, 24, generator=generator).softmax(dim=1)
    batch = LabelledBatch(torch.arange(5), pixels, probs.argmax(dim=1).to(torch.uint8), probs)
    refiner = Colours(ColoursConfig())
    before, found = torch.get_num_threads(), {}
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found[threads] = refiner.refine(batch).probs
            assert torch.get_num_threads() == threads
        with pytest.raises(ZeroDivisionError), side_by_side(5) as each:
            list(each(lambda i: 1 // i, range(5)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[1], found[3])
