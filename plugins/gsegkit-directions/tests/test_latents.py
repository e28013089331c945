import pytest
import torch
from gsegkit_directions.candidates import candidates
from gsegkit_directions.latents import EditSpace, measure_latents, spread_of

from gsegkit.errors import ConfigError, DataError
from gsegkit.taps import frozen


def test_spread_of_normals_is_about_the_root_of_their_number():
    latents = torch.randn(1024, 120, generator=torch.Generator().manual_seed(0)) + 7
    assert spread_of(latents) == pytest.approx(120**0.5, rel=0.02)


def test_a_shared_direction_moves_every_layer_alike_and_has_norm_one():
    space = EditSpace((18, 512), 1.0)
    free = torch.randn(2, 512)
    unit = space.unit(free)
    assert unit.shape == (2, 18, 512)
    assert unit.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert torch.equal(unit[:, 0], unit[:, 17])
    assert torch.equal(EditSpace((512,), 1.0).unit(free)[0], free[0] / free[0].norm())


def test_the_same_spread_in_w_and_in_w_plus_moves_each_layer_as_far():
    w = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    wide = w.unsqueeze(1).expand(-1, 10, -1)
    free = torch.randn(1, 64)
    in_w = EditSpace((64,), spread_of(w)).unit(free) * spread_of(w)
    in_wide = EditSpace((10, 64), spread_of(wide)).unit(free) * spread_of(wide)
    torch.testing.assert_close(in_wide[:, 3], in_w)


def test_the_released_norm_over_layers_is_too_long_by_the_root_of_the_width():
    unit = EditSpace((18, 512), 1.0, shared=False, unit_over_first=True).unit(torch.randn(1, 18, 512))
    assert float(unit.norm()) == pytest.approx(512**0.5, rel=1e-5)
    per_layer = 5.0 * float(unit[0].norm(dim=1).mean())
    assert per_layer == pytest.approx(26.7, abs=0.2)


def test_own_layers_have_norm_one_over_everything():
    unit = EditSpace((18, 512), 1.0, shared=False).unit(torch.randn(2, 18, 512))
    assert unit.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_frozen_gives_back_what_it_took_even_after_an_error(disc):
    generator = disc()
    generator.weight = torch.nn.Parameter(torch.ones(1))
    generator.part = torch.nn.Dropout().eval()
    generator.train(True)
    generator.part.eval()
    with pytest.raises(RuntimeError, match="inside"), frozen(generator):
        assert not generator.training
        assert not generator.weight.requires_grad
        raise RuntimeError("inside")
    assert generator.training
    assert not generator.part.training
    assert generator.weight.requires_grad


def test_broken_latents_are_refused(disc, context):
    generator = disc()
    generator.latents = lambda seeds: torch.ones(len(seeds), 4)
    with pytest.raises(DataError, match="all the same"):
        measure_latents(generator, context())
    generator.latents = lambda seeds: torch.full((len(seeds), 4), float("nan"))
    with pytest.raises(DataError, match="NaN"):
        measure_latents(generator, context())


def test_candidates():
    latents = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 1, 1, 5, 1, 1.0])
    space = EditSpace((6,), spread_of(latents))
    found = candidates(latents, space, num_random=2, num_coordinates=4, num_pca=3, seed=0)
    assert [c.name for c in found] == [
        "random-0", "random-1", "coordinate-0", "coordinate-1", "coordinate-2", "coordinate-3",
        "pca-0", "pca-1", "pca-2",
    ]  # fmt: skip
    assert all(float(c.direction.norm()) == pytest.approx(1, abs=1e-5) for c in found)
    assert float(found[6].direction[3]) > 0.99
    wide = candidates(latents[:, None].expand(-1, 4, -1), EditSpace((4, 6), 1.0), num_random=0, num_coordinates=1,
                      num_pca=1, seed=0)  # fmt: skip
    assert torch.equal(wide[0].direction[0], wide[0].direction[3])
    assert float(wide[1].direction[0, 3]) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ConfigError, match="no directions to rank"):
        candidates(latents, space, num_random=0, num_coordinates=0, num_pca=0, seed=0)
