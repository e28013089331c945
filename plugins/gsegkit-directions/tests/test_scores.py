import numpy as np
import pytest
import torch
from gsegkit_directions.scores import cleaned_coverage, otsu_levels


def test_pieces_of_a_fifth_of_the_largest_do_not_count():
    masks = torch.zeros(3, 20, 10, dtype=torch.bool)
    masks[0, 0] = True  # 10 pixels
    masks[0, 5, :2] = True  # 2: exactly a fifth, dropped
    masks[0, 10, :3] = True
    masks[1, :] = True
    assert cleaned_coverage(masks).tolist() == pytest.approx([13 / 200, 1.0, 0.0])


def test_otsu_level_is_the_best_of_all_thresholds():
    generator = torch.Generator().manual_seed(0)
    low, high = torch.randn(700, generator=generator) * 0.1 - 0.6, torch.randn(324, generator=generator) * 0.2 + 0.3
    plane = torch.cat([low, high])[torch.randperm(1024, generator=generator)].view(32, 32)
    level = float(otsu_levels(plane[None]))
    values = plane.double().numpy().ravel()

    def between(threshold):
        above = values > threshold
        return above.mean() * (1 - above.mean()) * (values[above].mean() - values[~above].mean()) ** 2

    best = max(between(t) for t in np.linspace(values.min(), values.max(), 2000)[1:-1])
    assert between(level) > 0.999 * best
    assert otsu_levels(torch.stack([plane, 3 * plane])).flatten().tolist() == pytest.approx(
        [level, 3 * level], abs=0.02
    )


def test_otsu_level_of_a_flat_plane_is_that_plane():
    assert otsu_levels(torch.full((1, 8, 8), 0.25)).flatten().tolist() == pytest.approx([0.25])
