import pytest
import torch
from gsegkit_directions.colour_maps import MapFit, fit_maps, map_errors, read_direction, write_direction
from gsegkit_directions.config import ColourMapsConfig

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.errors import ArtifactError, ConfigError, ContractError, DataError
from gsegkit.plugins import installed

CONFIG = ColourMapsConfig()
SMALL = {"num_random": 2, "num_pca": 0, "num_images": 8, "num_fit_images": 16}


def build(**options):
    return installed().build("extractor", "colour-maps", {**SMALL, **options})


def fitted(generator, ctx, **options):
    extractor = build(**options)
    extractor.fit(generator, ctx)
    return extractor


def pictures(count=6, size=24, seed=0):
    """Coloured noise, and a mask of the middle."""
    images = 0.5 * torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[6:18, 6:18] = True
    return images, mask.expand(count, size, size)


def two_ways(images, mask):
    """The object gets lighter and redder, the ground darker; both affine in the colour."""
    inside = torch.tensor([[0.9, 0.1, 0, 0.3], [0, 0.8, 0, 0.1], [0, 0, 0.9, 0.1]])
    outside = torch.tensor([[0.8, 0, 0, -0.2], [0, 0.8, 0, -0.2], [0, 0, 0.7, -0.1]])
    maps = torch.stack([outside, inside])
    made = torch.einsum("kdc,nchw->nkdhw", maps[:, :, :3], images) + maps[:, :, 3].view(1, 2, 3, 1, 1)
    return torch.where(mask.unsqueeze(1), made[:, 1], made[:, 0]), maps


def test_known_maps_are_found_exactly_and_the_middle_is_the_object():
    images, mask = pictures()
    shifted, maps = two_ways(images, mask)
    found = fit_maps(images, shifted, CONFIG, seed=0)
    torch.testing.assert_close(found.maps, maps, atol=0.01, rtol=0)
    assert found.two < 0.001 * found.change
    errors = map_errors(found.maps, images, shifted)
    assert float(((errors[:, 1] < errors[:, 0]) == mask).float().mean()) > 0.98


def test_the_object_is_in_the_middle_whichever_map_was_found_first():
    images, mask = pictures()
    shifted, maps = two_ways(images, ~mask)  # now the ground takes the object's way
    found = fit_maps(images, shifted, CONFIG, seed=0)
    torch.testing.assert_close(found.maps, maps.flip(0), atol=0.01, rtol=0)


def test_adam_finds_what_least_squares_finds():
    images, mask = pictures()
    shifted, _ = two_ways(images, mask)
    quick = fit_maps(images, shifted, CONFIG, seed=0)
    slow = fit_maps(images, shifted, ColourMapsConfig(solver="adam", adam_steps=400), seed=0)
    torch.testing.assert_close(slow.maps, quick.maps, atol=0.02, rtol=0)
    again = fit_maps(images, shifted, ColourMapsConfig(solver="adam", adam_steps=400), seed=0)
    assert torch.equal(slow.maps, again.maps)


def test_split_is_high_for_two_ways_only():
    images, mask = pictures()
    noise = 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    split = {
        "two ways": fit_maps(images, two_ways(images, mask)[0], CONFIG, 0).split,
        "lighter": fit_maps(images, images + 0.2, CONFIG, 0).split,
        "nothing": fit_maps(images, images + 0.001 * noise, CONFIG, 0).split,
        "other pictures": fit_maps(images, pictures(seed=5)[0], CONFIG, 0).split,
    }
    assert split["two ways"] > 20
    assert max(value for name, value in split.items() if name != "two ways") < 1, split


def test_a_low_residual_alone_is_no_good_direction():
    nothing, moving = MapFit(torch.zeros(2, 3, 4), 1e-7, 1e-7, 1e-8), MapFit(torch.zeros(2, 3, 4), 0.1, 0.09, 0.001)
    assert nothing.two < moving.two
    assert nothing.split < 0.01 < moving.split


def test_on_the_toy_the_axis_of_light_wins_and_makes_good_masks(context):
    toy, ctx = Toy(ToyConfig(size=32)), context()
    extractor = fitted(toy, ctx)
    assert extractor.chosen == "coordinate-0"
    splits = [row["split"] for row in extractor.ranking]
    assert splits == sorted(splits, reverse=True)
    assert len(splits) == 10
    batch = toy.sample(ctx.seeds("test", 32))
    found = extractor.extract(batch, toy)
    masks, truth = found.probs.argmax(dim=1) == 1, toy.truth(batch) > 0
    iou = ((masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))).mean()
    assert float(iou) > 0.95
    assert set(found.scores) == {"coverage", "contrast", "histogram_peaks", "residual"}
    assert (ctx.folder / "figures" / "colour-maps.png").exists()


def test_a_generator_without_gradients_is_enough(disc, context):
    generator = disc()
    plain = generator.synthesize
    generator.synthesize = lambda latents, labels=None, **options: plain(latents.detach(), labels, **options)
    extractor = fitted(generator, context())
    assert extractor.chosen in {"coordinate-0", "coordinate-1", "random-0", "random-1"}


def test_ranking_as_released_takes_the_lowest_residual(disc, context):
    extractor = fitted(disc(), context(), rank_by="residual")
    residuals = [row["residual"] for row in extractor.ranking]
    assert residuals == sorted(residuals)
    config = build(profile="reference").config
    assert (config.solver, config.mask_shift, config.shift_unit, config.adam_steps) == ("adam", 5.0, "absolute", 200)


def test_a_direction_from_a_file(tmp_path, disc, context):
    path = tmp_path / "direction.safetensors"
    write_direction(path, torch.tensor([1.0, 0, 0, 0]), "by hand")
    extractor = fitted(disc(), context(), direction=str(path))
    assert extractor.direction.tolist() == [1, 0, 0, 0]
    assert (extractor.chosen, extractor.ranking) == ("given", [])
    assert read_direction(path, (4,)).tolist() == [1, 0, 0, 0]
    with pytest.raises(ConfigError, match=r"holds \[4\], the generator's latents are \[6, 4\]"):
        fitted(disc(shape=(6, 4)), context("wide"), direction=str(path))
    with pytest.raises(ArtifactError, match="does not exist"):
        fitted(disc(), context("none"), direction=str(tmp_path / "nothing"))


def test_a_direction_that_changes_nothing(tmp_path, disc, context):
    path = tmp_path / "direction.safetensors"
    write_direction(path, torch.tensor([0.0, 0, 0, 1]), "moves the disc")
    with pytest.raises(DataError, match=r"'given' barely changes the images.*mask_shift"):
        fitted(disc(gain=0.001), context(), direction=str(path), mask_shift=1e-4)


def test_not_fitted_or_another_generator(disc, context):
    batch = disc().sample(torch.arange(2))
    with pytest.raises(ArtifactError, match="not fitted"):
        build().extract(batch, disc())
    extractor = fitted(disc(), context())
    wide = disc(shape=(6, 4))
    with pytest.raises(ContractError, match="its edit space"):
        extractor.extract(wide.sample(torch.arange(2)), wide)
