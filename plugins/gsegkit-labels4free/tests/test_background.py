from pathlib import Path

import pytest
import torch
from gsegkit_labels4free.background import (
    Background,
    area_of,
    border,
    border_median,
    candidates,
    choose,
    describe,
    difference,
    gradient_norms,
    separation,
    zero,
)

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.testing.fixtures import LimitedToy


@pytest.fixture
def ctx(tmp_path):
    return RunContext(tmp_path, seed=0, batch_size=16)


def test_rim_takes_the_mean_of_the_outermost_values():
    maps = torch.zeros(1, 2, 4, 5)
    maps[0, 0, 1:-1, 1:-1] = 100  # the inside does not count
    maps[0, 1, 0] = 7  # one of the two long sides: 5 of 14 values
    filled = border(maps)
    assert torch.allclose(filled[0, 0], torch.zeros(4, 5))
    assert torch.allclose(filled[0, 1], torch.full((4, 5), 7 * 5 / 14))
    assert bool((zero(maps) == 0).all())


def test_rim_of_maps_that_are_nothing_but_rim():
    maps = torch.arange(8.0).view(1, 1, 2, 4)
    assert torch.allclose(border(maps), torch.full((1, 1, 2, 4), 3.5))
    assert torch.allclose(border(maps[:, :, :1]), torch.full((1, 1, 1, 4), 1.5))


def test_the_toys_object_is_found_by_the_rim_rule(ctx):
    chosen, scores = choose(Toy(ToyConfig()), "auto", "auto", ctx)
    assert chosen.point == "object"
    assert set(scores) == {f"{p}:{e}" for p in ("object", "background") for e in ("zero", "border")}
    assert max(scores["object:zero"], scores["object:border"]) < min(
        scores["background:zero"], scores["background:border"]
    )


def test_a_named_point_and_edit_are_taken(ctx):
    chosen, _ = choose(Toy(ToyConfig()), "background", "zero", ctx)
    assert chosen == Background("background", "zero")


def test_the_gradient_rule_ranks_by_the_gradients_norm(ctx):
    toy = Toy(ToyConfig(size=32))
    chosen, scores = choose(toy, "gradient", "auto", ctx)
    assert chosen == Background(max(scores, key=scores.get), "zero")
    assert set(scores) == {"object", "background"}


def test_gradient_norms_against_a_generator_whose_gradients_are_known(ctx):
    """Images = scale x map: the gradient of the squared distance is 2 scale (G - x), whatever x is."""

    class Linear(Toy):
        def synthesize(self, latents, labels=None, *, features=(), edits=None):
            from dataclasses import replace

            batch = super().synthesize(latents, labels)
            low = (edits or {}).get("object", lambda a: a)(batch.images * 0.5)
            high = (edits or {}).get("background", lambda a: a)(batch.images * 0.5)
            return replace(batch, images=3 * low - high)

    scores = gradient_norms(Linear(ToyConfig(size=32)), ("object", "background"), torch.arange(4), 4)
    assert scores["object"] == pytest.approx(3 * scores["background"], rel=1e-3)
    assert scores["background"] > 0


def test_an_unknown_point_is_named_with_the_known_ones(ctx):
    with pytest.raises(ConfigError, match="no such edit point") as error:
        choose(Toy(ToyConfig(size=32)), "b4.conv1", "auto", ctx)
    assert "object, background" in error.value.hint


def test_a_generator_without_edit_points_is_refused():
    with pytest.raises(CapabilityError, match="declares no edit point"):
        candidates(LimitedToy("feature-edit"))


def test_a_resolutions_colours_are_no_candidates():
    class Named:
        class info:
            edit_points = ("b4.conv1", "b4.rgb")

    assert candidates(Named()) == ("b4.conv1",)


def test_cells_tell_colour_spread_and_edges():
    images = torch.zeros(1, 3, 16, 16)
    images[:, 0] = 0.5
    images[:, 1, :, ::2] = 1.0  # stripes
    cells = describe(images)
    assert cells.shape == (1, 7, 8, 8)
    assert torch.allclose(cells[0, 0], torch.full((8, 8), 0.5))
    assert torch.allclose(cells[0, 1], torch.full((8, 8), 0.5))
    assert torch.allclose(cells[0, 3], torch.zeros(8, 8), atol=1e-3)
    assert torch.allclose(cells[0, 4], torch.full((8, 8), 0.5), atol=1e-3)
    assert float(cells[0, 6, 4, 4]) == pytest.approx(1 / 3, rel=1e-3)  # one of three colours jumps by 1


def test_the_rims_median_forgets_what_covers_less_than_half_of_it():
    cells = torch.zeros(1, 1, 8, 8)
    cells[:, :, :, 3:5] = 9  # an object from top to bottom: 4 of the 28 outer cells
    cells[:, :, 2:6, 2:6] = 9
    assert float(border_median(cells)) == 0


def test_separation_is_1_for_the_part_that_changes_and_0_for_nothing_and_all():
    distances = torch.zeros(1, 8, 8)
    distances[:, 2:5, 2:6] = 0.7
    exact = (distances > 0).float()
    assert float(separation(distances, exact)) == pytest.approx(1)
    assert float(separation(distances, 1 - exact)) == pytest.approx(-1)  # the wrong way round
    assert float(separation(distances, torch.zeros_like(exact))) == 0
    assert float(separation(distances, torch.ones_like(exact))) == 0
    wider = torch.zeros_like(exact)
    wider[:, 1:6, 1:7] = 1
    assert 0.2 < float(separation(distances, wider)) < 0.7
    assert float(area_of(distances)) == pytest.approx(12 / 64)


def test_separation_peaks_at_the_toys_true_mask(ctx):
    toy = Toy(ToyConfig())
    batch = toy.sample(ctx.seeds("test", 16))
    emptied = toy.synthesize(batch.latents, batch.labels, edits=Background("object", "zero").edits)
    distances = difference(batch.images, emptied.images)
    truth = (toy.truth(batch) > 0).float()
    pool = torch.nn.functional.max_pool2d
    larger = pool(truth[:, None], 7, 1, 3)[:, 0]
    smaller = -pool(-truth[:, None], 7, 1, 3)[:, 0]
    best = float(separation(distances, truth).mean())
    assert best > 0.75
    assert max(float(separation(distances, m).mean()) for m in (larger, smaller)) < best - 0.1


def test_measured_on_the_same_pictures_whatever_the_micro_batch():
    toy = Toy(ToyConfig(size=32))
    found = [choose(toy, "auto", "auto", RunContext(Path(), seed=3, batch_size=n))[1] for n in (7, 64)]
    assert found[0] == pytest.approx(found[1], abs=2e-4)
