"""Latents of true pictures: what their colours say, and nothing that they do not."""

import pytest
import torch
from gsegkit_spade.class_adaptive import ClassAdaptivePainter
from gsegkit_spade.config import ClassAdaptiveConfig, OasisConfig, SpadeConfig
from gsegkit_spade.styles import colour_styles
from gsegkit_spade.training import Training

from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset


def dataset(pixels, masks=None):
    masks = torch.zeros(len(pixels), 8, 8, dtype=torch.uint8) if masks is None else masks
    return MemoryDataset(pixels, masks, ("ground", "thing", "rare"))


def coloured(count=101, seed=0):
    """Two classes, whose colours follow two independent numbers; the second sometimes lacks."""
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    masks = torch.zeros(count, 8, 8, dtype=torch.uint8)
    masks[:, 4:] = 1
    masks[::10, 4:] = 0
    levels = (50 + 150 * drawn).round()
    pixels = levels.gather(1, masks.flatten(1).long()).view(count, 1, 8, 8).expand(-1, 3, -1, -1)
    return drawn, masks, dataset(pixels.to(torch.uint8), masks)


def test_styles_follow_the_colours_and_are_standard_normal():
    drawn, masks, pairs = coloured()
    styles = colour_styles(pairs, 8)
    assert styles.shape == (101, 2)
    assert styles.dtype == torch.float32
    assert styles.mean(dim=0).abs().max() < 1e-5
    assert styles.std(dim=0) == pytest.approx(torch.ones(2), abs=0.05)
    there = masks[:, 4, 0] == 1
    known = torch.cat([drawn[there], torch.ones(int(there.sum()), 1)], dim=1)
    left = styles[there] - known @ torch.linalg.lstsq(known, styles[there]).solution
    assert (left.var(dim=0) < 0.15).all()  # each is, but for its scale, a sum of the two numbers


def test_at_most_as_many_as_the_latent_has():
    assert colour_styles(coloured()[2], 1).shape == (101, 1)


def test_pictures_of_one_colour_have_no_style():
    styles = colour_styles(dataset(torch.full((5, 3, 8, 8), 90, dtype=torch.uint8)), 4)
    assert styles.shape == (5, 0)


def test_all_unknown_is_no_style():
    masks = torch.full((4, 8, 8), 255, dtype=torch.uint8)
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert colour_styles(dataset(pixels, masks), 4).shape == (4, 0)


def test_the_published_trainings_draw_their_latents():
    assert not SpadeConfig(profile="paper", perceptual=0).colour_styles
    assert not OasisConfig(profile="paper").colour_styles
    assert SpadeConfig().colour_styles


def test_a_training_paints_with_the_styles_of_its_true_pictures(tmp_path):
    _, _, pairs = coloured()
    drawn, styles = torch.full((4, 5), 9.0), colour_styles(pairs, 5)
    for given in (True, False):
        config = ClassAdaptiveConfig(latent_dim=5, width=2, width_max=2, batch_size=4, colour_styles=given)
        painter = ClassAdaptivePainter(config)
        painter.classes, painter.train_size = pairs.classes, (8, 8)
        training = Training(
            painter.build(spectral=True), config, pairs, painter.objective(), None, RunContext(tmp_path, seed=3)
        )
        z = training.own_style(7, drawn)
        assert torch.equal(z[:, 2:], drawn[:, 2:])
        assert torch.equal(z[:, :2], styles[training.order.rows(7)] if given else drawn[:, :2])
