"""Mask-sampling: a generator's own latents are searched until the extractor sees the painted mask."""

import json
import math

import pytest
import torch

import gsegkit
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy
from gsegkit.classes.class_map import ClassMap, NamedClass
from gsegkit.classes.named import Named
from gsegkit.config import Config
from gsegkit.errors import ArtifactError, CapabilityError, ConfigError, ContractError
from gsegkit.painting.sampling import MaskSampling, MaskSamplingConfig, agreement, cross_entropy
from gsegkit.painting.styles import Style, latents_of
from gsegkit.parts import save_part
from gsegkit.seeds import sample_seeds
from gsegkit.types import IGNORE, MaskBatch


def painter(ctx, extractor=None, num_classes=0, **options):
    generator = Toy(ToyConfig(size=24, num_classes=num_classes))
    extractor = extractor or Native(Config())
    extractor.fit(generator, ctx)
    return MaskSampling(generator, extractor, MaskSamplingConfig(**{"candidates": 4, "steps": 25, **options}))


def drawn(sampler, count=3):
    """Masks of other samples than the candidates are."""
    batch = sampler.generator.sample(sample_seeds(0, "test", 0, count))
    return sampler.generator.truth(batch)


@pytest.fixture
def seen(monkeypatch):
    """Agreement of every picture that the search looked at, in order."""
    found = []
    looked = MaskSampling._look

    def look(self, z, candidates):
        images, probs = looked(self, z, candidates)
        found.append((images.detach(), probs.detach()))
        return images, probs

    monkeypatch.setattr(MaskSampling, "_look", look)
    return found


def test_the_steps_follow_the_mask_and_the_best_picture_is_kept(ctx, seen):
    sampler = painter(ctx)
    for mask in drawn(sampler):
        seen.clear()
        picture = sampler.paint(mask[None], sampler.latents(torch.tensor([7])))
        (_, candidates), *looked = seen
        shares = [float(agreement(mask, probs)) for _, probs in looked]
        assert shares[0] == float(agreement(mask, candidates).max())  # the search starts at the best candidate
        losses = [float(cross_entropy(mask, probs)) for _, probs in looked]
        best = losses.index(min(losses))
        assert losses[best] < 0.7 * losses[0]
        assert shares[best] > shares[0]
        assert torch.equal(picture, looked[best][0].clamp(-1, 1))
        assert not picture.requires_grad


def test_a_picture_is_a_function_of_mask_and_latent_whatever_the_batch(ctx):
    sampler = painter(ctx, steps=4)
    masks, z = drawn(sampler), sampler.latents(torch.tensor([1, 2, 2**32 - 2]))
    assert torch.equal(sampler.latents(torch.tensor([2])), z[1:2])
    together = sampler.paint(masks, z)
    with torch.no_grad():
        alone = torch.cat([sampler.paint(masks[i : i + 1], z[i : i + 1]) for i in range(3)])
    assert torch.equal(together, alone)
    assert not torch.equal(sampler.paint(masks[:1], z[1:2]), together[:1])


def test_weights_and_flags_stay_as_they_were(ctx):
    sampler = painter(ctx, steps=2)
    before = {name: value.clone() for name, value in sampler.state_dict().items()}
    sampler.paint(drawn(sampler, 1), sampler.latents(torch.tensor([3])))
    assert all(torch.equal(value, before[name]) for name, value in sampler.state_dict().items())
    assert all(value.grad is None for value in sampler.parameters())


def test_latents_and_their_mixes_are_standard_normal(ctx):
    sampler = painter(ctx)
    z = torch.cat([latents_of(sampler, Style(seed, seed + 1, 0.5)) for seed in range(0, 400, 2)])
    spread = 1 / math.sqrt(len(z) / 2)
    assert float(z.mean().abs()) < 0.1
    assert float((z.std(dim=0) - 1).abs().mean()) < 2 * spread


def test_classes_of_a_conditional_generator_are_taken_in_turn(ctx, seen):
    sampler = painter(ctx, num_classes=3, steps=1)
    seeds = sampler._candidate_seeds(5)
    assert sampler.generator.labels(seeds).tolist() == [0, 1, 2, 0]
    batch = sampler.generator.sample(seeds)
    mask = sampler.generator.truth(batch)[2]
    seen.clear()
    sampler.paint(mask[None], sampler.latents(torch.tensor([5])))
    assert float(agreement(mask, seen[1][1])) == 1  # the third candidate has this very mask, by its own class


def test_unknown_pixels_have_no_weight(ctx):
    sampler = painter(ctx)
    probs = torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]]).view(1, 2, 1, 3)
    mask = torch.tensor([[0, 0, IGNORE]], dtype=torch.uint8)
    assert agreement(mask, probs).tolist() == [0.5]
    assert float(cross_entropy(mask, probs)) == pytest.approx(-(math.log(0.9) + math.log(0.2)) / 2, abs=1e-3)
    nothing = torch.full((1, 24, 24), IGNORE, dtype=torch.uint8)
    z = sampler.latents(torch.tensor([4]))
    first = sampler.generator.sample(sampler._candidate_seeds(4)[:1]).images
    assert torch.allclose(sampler.paint(nothing, z), first.clamp(-1, 1), atol=1e-5)


def test_ignored_clusters_are_no_class(ctx, seen):
    native = Native(Config())
    native.fit(Toy(ToyConfig(size=24)), ctx)
    classes = (NamedClass(name="ground", clusters=(0,)), NamedClass(name="body", clusters=(1, 3)))
    names = ClassMap(extractor=native.fingerprint(), classes=classes, ignore=(2,))
    sampler = MaskSampling(Toy(ToyConfig(size=24)), Named(native, names), MaskSamplingConfig(candidates=3, steps=1))
    truth = sampler.generator.truth(sampler.generator.sample(sampler._candidate_seeds(2)[:1]))[0]
    assert (truth == 2).any()
    masks = sampler.samples(4).batch([0, 1, 2, 3])[1]
    assert masks.unique().tolist() == [0, 1, IGNORE]
    seen.clear()
    sampler.paint(torch.where(truth == 0, 0, 1).to(torch.uint8)[None], sampler.latents(torch.tensor([2])))
    assert torch.equal(seen[0][1][0].sum(dim=0) == 0, truth == 2)
    assert float(agreement(torch.where(truth == 0, 0, 1), seen[0][1])[0]) == pytest.approx(
        float((truth != 2).float().mean())
    )


def test_bad_masks_are_refused(ctx):
    sampler = painter(ctx)
    z = sampler.latents(torch.tensor([4]))
    with pytest.raises(ContractError, match="the class 9"):
        sampler.paint(torch.full((1, 24, 24), 9, dtype=torch.uint8), z)
    with pytest.raises(ConfigError, match="nothing to learn"):
        sampler.fit(None, ctx)


class Blunt(Native):
    """Decides without a gradient."""

    def extract(self, batch, generator):
        with torch.no_grad():
            return MaskBatch(batch.probs.clone())


def test_an_extractor_without_a_gradient_is_refused(ctx):
    with pytest.raises(CapabilityError, match="Blunt reads from Toy have none") as refused:
        painter(ctx, Blunt(Config()))
    assert "train-painter" in refused.value.hint


@pytest.fixture
def run(ctx, tmp_path):
    """What a run leaves of its generator and extractor."""
    generator = {"name": "toy", "options": {"size": 24, "num_classes": 0}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"gen": generator}))
    extractor = Native(Config())
    extractor.fit(Toy(ToyConfig(size=24)), ctx)
    save_part(extractor, tmp_path / "run" / "extractor", "extractor", "native")
    return tmp_path / "run"


def test_a_run_paints_without_training(run):
    found = gsegkit.open_painter(run, options={"steps": 2, "candidates": 2})
    assert found.classes == ("background", "body", "spot", "rim")
    picture = found.paint(torch.zeros(1, 24, 24, dtype=torch.uint8), found.latents(torch.tensor([1])))
    assert picture.shape == (1, 3, 24, 24)
    classes = (NamedClass(name="rest", clusters=(0, 3)), NamedClass(name="thing", clusters=(1, 2)))
    names = ClassMap(extractor=gsegkit.load(run, "extractor").fingerprint(), classes=classes)
    assert gsegkit.open_painter(run, classes=names).classes == ("rest", "thing")


def test_folders_without_a_painter_are_refused(run, ctx, tmp_path):
    with pytest.raises(ConfigError, match=r"painter\.lr: input should be greater than 0"):
        gsegkit.open_painter(run, options={"lr": 0})
    with pytest.raises(ArtifactError, match="holds a extractor, not a painter"):
        gsegkit.open_painter(run / "extractor")
    with pytest.raises(ArtifactError, match="does not exist"):
        gsegkit.open_painter(tmp_path / "nowhere")
    save_part(painter(ctx), tmp_path / "stored", "painter", "some")
    with pytest.raises(ConfigError, match="options of its own"):
        gsegkit.open_painter(tmp_path / "stored", options={"lr": 1})
