"""What the training keeps, resumes, refuses and says; and that it learns."""

import pytest
import torch
from gsegkit_spade.class_adaptive import ClassAdaptivePainter
from gsegkit_spade.config import ClassAdaptiveConfig
from gsegkit_spade.eye import Eye
from gsegkit_spade.layers import baked, halvings
from gsegkit_spade.masks import as_channels, simplified
from gsegkit_spade.networks import PaintingNetwork
from gsegkit_spade.training import in_memory
from gsegkit_spade.watch import Watch

from gsegkit.builtin.toy import Toy, ToyConfig
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import ContractError, DataError, InterruptedRunError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Segmenter
from gsegkit.progress import Progress
from gsegkit.seeds import sample_seeds

SMALL = {
    "latent_dim": 4, "width": 4, "width_max": 8, "batch_size": 4, "discriminator_width": 4, "statistics_batches": 3,
    "discriminator_layers": 2, "lr": 4e-3, "lr_discriminator": 1e-3,
}  # fmt: skip


class Told(Progress):
    def __init__(self):
        self.words = []

    def message(self, text, kind="info"):
        self.words.append((kind, text))


class Pyramid(Segmenter):
    """Convolutions at three sizes, one of them on a pooled pixel, as squeeze-and-excite has it."""

    def __init__(self, config):
        super().__init__(config)
        self.classes, self.train_size = ("a", "b"), (16, 16)
        self.one, self.two = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.gate, self.three = torch.nn.Conv2d(5, 5, 1), torch.nn.Conv2d(5, 6, 3, padding=1)
        self.back = torch.nn.Conv2d(6, 2, 1)

    def fit(self, dataset, ctx, *, val=None):
        """Not needed."""

    def logits(self, images):
        x = self.two(self.one(images).relu()).relu()
        x = self.three(x * self.gate(x.mean((2, 3), keepdim=True)))
        return self.back(torch.nn.functional.interpolate(x, scale_factor=2))


def pairs(count=24, size=16):
    toy = Toy(ToyConfig(size=size))
    batch = toy.sample(sample_seeds(0, "dataset", 0, count))
    return MemoryDataset(to_pixels(batch.images), toy.truth(batch), toy.info.mask_classes)


def eye():
    torch.manual_seed(5)
    return Pyramid(ClassAdaptiveConfig())


def fit(folder, dataset, segmenter=None, stop_after=None, **options):
    told = Told()
    ctx = RunContext(folder, seed=3, progress=told, checkpoint_seconds=0 if stop_after else 1e9)
    painter = ClassAdaptivePainter(ClassAdaptiveConfig(**{**SMALL, **options}))
    if stop_after is not None:
        told.advance = lambda done, values: ctx.stop.set() if done >= stop_after else None
        with pytest.raises(InterruptedRunError):
            painter.fit(dataset, ctx, segmenter=segmenter)
        ctx.stop.clear()
        del told.advance
        painter = ClassAdaptivePainter(painter.config)
    painter.fit(dataset, ctx, segmenter=segmenter)
    return painter, told.words


@pytest.mark.parametrize("stop_after", [1, 4])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, stop_after):
    """With everything on: the segmenter, smoothed and mirrored masks, averages, alarms."""
    options = {"steps": 6, "flip": True, "simplify": 0.5}
    whole, _ = fit(tmp_path / "whole", pairs(), eye(), **options)
    again, _ = fit(tmp_path / "again", pairs(), eye(), stop_after, **options)
    one, two = whole.state_dict(), again.state_dict()
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


COLOURS = torch.tensor([[40, 40, 60], [220, 60, 50], [60, 210, 80]])


def rectangles(count, size=16, seed=0):
    """A rectangle of class 1 or 2 on class 0; each class has its colour, each picture its brightness."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, size, size, dtype=torch.uint8)
    for index in range(count):
        y, x = torch.randint(0, size - 8, (2,), generator=random).tolist()
        masks[index, y : y + 8, x : x + 8] = 1 + index % 2
    brightness = torch.randint(-25, 26, (count, 1, 1, 1), generator=random)
    pixels = COLOURS[masks.long()].permute(0, 3, 1, 2) + brightness
    return MemoryDataset(pixels.clamp(0, 255).to(torch.uint8), masks, ("ground", "red", "green"))


def test_it_learns_the_classes_colours(tmp_path):
    """Of masks that it never saw, each class is painted in a colour that is nearest to its own."""
    painter, words = fit(tmp_path, rectangles(64), eye(), steps=150, batch_size=8)
    unseen = rectangles(8, seed=1).masks
    pixels = to_pixels(painter.paint(unseen, painter.latents(torch.arange(8)))).permute(0, 2, 3, 1)
    for value in range(3):
        mean = pixels[unseen == value].float().mean(0)
        assert int((COLOURS - mean).abs().sum(1).argmin()) == value
        assert float((COLOURS[value] - mean).abs().max()) < 60
    assert any("another latent changes a picture by" in text for _, text in words)


def test_the_segmenter_changes_what_is_learned(tmp_path):
    without, _ = fit(tmp_path / "a", pairs(), steps=2)
    through, _ = fit(tmp_path / "b", pairs(), eye(), steps=2)
    off, _ = fit(tmp_path / "c", pairs(), eye(), steps=2, perceptual=0)
    z = without.latents(torch.arange(2))
    a, b, c = (one.paint(pairs().masks[:2], z) for one in (without, through, off))
    assert not torch.equal(a, b)
    assert torch.equal(a, c)


def test_the_eye_takes_the_last_map_before_each_halving():
    watched = Eye(eye(), (16, 16), torch.device("cpu"))
    maps = watched.maps(torch.rand(2, 3, 16, 16) * 2 - 1)
    assert [tuple(one.shape) for one in maps] == [(2, 4, 16, 16), (2, 6, 8, 8)]
    picture = torch.zeros(1, 3, 16, 16, requires_grad=True)
    distance = watched.distance(picture, torch.rand(1, 3, 16, 16))
    distance.backward()
    assert float(distance.detach()) > 0
    assert float(picture.grad.abs().sum()) > 0
    assert float(watched.distance(picture.detach(), picture.detach())) == 0


def test_batch_statistics_are_those_of_the_averaged_weights(tmp_path):
    """Without measuring them anew they would be running means of other weights."""
    painter, _ = fit(tmp_path, pairs(), steps=3)
    norms = [module for module in painter.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {3}
    masks = pairs().masks[:12]
    inputs = []
    norms[0].register_forward_hook(lambda module, given, found: inputs.append(given[0]))
    painter.paint(masks, painter.latents(torch.arange(12)))
    assert torch.allclose(norms[0].running_mean, inputs[0].mean((0, 2, 3)), atol=0.5)
    assert not torch.equal(norms[0].running_mean, torch.zeros_like(norms[0].running_mean))


def test_a_baked_network_paints_the_same():
    torch.manual_seed(0)
    network = PaintingNetwork(3, (18, 20), 4, 4, 8, spectral=True)
    labels, z = as_channels(torch.randint(0, 3, (2, 18, 20)).to(torch.uint8), 3), torch.randn(2, 4)
    network(labels, z)
    before = network.eval()(labels, z)
    plain = PaintingNetwork(3, (18, 20), 4, 4, 8, spectral=False).eval()
    plain.load_state_dict(baked(network).state_dict())
    assert torch.equal(plain(labels, z), before)


@pytest.mark.parametrize(("size", "levels"), [((64, 64), 4), ((32, 32), 3), ((33, 47), 3), ((4, 90), 0), ((3, 3), 0)])
def test_maps_start_at_about_four_pixels(size, levels):
    assert halvings(size) == levels
    network = PaintingNetwork(2, size, 3, 2, 4, spectral=False).eval()
    picture = network(as_channels(torch.zeros(1, *size, dtype=torch.uint8), 2), torch.zeros(1, 3))
    assert tuple(picture.shape) == (1, 3, *size)


def test_unknown_has_a_channel_of_its_own():
    masks = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    assert as_channels(masks, 2)[0, :, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_smoothing_takes_single_pixels_away_and_keeps_regions():
    masks = torch.zeros(1, 9, 9, dtype=torch.uint8)
    masks[0, 2, 2] = 1
    masks[0, 5:, :] = 2
    masks[0, 8, 8] = 255
    smooth = simplified(masks, 3, 1)
    assert smooth.dtype == torch.uint8
    assert int(smooth[0, 2, 2]) == 0
    assert smooth[0, 6:, 1:-1].unique().tolist() == [2]
    unknown = torch.full((1, 5, 5), 255, dtype=torch.uint8)
    assert torch.equal(simplified(unknown, 3, 2), unknown)


def test_flips_are_off_unless_asked_for(tmp_path):
    plain, _ = fit(tmp_path / "a", pairs(), steps=2)
    flipped, _ = fit(tmp_path / "b", pairs(), steps=2, flip=True)
    z = plain.latents(torch.arange(2))
    assert not plain.config.flip
    assert not torch.equal(plain.paint(pairs().masks[:2], z), flipped.paint(pairs().masks[:2], z))


def test_alarms_are_given_once_and_survive_a_resume():
    class Flat(torch.nn.Module):
        def forward(self, labels, z):
            return torch.zeros(len(z), 3, 4, 4)

    watch, z, true = Watch(), torch.randn(2, 5, 3), torch.rand(5, 3, 4, 4)
    labels = torch.zeros(5, 2, 4, 4)
    assert watch.look(100, Flat(), labels, z, true) == []
    told = watch.look(300, Flat(), labels, z, true)
    assert len(told) == 2
    assert "the latent is ignored" in told[0]
    assert "collapse" in told[1]
    resumed = Watch()
    resumed.load_state_dict(watch.state_dict())
    assert resumed.look(400, Flat(), labels, z, true) == []


def test_alarms_keep_silent_where_all_is_well():
    class Lively(torch.nn.Module):
        def forward(self, labels, z):
            return z[:, :3, None, None].expand(-1, -1, 4, 4).tanh()

    true = torch.rand(5, 3, 4, 4)
    assert Watch().look(900, Lively(), torch.zeros(5, 2, 4, 4), torch.randn(2, 5, 3), true) == []


def test_pairs_that_cannot_be_learned_from_are_refused(tmp_path):
    good = pairs(4)
    masks = good.masks.clone()
    masks[1, 0, 0] = len(good.classes)
    with pytest.raises(DataError, match="a mask has the class"):
        fit(tmp_path / "a", MemoryDataset(good.pixels, masks, good.classes), steps=2)
    with pytest.raises(DataError, match="1 pairs are too few"):
        fit(tmp_path / "b", MemoryDataset(good.pixels[:1], good.masks[:1], good.classes), steps=2)
    with pytest.raises(DataError, match="no pairs"):
        fit(tmp_path / "c", MemoryDataset(good.pixels[:0], good.masks[:0], good.classes), steps=2)


def test_pairs_beyond_the_memory_limit_are_read_batch_by_batch(tmp_path):
    dataset, ctx = pairs(), RunContext(tmp_path)
    assert in_memory(dataset, ctx, limit=100) is dataset
    kept = in_memory(dataset, ctx)
    assert torch.equal(kept.masks, dataset.masks)
    assert torch.equal(kept.pixels, dataset.pixels)


def test_latents_that_are_no_numbers_are_refused(tmp_path):
    painter, _ = fit(tmp_path, pairs(), steps=1)
    z = painter.latents(torch.arange(1))
    with pytest.raises(ContractError, match="NaN or infinity"):
        painter.paint(pairs().masks[:1], z * float("nan"))
