"""Losses by hand, exact resume in every round, bad input, diagnosis."""

import json
import math

import pytest
import torch
from gsegkit_layered import training, watch
from gsegkit_layered.codes import Prior
from gsegkit_layered.config import LayeredConfig, PerturbGANConfig
from gsegkit_layered.generator import Layered, PerturbGAN
from gsegkit_layered.orientation import exchanged
from gsegkit_layered.photos import Photos
from gsegkit_layered.training import background_loss, binarisation, excess, missing_area, outline, ramp, settle
from gsegkit_layered.watch import LastGood, Watch, spread_distance

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.config import Config
from gsegkit.context import RunContext, read_metrics
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ConfigError, DataError, DivergedError, InterruptedRunError, UnknownPluginError
from gsegkit.images import to_pixels, write_png
from gsegkit.interfaces import Segmenter
from gsegkit.parts import load_part, save_part
from gsegkit.progress import Progress
from gsegkit.tensors import state_hash
from gsegkit.testing import Listener, StopAfter
from gsegkit.testing.processes import together

SMALL = {"z_dim": 4, "num_codes": 6, "group_size": 3, "batch_size": 4, "num_images": 24, "round_images": 16,
         "min_images": 2, "settle_batches": 2, "dtype": "float32", "centre": 0.0}  # fmt: skip


class Bright(Segmenter):
    """A segmenter whose foreground is what is bright; one learnable number."""

    classes = ("background", "foreground")
    train_size = (32, 32)

    def __init__(self):
        super().__init__(Config())
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

    def fit(self, dataset, ctx, *, val=None):
        raise NotImplementedError

    def logits(self, images):
        bright = self.gain * images.mean(dim=1, keepdim=True)
        return torch.cat([-bright, bright], dim=1)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for i, row in enumerate(to_pixels(Toy(ToyConfig(size=40)).sample(torch.arange(12)).images)):
        write_png(folder / f"{i:02d}.png", row)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def context(folder, **options):
    return RunContext(folder, seed=3, checkpoint_seconds=1e9, **options)


def fitted(photographs, folder, segmenter=None, cls=Layered, config=LayeredConfig, progress=None, **options):
    options = {k: v for k, v in {**SMALL, **options}.items() if k in config.model_fields}
    generator = cls(config(**options))
    generator.fit(photographs, context(folder, progress=progress or Progress()), segmenter=segmenter)
    return generator


# ---- losses --------------------------------------------------------------------------------------------------------


def test_mask_terms_by_hand():
    m = torch.tensor([[0.1, 0.9], [0.5, 1.0]]).view(1, 1, 2, 2)
    assert float(binarisation(m)) == pytest.approx((0.1 + 0.1 + 0.5 + 0.0) / 4)
    two = torch.cat([torch.full((1, 1, 2, 2), 0.05), torch.full((1, 1, 2, 2), 0.65)])
    assert float(missing_area(two, 0.25)) == pytest.approx(0.2 / 2)  # the large mask does not pay for the small one
    assert float(excess(two, 0.5)) == pytest.approx(0.15 / 2)  # nor the small one for the large one
    assert float(excess(two, 0.7)) == 0


def test_outline_by_hand():
    square = torch.zeros(1, 1, 8, 8)
    square[:, :, 2:5, 3:6] = 1  # 3 x 3: six changes downwards of 7 x 8, six to the right of 8 x 7
    assert float(outline(square)) == pytest.approx(12 / 56)
    assert float(outline(square * 0.5)) == pytest.approx(6 / 56)
    assert float(outline(torch.ones(1, 1, 8, 8))) == 0


def test_information_by_hand():
    prior = Prior(2, "categorical", 4, 2)
    codes = prior.codes(torch.zeros(2, 2), torch.tensor([1, 2]))
    in_image = torch.tensor([[0.0, math.log(3), 0, 0], [0, 0, 0, 0]])  # p(c) = 3/6, then 1/4
    in_mask = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])  # p(p) = 1/2, then 3/4
    image, mask = prior.information(codes, in_image, in_mask)
    assert float(image) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert float(mask) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_information_of_a_normal_code_by_hand():
    prior = Prior(1, "normal", 2)
    codes = prior.codes(torch.tensor([[9.0, 1.0, 2.0]]), None)
    image, mask = prior.information(codes, torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    assert float(image) == pytest.approx(0.5 * (1 + 4))
    assert float(mask) == pytest.approx(0.5)


def test_background_loss_by_hand():
    """Eq. 8 on a grey image: logits -2v and 2v, cross-entropy against the first."""
    b = torch.full((1, 3, 4, 4), 0.5)
    with torch.no_grad():
        light, dark = background_loss(Bright(), b), background_loss(Bright(), -b)
    assert float(light) == pytest.approx(math.log(1 + math.exp(2)))
    assert float(dark) == pytest.approx(math.log(1 + math.exp(-2)))


def test_ramp():
    assert [ramp(seen, 20, 80) for seen in (0, 20, 50, 80, 200)] == [0, 0, 0.5, 1, 1]
    assert ramp(0, 0, 0) == 1  # from the start


# ---- training ------------------------------------------------------------------------------------------------------


def test_training_uses_its_seed_and_leaves_the_networks_frozen(photographs, tmp_path):
    one = fitted(photographs, tmp_path / "a")
    two = fitted(photographs, tmp_path / "b")
    other = Layered(LayeredConfig(**SMALL))
    other.fit(photographs, RunContext(tmp_path / "c", seed=4))
    assert state_hash(one) == state_hash(two) != state_hash(other)
    assert not one.training
    assert not any(p.requires_grad for p in one.parameters())
    assert int(one.seen) == 24
    logged = read_metrics(tmp_path / "a" / "metrics.jsonl")[-1]
    names = ("loss_D", "loss_G", "mi_image", "mi_mask", "coverage", "ambiguity", "entropy",
             "D_background", "distance_background")  # fmt: skip
    assert all(math.isfinite(logged[name]) for name in names)


@pytest.mark.parametrize(("prior", "stop_after"), [("categorical", 1), ("normal", 4)])
def test_an_interrupted_training_ends_in_the_same_bits(photographs, tmp_path, prior, stop_after):
    options = {**SMALL, "prior": prior}
    whole = fitted(photographs, tmp_path / "whole", **options)
    again = interrupted(photographs, tmp_path / "stopped", options, stop_after)
    again.fit(photographs, context(tmp_path / "stopped"))
    assert state_hash(whole) == state_hash(again)


@pytest.mark.parametrize("cls", [Layered, PerturbGAN])
def test_several_processes_take_the_steps_of_one(photographs, tmp_path, cls, monkeypatch):
    monkeypatch.setattr("gsegkit.context.LOG_EVERY", 1)
    monkeypatch.setattr(training, "WATCH_EVERY", 2)
    monkeypatch.setattr(training, "DISTANCE_EVERY", 2)
    # Adam forgets how large a gradient is, and makes a step of what is only rounding
    monkeypatch.setattr(training, "_adam", lambda parameters, lr, config: torch.optim.SGD(parameters, lr=0.005))
    config = LayeredConfig if cls is Layered else PerturbGANConfig
    options = {k: v for k, v in {**SMALL, "batch_size": 5, "num_images": 15}.items() if k in config.model_fields}

    def train(team, folder):
        generator = cls(config(**options))
        generator.fit(photographs, context(folder, team=team))
        generator.fit(photographs, context(folder / "2", team=team), segmenter=Bright())  # a later round
        weights = {name: value.numpy().tobytes() for name, value in generator.state_dict().items()}
        return weights, read_metrics(folder / "metrics.jsonl")

    _, alone = together(1, lambda team: train(team, tmp_path / "1"))[0]
    (weights, found), *others = together(3 if cls is Layered else 2, lambda team: train(team, tmp_path / "n"))
    assert all(mine == weights for mine, _ in others), "the same weights in all"
    for step, (row, beside) in enumerate(zip(found, alone, strict=True)):
        assert row == pytest.approx(beside, rel=1e-4, abs=1e-4), step


@pytest.mark.parametrize("fresh_object", [True, False])
def test_a_later_round_goes_on_from_the_one_before_and_resumes(photographs, tmp_path, fresh_object):
    """Round 2 with S, interrupted; by the same object, or by one that loaded round 1, as the pipeline does."""
    segmenter = Bright()
    whole = fitted(photographs, tmp_path / "one")
    first = state_hash(whole)
    save_part(whole, tmp_path / "stored", "generator", "layered")
    whole.fit(photographs, context(tmp_path / "two"), segmenter=segmenter)
    assert state_hash(whole) != first
    assert int(whole.seen) == 24 + 16

    def round_one():
        generator = Layered(LayeredConfig(**SMALL))
        load_part(generator, tmp_path / "stored")
        assert state_hash(generator) == first
        return generator

    stopped = round_one()
    stop = StopAfter(2, "training")
    with pytest.raises(InterruptedRunError):
        stopped.fit(photographs, context(tmp_path / "part", stop=stop.event, progress=stop), segmenter=segmenter)
    assert segmenter.gain.requires_grad  # S was frozen for the training only
    resumed = round_one() if fresh_object else stopped
    resumed.fit(photographs, context(tmp_path / "part"), segmenter=segmenter)
    assert state_hash(resumed) == state_hash(whole)


def test_the_segmenter_darkens_the_backgrounds(photographs, tmp_path):
    """Eq. 8 acts on the background generator, and only there; S calls bright pixels foreground."""
    options = {"num_images": 8, "round_images": 48, "background_weight": 50.0, "lr_generator": 8e-3}
    with_s = fitted(photographs, tmp_path / "a", **options)
    without = fitted(photographs, tmp_path / "b", **options)
    segmenter = Bright()
    with_s.fit(photographs, context(tmp_path / "a2"), segmenter=segmenter)
    without.config = LayeredConfig(**{**SMALL, **options, "background_weight": 0.0})
    without.fit(photographs, context(tmp_path / "b2"), segmenter=segmenter)
    seeds = torch.arange(16)
    dark, plain = (g.sample(seeds).layers["background"].mean() for g in (with_s, without))
    assert float(dark) < float(plain) - 0.1
    assert float(segmenter.gain.detach()) == 2.0
    assert segmenter.gain.grad is None


def test_perturbgan_trains_with_its_own_terms(photographs, tmp_path):
    config = PerturbGANConfig()
    assert (config.min_area, config.area_weight, config.scale, config.whole_pixels) == (0.25, 2.0, 0.0, True)
    generator = fitted(photographs, tmp_path, cls=PerturbGAN, config=PerturbGANConfig)
    logged = read_metrics(tmp_path / "metrics.jsonl")
    assert "mi_image" not in (logged[-1] if logged else {})
    assert torch.isfinite(generator.sample(torch.arange(4)).images).all()


def test_the_mask_size_loss_grows_masks(photographs, tmp_path):
    options = {"cls": PerturbGAN, "config": PerturbGANConfig, "num_images": 60, "lr_generator": 6e-3,
               "mask_bias": -3.0}  # fmt: skip
    grown = fitted(photographs, tmp_path / "a", area_weight=100.0, **options)
    free = fitted(photographs, tmp_path / "b", area_weight=0.0, **options)
    a, b = (float(g.sample(torch.arange(16)).probs[:, 1].mean()) for g in (grown, free))
    assert a > b + 0.05
    assert a > 0.15


def test_settling_matches_the_statistics_of_fresh_samples(photographs, tmp_path):
    generator = fitted(photographs, tmp_path, settle_batches=30, batch_size=8)
    stem = generator.average.background.trunk.levels[0]
    outputs = stem.linear(torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(stem.norm.running_var, outputs.var(0), rtol=0.6, atol=1e-3)
    assert stem.norm.momentum == 0.1
    before = stem.norm.running_mean.clone()
    with torch.random.fork_rng():
        settle(generator.average, generator.prior, 3, 8)
    assert not torch.equal(before, stem.norm.running_mean)


def test_stored_generators_are_loaded_by_option(photographs, tmp_path):
    generator = fitted(photographs, tmp_path / "run" / "generator")
    save_part(generator, tmp_path / "run" / "generator", "generator", "layered")
    generator.seen += 1  # a later round
    save_part(generator, tmp_path / "run" / "generator-1", "generator", "layered")
    for folder, seen in (("run", 25), ("run/generator", 24)):
        again = Layered(LayeredConfig(**SMALL, weights=str(tmp_path / folder)))
        assert int(again.seen) == seen
        assert torch.equal(again.sample(torch.arange(3)).images, generator.sample(torch.arange(3)).images)
    with pytest.raises(UnknownPluginError, match="not a file, not a folder"):
        Layered(LayeredConfig(weights=str(tmp_path / "none-there")))
    with pytest.raises(ArtifactError, match="no checkpoint reader recognises"):
        Layered(LayeredConfig(weights=str(tmp_path)))
    with pytest.raises(ArtifactError, match="of the generator 'layered', not of 'perturbgan'"):
        PerturbGAN(PerturbGANConfig(weights=str(tmp_path / "run")))


# ---- codes ---------------------------------------------------------------------------------------------------------


def kill_parent(generator, parent, value):
    """Make the masks of one parent empty or full, by a bias that its code switches."""
    conv = generator.average.foreground.parent.blocks[0].conv
    conv.weight.zero_()
    generator.average.foreground.mask.weight.zero_()
    generator.average.foreground.mask.bias.fill_(-1.0)
    conv.weight[:, parent, 1, 1] = 10.0
    generator.average.foreground.mask.weight[:] = value


def test_dead_codes_are_not_sampled(photographs, tmp_path):
    generator = Layered(LayeredConfig(**SMALL))
    heard = Listener()
    for parent, value in ((1, -1.0), (0, 1.0)):
        kill_parent(generator, parent, value)
        generator._after(context(tmp_path, progress=heard))
        alive = [c for c in range(6) if c // 3 != parent]
        assert generator.healthy.nonzero().flatten().tolist() == alive
        labels = generator.labels(torch.arange(60))
        assert sorted(set(labels.tolist())) == alive
        assert torch.equal(labels[7:9], generator.labels(torch.arange(7, 9)))
    assert "3 of 6 codes" in heard.infos[0]
    keeping = Layered(LayeredConfig(**SMALL, drop_codes=False))
    kill_parent(keeping, 1, -1.0)
    keeping._after(context(tmp_path))
    assert keeping.healthy.all()


def test_a_code_whose_mask_lies_around_the_middle_is_turned(tmp_path):
    generator = Layered(LayeredConfig(**SMALL))
    heard = Listener()
    seeds = torch.arange(12)
    labels = generator.labels(seeds)
    before = generator.synthesize(generator.latents(seeds), labels)
    ring = torch.zeros(6, 32, 32)
    ring[2] = 0.9
    ring[2, 4:28, 4:28] = 0.1  # around the middle
    ring[4, 8:24, 8:24] = 1  # in the middle
    assert exchanged(ring).tolist() == [False, False, True, False, False, False]
    generator.turned.copy_(exchanged(ring))
    after = generator.synthesize(generator.latents(seeds), labels)
    turned = labels == 2
    assert turned.any()
    assert torch.equal(after.images, before.images)
    for one, other in (("background", "foreground"), ("foreground", "background")):
        assert torch.equal(after.layers[one][turned], before.layers[other][turned])
    assert torch.equal(after.layers["mask"][turned], 1 - before.layers["mask"][turned])
    assert torch.equal(after.probs[~turned], before.probs[~turned])
    folder = tmp_path / "part"
    save_part(generator, folder, "generator", "layered")
    loaded = Layered(LayeredConfig(**SMALL, weights=str(folder)))
    assert loaded.turned.tolist() == generator.turned.tolist()
    generator._after(context(tmp_path, progress=heard))
    assert not generator.turned.any()  # its own masks are not around the middle


def test_turning_is_said_and_can_be_left_out(tmp_path, monkeypatch):
    masks = torch.zeros(6, 32, 32)
    masks[:, 8:24, 8:24] = 1
    masks[1] = 1 - masks[1]
    heard, generator = Listener(), Layered(LayeredConfig(**SMALL))
    monkeypatch.setattr(generator, "mean_masks", lambda: masks)
    generator._after(context(tmp_path, progress=heard))
    assert generator.turned.tolist() == [False, True, False, False, False, False]
    assert any("of 1 of 6 codes lie around the middle" in text for text in heard.infos)
    plain = Layered(LayeredConfig(**SMALL, orient=False))
    monkeypatch.setattr(plain, "mean_masks", lambda: masks)
    plain._after(context(tmp_path))
    assert not plain.turned.any()


@pytest.mark.parametrize("codes", [[6], [-1], "x"])
def test_turned_codes_in_a_file_are_checked(codes, tmp_path):
    generator = Layered(LayeredConfig(**SMALL))
    save_part(generator, tmp_path, "generator", "layered")
    record = json.loads((tmp_path / "component.json").read_text())
    record["facts"]["turned"] = codes
    (tmp_path / "component.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="does not describe a Layered"):
        Layered(LayeredConfig(**SMALL, weights=str(tmp_path)))


def test_codes_of_another_size_are_not_sampled(tmp_path, monkeypatch):
    generator = Layered(LayeredConfig(**SMALL))
    sizes = torch.tensor([0.3, 0.25, 0.09, 0.3, 0.5, 0.8])  # median 0.3 (of an even number, the lower one)
    monkeypatch.setattr(generator, "code_coverage", lambda: sizes)
    generator._after(context(tmp_path))
    assert generator.healthy.tolist() == [True, True, False, True, True, False]
    generator.config = LayeredConfig(**SMALL, code_spread=10)
    generator._after(context(tmp_path))
    assert generator.healthy.all()


def test_when_all_codes_are_dead_all_are_kept(tmp_path):
    generator = Layered(LayeredConfig(**SMALL))
    generator.average.foreground.mask.weight.zero_()
    generator.average.foreground.mask.bias.fill_(-20.0)
    heard = Listener()
    generator._after(context(tmp_path, progress=heard))
    assert generator.healthy.all()
    assert "collapsed" in heard.warnings[0]


def test_photographs_are_clustered_by_the_image_head():
    generator = Layered(LayeredConfig(**SMALL))
    images = Toy(ToyConfig(size=32)).sample(torch.arange(5)).images
    logs = generator.clusters(images)
    assert logs.shape == (5, 6)
    assert torch.allclose(logs.exp().sum(1), torch.ones(5), atol=1e-5)
    assert torch.allclose(generator.clusters(images[2:3]), logs[2:3], atol=1e-4)
    with pytest.raises(ConfigError, match="no categories"):
        Layered(LayeredConfig(prior="normal", num_codes=4)).clusters(images)


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_too_few_photographs(photographs, tmp_path):
    with pytest.raises(DataError, match=r"12 photographs are too few .*at least 100"):
        Layered(LayeredConfig()).fit(photographs, context(tmp_path))


def test_broken_files_are_named_and_skipped_up_to_a_limit(photographs, tmp_path):
    broken = tmp_path / "torn.png"
    broken.write_bytes(photographs.paths[0].read_bytes()[:100])
    files = UnlabelledImages((*photographs.paths, broken))
    heard = Listener()
    config = LayeredConfig(**SMALL, max_broken=0.1)
    photos = Photos(files, config, context(tmp_path, progress=heard), torch.device("cpu"))
    assert len(photos) == 12
    assert len(heard.warnings) == 1
    assert "1 of 13 photographs" in heard.warnings[0]
    assert "torn.png" in heard.warnings[0]
    with pytest.raises(DataError, match=r"torn\.png"):
        Photos(files, LayeredConfig(**SMALL, max_broken=0.05), context(tmp_path), torch.device("cpu"))


def test_sizes_and_grey_may_be_mixed(tmp_path):
    pixels = to_pixels(Toy(ToyConfig(size=50, width=70)).sample(torch.arange(3)).images)
    write_png(tmp_path / "wide.png", pixels[0])
    write_png(tmp_path / "small.png", pixels[1][:, :20, :15])
    write_png(tmp_path / "grey.png", pixels[2].float().mean(0).to(torch.uint8))
    files = UnlabelledImages(tuple(sorted(tmp_path.glob("*.png"))))
    generator = fitted(files, tmp_path / "run")
    assert torch.isfinite(generator.sample(torch.arange(2)).images).all()


def test_folders_beyond_the_memory_are_read_from_disk(photographs, tmp_path, monkeypatch):
    inside = Photos(photographs, LayeredConfig(**SMALL), context(tmp_path), torch.device("cpu"))
    monkeypatch.setattr("gsegkit_layered.photos.MEMORY_LIMIT", 1000)
    beyond = Photos(photographs, LayeredConfig(**SMALL), context(tmp_path), torch.device("cpu"))
    assert not beyond.banks[32].in_memory
    drawn = []
    for photos in (inside, beyond):
        torch.manual_seed(0)
        drawn.append(photos.batch(9))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("mirror", "axes"), [("none", {()}), ("x", {(), (3,)}), ("xy", {(), (2,), (3,), (2, 3)})])
def test_batches_are_parts_of_photographs_mirrored_or_not(photographs, tmp_path, mirror, axes):
    config = LayeredConfig(**SMALL, mirror=mirror, crop_min=0.8)
    photos = Photos(photographs, config, context(tmp_path), torch.device("cpu"))
    assert photos.sides == [32, 34, 36, 38, 40]
    torch.manual_seed(0)
    batch = to_pixels(photos.batch(30))
    assert batch.shape == (30, 3, 32, 32)
    flips, sides = set(), set()
    for part in batch:
        found = [
            (flip, side)
            for flip in ((), (2,), (3,), (2, 3))
            for side in photos.sides
            for whole in photos.banks[side].batch(range(12)).flip(flip)
            if (whole.unfold(1, 32, 1).unfold(2, 32, 1) == part[:, None, None]).all(dim=(3, 4)).all(0).any()
        ]
        assert found
        flips.update(flip for flip, _ in found)
        sides.update(side for _, side in found)
    assert flips == axes
    assert sides == set(photos.sides)


# ---- divergence and collapse ---------------------------------------------------------------------------------------


def test_divergence_keeps_the_last_good_state(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WATCH_EVERY", 1)
    generator = Layered(LayeredConfig(**SMALL))
    real = training.binarisation
    calls = []

    def breaks(m):
        calls.append(0)
        return real(m) * (float("nan") if len(calls) > 3 else 1.0)

    monkeypatch.setattr(training, "binarisation", breaks)
    generator.config = LayeredConfig(**SMALL, binary_start=0, binary_end=0)
    with pytest.raises(DivergedError, match=r"its state after 12 images") as error:
        generator.fit(photographs, context(tmp_path))
    assert "lr_generator" in error.value.hint
    assert str(tmp_path / "last-good") in error.value.hint
    batch = generator.sample(torch.arange(4))
    stored = Layered(LayeredConfig(**SMALL, weights=str(tmp_path / "last-good")))
    assert int(stored.seen) == 12
    assert torch.equal(stored.sample(torch.arange(4)).images, batch.images)
    assert torch.isfinite(batch.images).all()
    assert not generator.training
    untrained = Layered(LayeredConfig(**SMALL))
    assert not torch.equal(batch.images, untrained.sample(torch.arange(4)).images)


@pytest.mark.parametrize(("bias", "kind", "knob"), [(-5.0, "background", "gamma"), (5.0, "foreground", "shift")])
def test_collapse_from_the_start_is_an_error_that_says_what_to_turn(
    photographs, tmp_path, monkeypatch, bias, kind, knob
):
    monkeypatch.setattr(training, "WATCH_EVERY", 1)
    options = {**SMALL, "mask_bias": bias, "patience": 12, "num_images": 400, "lr_generator": 1e-6,
               "coverage_weight": 0.0}  # fmt: skip
    with pytest.raises(
        DivergedError, match=f"every pixel was {kind} from the start, and still was after 12 images"
    ) as error:
        fitted(photographs, tmp_path, **options)
    assert f"gen.{knob}" in error.value.hint


def test_a_later_collapse_stops_and_keeps_the_last_good_state(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WATCH_EVERY", 1)
    see, looks = Watch.see, []

    def empties(self, m, images, binary):  # the fourth look and those after it find nothing
        looks.append(0)
        see(self, m, images)
        self.values["coverage"], self.usual = (0.2 if len(looks) < 4 else 0.001), 0.2
        self.bad_for["background"] = 4 * max(0, len(looks) - 3)

    monkeypatch.setattr(Watch, "see", empties)
    heard = Listener()
    stopped = fitted(photographs, tmp_path / "a", progress=heard, patience=8, num_images=400)
    assert int(stopped.seen) == 12  # the third look, after three steps, was the last good one
    assert "stopped after 20 images: every pixel is background; the state after 12 images is kept" in heard.warnings[0]
    assert "gen.gamma" in heard.warnings[0]
    assert not any(p.requires_grad for p in stopped.parameters())
    looks.clear()
    short = fitted(photographs, tmp_path / "b", num_images=12)
    name = "image.weight"
    kept, whole = (dict(g.average.background.named_parameters())[name] for g in (stopped, short))
    assert torch.equal(kept, whole)


def test_a_collapse_before_the_patience_is_over_is_an_error(photographs, tmp_path, monkeypatch):
    """Masks vanish after the second look; what was good before is the start's bump, not an object."""
    monkeypatch.setattr(training, "WATCH_EVERY", 1)
    see = Watch.see

    def vanish(self, m, images, binary):
        see(self, m if self.calls < 2 else m * 0, images)
        self.calls += 1

    monkeypatch.setattr(Watch, "calls", 0, raising=False)
    monkeypatch.setattr(Watch, "see", vanish)
    with pytest.raises(DivergedError, match="every pixel was background after 8 images, and still was after 40 images"):
        fitted(photographs, tmp_path, patience=20, num_images=400)


def test_early_stop_can_be_switched_off(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WATCH_EVERY", 1)
    heard = Listener()
    generator = fitted(photographs, tmp_path, progress=heard, mask_bias=-5.0, patience=4, stop_early=False)
    assert int(generator.seen) == 24
    assert not any("stopped" in warning for warning in heard.warnings)


def test_watch_needs_the_whole_patience_and_forgets():
    looked = Watch(patience=100)
    empty, half = torch.full((1, 1, 4, 4), 0.001), torch.full((1, 1, 4, 4), 0.4)
    looked.see(empty, 60)
    assert (looked.trivial, looked.verdict) == ("background", "")
    looked.see(half, 60)
    assert looked.trivial == ""
    for _ in range(60):
        looked.see(empty, 60)
    assert looked.verdict == "background"
    copy = Watch(patience=100)
    copy.load_state_dict(looked.state_dict())
    assert copy.state_dict() == looked.state_dict()


def test_a_faint_veil_is_no_object_once_masks_must_be_binary():
    veil = torch.full((1, 1, 4, 4), 0.05)
    for binary, kind in ((False, ""), (True, "background")):
        looked = Watch(patience=100)
        looked.see(veil, 60, binary=binary)
        assert looked.trivial == kind
        assert not looked.sound
        assert looked.values["solid"] == 0
    one = veil.clone()
    one[0, 0, 1, 1] = 0.9
    looked = Watch(patience=100)
    looked.see(one, 60, binary=True)
    assert looked.trivial == ""
    assert looked.values["solid"] == pytest.approx(1 / 16)


def test_masks_that_are_vanishing_are_not_worth_keeping():
    """Empty at once is seen within five looks, and the state before the fall is the last sound one."""
    looked, sound = Watch(patience=100), []
    for covered in [6] * 20 + [5] * 20 + [0] * 6:  # of 20 pixels
        looked.see((torch.arange(20) < covered).float().view(1, 1, 4, 5), 10)
        sound.append(looked.sound)
    assert all(sound[:40])  # also while masks settle
    assert not any(sound[40:])
    assert looked.bad_for["background"] == 30
    copy = Watch(patience=100)
    copy.load_state_dict(looked.state_dict())
    assert (copy.usual, copy.sound) == (looked.usual, False)


def test_watch_values_by_hand():
    looked = Watch(patience=1)
    looked.see(torch.tensor([0.5, 0.5, 1.0, 0.0]).view(1, 1, 2, 2), 1)
    assert looked.values["coverage"] == pytest.approx(0.5)
    assert looked.values["ambiguity"] == pytest.approx(0.25)
    assert looked.values["solid"] == pytest.approx(0.25)
    assert looked.values["entropy"] == pytest.approx(0.5, abs=1e-3)


def test_distance_of_backgrounds():
    torch.manual_seed(0)
    real = torch.randn(500, 8)
    assert spread_distance(real, real) == 0
    assert spread_distance(real + 1, real) == pytest.approx(1.0, abs=0.1)  # a shift by the spread
    assert spread_distance(real * 2, real) == pytest.approx(1.0, abs=0.1)


def test_the_last_good_state_is_never_one_with_nan():
    layer = torch.nn.Linear(2, 2)
    kept = LastGood({"layer": layer})
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    kept.keep(10)
    kept.recall()
    assert kept.images == 0
    assert torch.equal(layer.weight, before)


# ---- helpers -------------------------------------------------------------------------------------------------------


def interrupted(photographs, folder, options, steps):
    """A generator whose training was stopped after some steps; its checkpoint is in `folder`."""
    stop = StopAfter(steps, "training")
    generator = Layered(LayeredConfig(**options))
    with pytest.raises(InterruptedRunError):
        generator.fit(photographs, context(folder, stop=stop.event, progress=stop))
    return generator


def test_remedies_name_options_that_exist():
    for text in watch.REMEDIES.values():
        for word in text.replace(",", " ").replace("(", " ").replace(")", " ").split():
            if word.startswith("gen."):
                assert word.removeprefix("gen.") in LayeredConfig.model_fields
