from pathlib import Path

import pytest
import torch
from gsegkit_labels4free.banks import Bank, load_bank
from gsegkit_labels4free.config import Labels4FreeConfig
from gsegkit_labels4free.labels4free import Labels4Free
from gsegkit_labels4free.networks import AlphaNetwork, Discriminator, Level
from gsegkit_labels4free.training import Best, Training

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.config import build_config
from gsegkit.context import RunContext, read_metrics
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ConfigError, ContractError, DataError, DivergedError
from gsegkit.images import to_pixels, write_png
from gsegkit.storage import read_json
from gsegkit.testing import Listener
from gsegkit.training import ImageBank
from gsegkit.types import GeneratedBatch

SMALL = {"disc_base": 256, "disc_max": 16}  # too small to learn anything, but fast


@pytest.fixture
def toy():
    return Toy(ToyConfig(size=32))


@pytest.fixture
def ctx(tmp_path):
    return RunContext(tmp_path / "extractor", seed=0, progress=Listener())


def photographs(folder: Path, toy, count=20, size=(32, 32)):
    for i, pixels in enumerate(to_pixels(toy.sample(torch.arange(count)).images)):
        write_png(folder / f"{i}.png", pixels)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))), size)


def fitted(toy, ctx, **options):
    extractor = Labels4Free(Labels4FreeConfig(**{**SMALL, **options}))
    extractor.fit(toy, ctx)
    return extractor


def with_alpha(value, **options):
    """An extractor whose alpha is `value` everywhere."""
    extractor = Labels4Free(Labels4FreeConfig(**options))
    extractor.restore({"alpha_levels": [[4, 4, ["a"], [1]]], "size": [4, 4]})
    with torch.no_grad():
        for parameter in extractor.alpha.parameters():
            parameter.zero_()
        extractor.alpha.alpha.bias.fill_(torch.logit(torch.tensor(value)))
    batch = GeneratedBatch(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5), features={"a": torch.zeros(2, 1, 4, 4)})
    return extractor.extract(batch, None)


# ---- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "threshold", "foreground"),
    [(0.9, 0.9, 0.5), (0.45, 0.9, 0.25), (0.95, 0.9, 0.75), (0.5, 0.5, 0.5), (0.3, 0.5, 0.3), (0.2, 0.1, 0.5555556)],
)
def test_the_threshold_becomes_one_half(alpha, threshold, foreground):
    found = with_alpha(alpha, threshold=threshold)
    assert torch.allclose(found.probs[:, 1], torch.full((2, 4, 4), foreground), atol=1e-5)
    assert torch.allclose(found.probs.sum(dim=1), torch.ones(2, 4, 4))


def test_hard_masks_and_scores():
    found = with_alpha(0.85, threshold=0.9, hard=True)
    assert bool((found.probs[:, 1] == 0).all())
    assert found.scores["coverage"].tolist() == [0, 0]
    assert found.scores["binary"].tolist() == pytest.approx([0.15, 0.15])
    assert bool((with_alpha(0.95, threshold=0.9, hard=True).probs[:, 1] == 1).all())


def test_before_fit_and_with_missing_maps_it_says_so(toy):
    extractor = Labels4Free(Labels4FreeConfig())
    with pytest.raises(ArtifactError, match="was not fitted"):
        extractor.soft({})
    with pytest.raises(ArtifactError, match="was not fitted"):
        extractor.emptied(toy.sample(torch.arange(2)), toy)
    extractor.restore({"alpha_levels": [[8, 8, ["half"], [16]]], "size": [32, 32]})
    with pytest.raises(ContractError, match="no feature 'half'"):
        extractor.soft({"full": torch.zeros(1, 12, 32, 32)})


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_training_finds_the_toys_object(toy, ctx):
    extractor = Labels4Free(Labels4FreeConfig(steps=300, snapshot=50))
    extractor.fit(toy, ctx)
    batch = toy.sample(ctx.seeds("test", 64), features=extractor.features(toy.info))
    found, truth = extractor.extract(batch, toy).probs[:, 1] > 0.5, toy.truth(batch) > 0
    iou = ((found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp_min(1)).mean()
    assert float(iou) > 0.65  # measured with seeds 0 and 1: 0.81, 0.72
    assert extractor.found["background"].startswith("object")
    assert extractor.found["reals"] == "generated images"
    caption = (ctx.folder / "figures" / "labels4free.txt").read_text()
    assert "generated pictures" in caption
    assert (ctx.folder / "figures" / "labels4free.png").stat().st_size > 1000
    rows = read_metrics(ctx.folder / "metrics.jsonl")
    assert {"loss_D", "loss_A", "area"} <= set(rows[-1])


def test_given_pictures_are_the_real_ones_unless_samples_are_asked_for(toy, ctx, tmp_path):
    images = photographs(tmp_path / "pictures", toy)
    for reals, said in (("auto", "20 given images"), ("samples", "generated images")):
        extractor = Labels4Free(Labels4FreeConfig(**SMALL, steps=1, reals=reals))
        smoke = RunContext(tmp_path / reals, seed=0, smoke=True, progress=Listener())
        extractor.fit(toy, smoke, images=images)
        assert extractor.found["reals"] == said
        assert any(said in text for _, text in smoke.progress.messages)


def test_the_area_window_is_estimated_or_given(toy, ctx):
    extractor = Labels4Free(Labels4FreeConfig(**SMALL))
    setting = extractor._prepare(toy, ctx, None)
    area = 2 * setting.foreground_area
    assert 0.1 < area < 0.35  # the toy's objects cover a fifth
    assert setting.background_area == pytest.approx((1 - area) / 2)
    given = Labels4Free(Labels4FreeConfig(**SMALL, foreground_area=0.25, background_area=0.4))
    setting = given._prepare(toy, ctx, None)
    assert (setting.foreground_area, setting.background_area) == (0.25, 0.4)


def layers_of(toy, ctx, **options):
    extractor = Labels4Free(Labels4FreeConfig(**SMALL, **options))
    setting = extractor._prepare(toy, ctx, None)
    training = object.__new__(Training)
    training.config, training.generator, training.setting, training.ctx = extractor.config, toy, setting, ctx
    training.names = ()
    return training.layers(3)


def test_foreground_and_ground_have_latents_of_their_own_unless_same_z(toy, ctx):
    for same in (False, True):
        foregrounds, grounds = layers_of(toy, ctx, same_z=same, background="object", background_edit="zero")
        own = toy.synthesize(foregrounds.latents, foregrounds.labels).layers["background"]
        assert torch.allclose(grounds, own, atol=1e-5) == same


def test_truncation_pulls_the_foregrounds_latents_to_the_mean_and_leaves_the_grounds(toy, ctx):
    far, grounds = layers_of(toy, ctx, psi=1.0)
    near, same_grounds = layers_of(toy, ctx, psi=0.5)
    assert torch.equal(grounds, same_grounds)
    assert float(near.latents.norm() / far.latents.norm()) == pytest.approx(0.5, abs=0.05)


def test_grounds_of_a_folder_replace_the_background_generator(toy, ctx, tmp_path):
    write_png(tmp_path / "grounds" / "0.png", torch.full((3, 40, 40), 10, dtype=torch.uint8))
    for i in range(1, 16):
        write_png(tmp_path / "grounds" / f"{i}.png", torch.full((3, 40, 40), 10, dtype=torch.uint8))
    _, grounds = layers_of(toy, ctx, backgrounds=str(tmp_path / "grounds"))
    assert torch.allclose(grounds, torch.full_like(grounds, 10 / 127.5 - 1))


def training_of(toy, ctx, **options):
    extractor = Labels4Free(Labels4FreeConfig(**SMALL, **options))
    setting = extractor._prepare(toy, ctx, None)
    torch.manual_seed(0)
    alpha, discriminator = AlphaNetwork(extractor.alpha_levels, *extractor.size), Discriminator(32, 32, 256, 16)
    return Training(extractor.config, extractor.alpha_levels, toy, setting, ctx, alpha, discriminator, Best(alpha))


def moved(network, before):
    return any(not torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))


def test_the_discriminators_update_moves_it_alone_and_alphas_alpha_alone(toy, ctx):
    training = training_of(toy, ctx)
    foregrounds, grounds = training.layers(0)
    mask = training.A(foregrounds.features)
    composites = mask * foregrounds.images + (1 - mask) * grounds
    alpha, discriminator = ([p.detach().clone() for p in net.parameters()] for net in (training.A, training.D))
    training._discriminator_step(0, composites.detach())
    assert moved(training.D, discriminator)
    assert not moved(training.A, alpha)
    discriminator = [p.detach().clone() for p in training.D.parameters()]
    training._alpha_step(composites, mask)
    assert moved(training.A, alpha)
    assert not moved(training.D, discriminator)
    assert all(p.requires_grad for p in training.D.parameters())


def test_the_alpha_loss_is_the_papers(toy, ctx):
    """With a discriminator that gives 0 to every image: softplus(0) + lambda_1 B + lambda_2 C + E + price, by hand."""
    training = training_of(
        toy, ctx, adversarial_weight=0.1, binary_weight=2.0, foreground_weight=3.0, foreground_area=0.5,
        background_weight=5.0, background_area=0.4, area_cost=0.7,
    )  # fmt: skip
    for parameter in training.D.output.parameters():
        torch.nn.init.zeros_(parameter)
    mask = torch.full((2, 1, 32, 32), 0.2)
    mask[1] = 0.9
    mask.requires_grad_()
    composites = torch.zeros(2, 3, 32, 32) * mask
    loss, area = training._alpha_step(composites, mask)
    binary, least, ground = (0.2 + 0.1) / 2, (0.3 + 0) / 2, (0 + 0.3) / 2
    expected = 0.1 * 0.6931472 + 2 * binary + 3 * least + 5 * ground + 0.7 * 0.55
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(area) == pytest.approx(0.55)


def test_masks_that_show_the_ground_are_turned_and_others_are_not(toy, ctx, monkeypatch):
    training = training_of(toy, ctx, background="object", background_edit="zero")
    for parameter in training.A.alpha.parameters():
        training.adam_A.state[parameter]["exp_avg"] = torch.ones_like(parameter)
    wanted = 4
    batch = toy.sample(torch.arange(wanted))
    monkeypatch.setattr(training.ctx, "batches", lambda purpose, count: [torch.arange(wanted)])
    signs = []
    for ground in (batch.probs[:, :1], 1 - batch.probs[:, :1]):  # the wrong way round, then the right one
        before = training.A_ema.alpha.bias.clone()
        monkeypatch.setattr(training.A_ema, "forward", lambda features, ground=ground: ground)
        training.look(1)
        signs.append(float((training.A_ema.alpha.bias * before).sign()))
    assert signs == [-1, 1]
    assert all(bool((training.adam_A.state[p]["exp_avg"] == -1).all()) for p in training.A.alpha.parameters())


def test_the_generator_is_never_moved(toy, ctx):
    before = toy.sample(torch.arange(3)).images
    fitted(toy, ctx, steps=2)
    assert torch.equal(before, toy.sample(torch.arange(3)).images)


def test_emptied_pictures_are_the_background_generators_after_loading_too(toy, ctx, tmp_path):
    from gsegkit.parts import load_part, save_part

    smoke = RunContext(ctx.folder, seed=0, smoke=True)
    extractor = fitted(toy, smoke, steps=1, background="object", background_edit="zero")
    save_part(extractor, tmp_path / "part", "extractor", "labels4free")
    other = Labels4Free(Labels4FreeConfig(**SMALL))
    load_part(other, tmp_path / "part")
    batch = toy.sample(torch.arange(3))
    assert torch.allclose(other.emptied(batch, toy), batch.layers["background"], atol=1e-5)


# ---- the snapshot that is kept ---------------------------------------------------------------------------------------


def network(value):
    made = AlphaNetwork([Level(4, 4, ("a",), (1,))], 4, 4)
    with torch.no_grad():
        made.alpha.bias.fill_(value)
    return made


def test_the_best_snapshot_with_a_usable_area_is_kept():
    best = Best(network(0))
    for step, (score, area) in enumerate([(0.9, 0.999), (0.2, 0.3), (0.6, 0.3), (0.5, 0.2), (0.8, 0.001)]):
        best.see(network(step), score, area, step, take=False)
    assert (int(best.step), float(best.score)) == (2, pytest.approx(0.6))
    assert float(best.network.alpha.bias) == 2
    assert int(best.collapsed) == 1


def test_keep_last_takes_the_last_usable_one():
    best = Best(network(0))
    for step, (score, area) in enumerate([(0.6, 0.3), (0.1, 0.2), (0.8, 0.999)]):
        best.see(network(step), score, area, step, take=True)
    assert (int(best.step), float(best.network.alpha.bias)) == (1, 1)


def test_collapsed_masks_end_the_training_and_the_good_ones_stay(toy, ctx, monkeypatch):
    """Looks that report a good mask first, then empty ones."""
    areas = iter([0.2, *[0.0] * 50])
    see = Best.see
    monkeypatch.setattr(
        Best, "see", lambda best, net, score, area, step, take: see(best, net, 0.5, next(areas), step, take)
    )
    extractor = fitted(toy, ctx, steps=60, snapshot=2)
    assert extractor.found["snapshot"] == 2
    assert any("collapsed after iteration 10" in text for text in ctx.progress.warnings)


def test_masks_that_are_never_usable_are_an_error(toy, ctx):
    with pytest.raises(DivergedError, match="in no snapshot") as error:
        fitted(toy, ctx, steps=40, snapshot=10, area_cost=1000, foreground_weight=0, lr=0.05)
    assert "area_cost" in error.value.hint
    assert (ctx.folder / "figures" / "labels4free.png").exists()  # what the hint points to


def test_a_diverging_training_stops_with_a_clear_error(toy, ctx):
    with pytest.raises(DivergedError):
        fitted(toy, ctx, steps=40, lr_discriminator=1e30)


# ---- options and bad input -----------------------------------------------------------------------------------------


def test_areas_that_do_not_fit_into_a_picture_are_refused():
    with pytest.raises(ConfigError, match="only 1"):
        build_config(Labels4FreeConfig, {"foreground_area": 0.7, "background_area": 0.5}, "extractor")


def test_every_profile_is_valid_and_says_what_the_paper_says():
    for name in Labels4FreeConfig.profiles:
        config = build_config(Labels4FreeConfig, {"profile": name}, "extractor")
        assert config.threshold == 0.9
    cat = build_config(Labels4FreeConfig, {"profile": "paper-cat"}, "extractor")
    assert (cat.steps, cat.binary_weight, cat.foreground_weight, cat.psi) == (900, 3, 3, 0.5)
    assert (cat.lr, cat.adversarial_weight, cat.batch_size, cat.foreground_area) == (2e-4, 0.1, 8, 0.25)
    assert build_config(Labels4FreeConfig, {"profile": "paper-ffhq"}, "extractor").foreground_weight == 0
    car = build_config(Labels4FreeConfig, {"profile": "one-gpu-car"}, "extractor")
    assert (car.background_weight, car.background_area, car.background) == (40, 0.75, "b4.const")
    assert build_config(Labels4FreeConfig, {"profile": "code-cat"}, "extractor").same_z


def test_pictures_of_another_size_are_refused(toy, ctx, tmp_path):
    images = photographs(tmp_path / "pictures", toy, size=(16, 16))
    with pytest.raises(DataError, match="16 x 16, the generator makes 32 x 32") as error:
        Labels4Free(Labels4FreeConfig(**SMALL)).fit(toy, ctx, images=images)
    assert "fitted" in error.value.hint
    assert not (ctx.folder / "component.json").exists()


def test_photographs_of_another_size_are_fitted_unless_they_were_fitted_to_a_third(toy, ctx, tmp_path):
    images = photographs(tmp_path / "pictures", Toy(ToyConfig(size=40)), size=None)
    assert load_bank(images, (32, 32), ctx).draw(2).shape == (2, 3, 32, 32)
    with pytest.raises(DataError, match="40 x 40"):
        load_bank(images.fitted((40, 40)), (32, 32), ctx)


def test_too_few_pictures_are_refused_with_a_way_out(toy, ctx, tmp_path):
    with pytest.raises(DataError, match="15 photographs are too few") as error:
        load_bank(photographs(tmp_path / "pictures", toy, count=15), (32, 32), ctx)
    assert "at least 16" in error.value.hint


def test_grey_photographs_are_read_as_colours_and_damaged_ones_named(toy, ctx, tmp_path):
    images = photographs(tmp_path / "pictures", toy, count=17)
    write_png(tmp_path / "pictures" / "0.png", torch.full((32, 32), 77, dtype=torch.uint8))
    assert load_bank(images, (32, 32), ctx).images.batch(range(17)).shape == (17, 3, 32, 32)
    (tmp_path / "pictures" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        load_bank(images, (32, 32), ctx)


def test_a_bank_mirrors_half_of_what_it_draws():
    pixels = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    pixels[..., 0] = 255
    torch.manual_seed(0)
    drawn = Bank(ImageBank.of_pixels(pixels), mirror=True).draw(400)
    assert 0.4 < float((drawn[:, 0, 0, 0] > 0).float().mean()) < 0.6
    assert bool((Bank(ImageBank.of_pixels(pixels), mirror=False).draw(9)[..., 0] == 1).all())


def test_facts_are_json_and_name_what_was_chosen(toy, ctx):
    from gsegkit.parts import save_part

    smoke = RunContext(ctx.folder, seed=0, smoke=True)
    extractor = fitted(toy, smoke, steps=1)
    save_part(extractor, ctx.folder, "extractor", "labels4free")
    facts = read_json(ctx.folder / "component.json")["facts"]
    assert {"background", "background_scores", "area_window", "reals", "snapshot", "separation"} <= set(facts)
