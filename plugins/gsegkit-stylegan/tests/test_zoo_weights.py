"""The embedded default of `--gen stylegan2`, when the zoo is installed."""

import pytest
import torch

from gsegkit.config import build_config
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds

pytest.importorskip("gsegkit_zoo")


@pytest.fixture(scope="module")
def generator():
    return installed().build("generator", "stylegan2", {"weights": "coffee-leaf-64"})


def test_leaves_are_green_on_a_light_background(generator):
    images = generator.sample(sample_seeds(0, "preview", 0, 24)).images
    assert images.shape == (24, 3, 64, 64)
    centre, corner = images[..., 20:44, 20:44].mean((0, 2, 3)), images[..., :6, :6].mean((0, 2, 3))
    assert centre[1] > centre[0] > centre[2], "leaves are green"
    assert (corner > centre + 0.2).all(), "the background is lighter than the leaf"
    assert generator.info.licence == "MIT"
    assert generator.info.fit_rule == "squash"


def test_samples_differ_from_each_other(generator):
    images = generator.sample(sample_seeds(0, "preview", 0, 24)).images.flatten(1)
    distances = torch.cdist(images, images) + torch.eye(24) * 1e9
    assert distances.min() > 2, "no two samples are duplicates"


def test_a_sample_does_not_depend_on_its_batch(generator):
    seeds = sample_seeds(0, "preview", 0, 7)
    whole = generator.sample(seeds).images
    alone = torch.cat([generator.sample(seeds[i : i + 1]).images for i in range(7)])
    assert (whole - alone).abs().max() < 2e-5
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert (generator.sample(seeds[order]).images - whole[order]).abs().max() < 2e-5


def test_blood_cells_have_a_purple_nucleus_in_the_middle():
    generator = installed().build("generator", "stylegan2")  # the default
    pixels = generator.sample(sample_seeds(0, "preview", 0, 24)).images
    centre, corner = pixels[..., 24:40, 24:40].mean((0, 2, 3)), pixels[..., :6, :6].mean((0, 2, 3))
    assert centre[2] > centre[0] > centre[1], "stained nuclei are purple"
    assert (corner > centre + 0.2).all(), "plasma is lighter"
    assert generator.info.licence == "CC-BY-4.0"


def test_most_portraits_are_grey():
    generator = installed().build("generator", "stylegan2", {"weights": "portraits-64"})
    images = generator.sample(sample_seeds(0, "preview", 0, 24)).images
    assert (images.std(dim=1).mean(dim=(1, 2)) < 0.1).float().mean() > 0.5
    middle, below = images[..., 20:36, 26:38].mean(), images[..., 56:, 26:38].mean()
    assert middle > below, "faces are lighter than clothes"
    assert images.flatten(1).std(dim=0).mean() > 0.2, "they differ from each other"


def test_the_plan_writes_the_default_out_so_that_a_later_default_cannot_change_it():
    config = build_config(installed().find("generator", "stylegan2").config_class(), {}, "gen")
    assert config.weights == "auto"
    assert config.resolved(installed().available).weights == "blood-cells-64"
    new = config.model_copy(update={"resolution": 32})
    assert new.resolved(installed().available).weights == "none"
    assert new.resolved(installed().available).resolved(installed().available).resolution == 32
