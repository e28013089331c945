from dataclasses import replace

import pytest
import torch
from gsegkit_labels4free.taps import levels_of, select_levels

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError
from gsegkit.taps import TapPoint, Taps
from gsegkit.types import FeatureSpec, GeneratorInfo


def stylegan(resolution, channels=8):
    names = [("b4.conv1", 4)]
    names += [(f"b{r}.conv{i}", r) for r in (2**k for k in range(3, resolution.bit_length())) for i in (0, 1)]
    specs = tuple(FeatureSpec(name, channels, r, r) for name, r in names)
    return GeneratorInfo(resolution, resolution, (8,), features=specs)


@pytest.mark.parametrize(("resolution", "sizes"), [(1024, [32, 64, 128, 256, 512, 1024]), (64, [4, 8, 16, 32, 64])])
def test_six_levels_from_the_top_or_as_many_as_there_are(resolution, sizes):
    levels = levels_of(stylegan(resolution), 6)
    assert [level.height for level in levels] == sizes
    assert levels[-1].names == (f"b{resolution}.conv0", f"b{resolution}.conv1")
    assert levels[0].names == (("b4.conv1",) if sizes[0] == 4 else ("b32.conv0", "b32.conv1"))


def test_the_last_two_maps_of_a_size_count():
    specs = tuple(FeatureSpec(name, 3, 32, 32) for name in "abc")
    assert levels_of(GeneratorInfo(32, 32, (4,), features=specs), 6)[0].names == ("b", "c")


def test_small_pictures_and_missing_maps_are_refused():
    with pytest.raises(CapabilityError, match="16 x 16") as error:
        levels_of(stylegan(16), 6)
    assert "32 px" in error.value.hint
    with pytest.raises(CapabilityError, match="no feature maps"):
        levels_of(GeneratorInfo(64, 64, (4,)), 6)


class Layered(Toy):
    """A toy with colours of two resolutions beside its picture; those of `quarter` count for little."""

    def __init__(self, weight):
        super().__init__(ToyConfig(size=32))
        self.weight = weight
        self.points = {"quarter.rgb": TapPoint(), "half.rgb": TapPoint()}
        self.rgb = Taps(self.points)
        self.info = replace(self.info, edit_points=("quarter.rgb", "half.rgb"))

    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        batch = super().synthesize(latents, labels, features=features)
        images = batch.images
        with self.rgb.open(edits=edits):
            for name, size, weight in (("quarter.rgb", 8, self.weight), ("half.rgb", 16, 1.0)):
                part = torch.nn.functional.adaptive_avg_pool2d(batch.images, size)
                part = self.points[name](part)
                images = images + weight * torch.nn.functional.interpolate(part, images.shape[-2:])
        return replace(batch, images=images / 2)


@pytest.mark.parametrize(("weight", "first"), [(0.01, "half"), (1.0, "quarter")])
def test_a_resolution_that_the_picture_does_not_depend_on_is_left_out(tmp_path, weight, first):
    generator = Layered(weight)
    levels = levels_of(generator.info, 6)
    chosen = select_levels(generator, levels, RunContext(tmp_path, seed=0))
    assert chosen[0].names == (first,)
    assert chosen[-1] == levels[-1]


def test_without_colours_of_resolutions_all_levels_stay(tmp_path):
    toy = Toy(ToyConfig(size=32))
    levels = levels_of(toy.info, 6)
    assert select_levels(toy, levels, RunContext(tmp_path)) == levels
