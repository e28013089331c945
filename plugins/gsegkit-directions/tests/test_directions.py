import pytest
import torch
from gsegkit_directions.directions import GRACE, Search
from gsegkit_directions.latents import SPREAD_SAMPLES
from gsegkit_directions.losses import luma, terms

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import read_metrics
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ArtifactError, CapabilityError, ContractError, DataError, DivergedError, InterruptedRunError
from gsegkit.parts import load_part, save_part
from gsegkit.plugins import installed
from gsegkit.testing import StopAfter

QUICK = {"steps": 60, "batch_size": 8}


def build(**options):
    return installed().build("extractor", "directions", {**QUICK, **options})


def fitted(generator, ctx, **options):
    extractor = build(**options)
    extractor.fit(generator, ctx)
    return extractor


def variant(extractor, **options):
    """The same directions with other options of the mask."""
    other = build(**options)
    other.restore(extractor.facts())
    other.load_state_dict(extractor.state_dict())
    return other


def iou(extractor, generator, seeds):
    batch = generator.sample(seeds)
    found = extractor.extract(batch, generator).probs.argmax(dim=1) == 1
    truth = generator.truth(batch) > 0
    return float(((found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp_min(1)).mean())


# ---- the search --------------------------------------------------------------------------------------------------


def test_light_lightens_the_object_and_dark_darkens_it(disc, context):
    generator, ctx = disc(), context()
    extractor = fitted(generator, ctx)
    batch = generator.sample(ctx.seeds("test", 16))
    before = luma(batch.images)
    light, dark = (luma(extractor.shifted(batch, generator, i)) - before for i in range(2))
    assert float(light[:, :, 8, 8].mean()) > 0.05 > -0.05 > float(light[:, :, 0, 0].mean())
    assert float(dark[:, :, 8, 8].mean()) < -0.03 < 0.05 < float(dark[:, :, 0, 0].mean())
    disc_, ground, both, move = extractor.directions[0].tolist()
    assert disc_ > 0.3 > -0.3 > ground
    assert abs(both) < 0.2  # lightens everything: earns nothing, because the prior's mean is zero
    assert abs(move) < 0.2
    assert extractor.found["cosine"] < -0.6
    assert 0.1 < extractor.found["coverage"] < 0.35


@pytest.mark.parametrize("profile", ["paper", "reference"])
def test_the_published_profiles_agree_on_the_sign(profile, disc, context):
    generator, ctx = disc(gain=0.05), context()
    extractor = fitted(generator, ctx, profile=profile, **QUICK, lr=0.05)
    batch = generator.sample(ctx.seeds("test", 8))
    change = luma(extractor.shifted(batch, generator, 0)) - luma(batch.images)
    assert float(change[:, :, 8, 8].mean()) > float(change[:, :, 0, 0].mean())


def test_reference_values():
    config = build(profile="reference", steps=300, batch_size=32).config
    assert (config.edge_weight, config.prior_weight, config.lr) == (10.0, 2.0, 5e-3)
    assert (config.shift, config.jitter, config.mask_shift, config.shift_unit) == (2.0, 0.5, 5.0, "absolute")
    assert (config.level, config.clamp, config.max_edge_change) == ("zero", False, None)
    config = installed().build("extractor", "directions", {"profile": "paper"}).config
    assert (config.reading, config.prior_weight, config.steps, config.batch_size) == ("printed", 5.0, 300, 32)


def test_the_reference_jitter_has_the_step_length_of_the_study(context):
    extractor = build(profile="reference")
    torch.manual_seed(0)
    eps = extractor._eps((1, 4000, 120))
    direction = torch.randn(120, generator=torch.Generator().manual_seed(1))
    direction = direction / direction.norm()
    steps = eps[0] * direction
    lengths = steps.norm(dim=1)
    assert float(lengths.mean()) == pytest.approx(2.06, abs=0.02)
    assert float(lengths.std()) == pytest.approx(0.08, abs=0.02)
    angles = torch.rad2deg(torch.acos((steps @ direction) / lengths))
    assert float(angles.mean()) == pytest.approx(13.9, abs=0.5)


def test_one_step_is_that_of_a_plain_reading(disc, context):
    """Two full forward passes a direction, no reuse, no micro-batches, against the search's own step."""
    generator, ctx = disc(), context(batch_size=3)
    options = {"profile": "reference", "steps": 1, "batch_size": 8, "jitter": 0.0, "lr": 1e-9}
    start = Search((4,), ctx).free.detach().clone()
    extractor, search = build(**options), Search((4,), ctx)
    extractor._measure_space(generator, ctx)
    term = extractor._measure_edges(generator, ctx)
    found = extractor._accumulate(generator, term, search, 0, ctx)

    plain = start.clone().requires_grad_()
    latents = generator.latents(ctx.seeds("fit", 8, SPREAD_SAMPLES))
    wanted = terms("code", 16, 16)
    for index, sign in enumerate((1, -1)):
        v = plain[index] / plain[index].norm()
        shifted, original = generator.synthesize(latents + 2 * v).images, generator.synthesize(latents).images
        edges = wanted.edge_change(shifted, wanted.edges(original)).mean()
        prior = (luma(shifted)[:, 0] * wanted.prior).mean()
        before = (luma(original)[:, 0] * wanted.prior).mean().detach()
        (10 * edges - sign * 2 * prior).backward()
        assert float(found[0][index]) == pytest.approx(float(edges.detach()), rel=1e-4)
        assert float(found[1][index]) == pytest.approx(sign * float(prior.detach() - before), rel=1e-4)
    torch.testing.assert_close(search.free.grad, plain.grad, rtol=1e-4, atol=1e-6)


def test_classes_are_uniform_and_the_same_in_every_picture_of_a_code(disc, context):
    generator, ctx = disc(num_classes=5), context(batch_size=8)
    fitted(generator, ctx, steps=2, batch_size=8)
    searching = [labels for labels in generator.calls if labels is not None and len(labels) == 16]
    assert searching
    for labels in searching:
        assert torch.equal(labels[:8], labels[8:])
    originals = [labels for labels in generator.calls if labels is not None and len(labels) == 8]
    assert any(torch.equal(one, searching[0][:8]) for one in originals)
    assert set(torch.cat(searching).tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("layers", ["shared", "own"])
def test_one_row_a_layer(layers, disc, context):
    generator, ctx = disc(shape=(6, 4)), context()
    extractor = fitted(generator, ctx, layers=layers)
    assert extractor.directions.shape == (2, 6, 4)
    assert extractor.directions.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-4)
    equal = torch.equal(extractor.directions[0, 0], extractor.directions[0, 5])
    assert equal == (layers == "shared")
    assert float(extractor.directions[0, :, 0].mean()) > 0 > float(extractor.directions[0, :, 1].mean())


def test_curves_and_figure_are_left_for_the_report(disc, context):
    ctx = context()
    fitted(disc(), ctx, steps=20)
    rows = read_metrics(ctx.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [10, 20]
    wanted = {"edge_change_light", "edge_change_dark", "contrast_light", "contrast_dark", "cosine"}
    assert wanted <= rows[-1].keys()
    assert rows[-1]["contrast_light"] > 0 < rows[-1]["contrast_dark"]
    assert (ctx.folder / "figures" / "directions.png").stat().st_size > 500
    assert "difference" in (ctx.folder / "figures" / "directions.txt").read_text()


def test_stopped_in_the_middle_it_ends_with_the_same_bits(disc, context):
    whole = fitted(disc(), context("whole"), profile="reference", steps=12, batch_size=4)
    stop = StopAfter(5)
    ctx = context("parts", checkpoint_seconds=0, progress=stop, stop=stop.event)
    with pytest.raises(InterruptedRunError):
        fitted(disc(), ctx, profile="reference", steps=12, batch_size=4)
    ctx = context("parts")
    parts = fitted(disc(), ctx, profile="reference", steps=12, batch_size=4)
    assert any("resumed after step 5" in text for text in ctx.progress.infos)
    assert torch.equal(whole.directions, parts.directions)


def test_micro_batches_only_round(disc, context):
    one = fitted(disc(), context("one", batch_size=16), steps=10)
    two = fitted(disc(), context("two", batch_size=3), steps=10)
    torch.testing.assert_close(one.directions, two.directions, atol=1e-3, rtol=0)


# ---- toy ---------------------------------------------------------------------------------------------------------


def test_toy_masks_of_both_and_of_one_direction(context):
    toy, ctx = Toy(ToyConfig(size=32)), context()
    both = fitted(toy, ctx, steps=100, batch_size=16)
    seeds = ctx.seeds("test", 48)
    assert iou(both, toy, seeds) > 0.95
    assert both.found["cosine"] < -0.8
    for mask in ("light", "dark"):
        assert iou(variant(both, mask=mask), toy, seeds) > 0.9


@pytest.mark.slow
def test_toy_over_five_seeds(toy, context):
    rows = []
    for seed in range(5):
        ctx = context(f"seed{seed}", seed=seed)
        both = installed().build("extractor", "directions")
        both.fit(toy, ctx)
        rows.append([iou(variant(both, mask=mask), toy, ctx.seeds("test", 256)) for mask in ("both", "light", "dark")])
        assert both.found["cosine"] < -0.8
    assert min(row[0] for row in rows) >= 0.97
    means = torch.tensor(rows).mean(dim=0)
    assert float(means[1:].max()) <= float(means[0]) + 0.005


# ---- masks and scores --------------------------------------------------------------------------------------------


def test_scores_are_what_refiners_read(disc, context):
    generator, ctx = disc(), context()
    both = fitted(generator, ctx)
    batch = generator.sample(ctx.seeds("test", 9))
    found = both.extract(batch, generator)
    assert set(found.scores) == {"coverage", "contrast", "histogram_peaks", "coverage_light", "coverage_dark"}
    masks = found.probs.argmax(dim=1)
    torch.testing.assert_close(found.scores["coverage"], masks.float().mean(dim=(1, 2)))
    light, dark = (luma(both.shifted(batch, generator, i)) for i in range(2))
    torch.testing.assert_close(found.scores["contrast"], (light - dark).abs().mean(dim=(1, 2, 3)))
    single = variant(both, mask="dark").extract(batch, generator)
    assert set(single.scores) == {"coverage", "contrast", "histogram_peaks"}
    torch.testing.assert_close(single.scores["contrast"], (luma(batch.images) - dark).abs().mean(dim=(1, 2, 3)))


def test_equation_2_and_3_with_the_papers_level(disc, context):
    generator, ctx = disc(), context()
    both = fitted(generator, ctx, level="zero")
    batch = generator.sample(ctx.seeds("test", 5))
    light, dark = (luma(both.shifted(batch, generator, i))[:, 0] for i in range(2))
    original = luma(batch.images)[:, 0]
    for mask, wanted in (("both", light > dark), ("light", light > original), ("dark", original > dark)):
        found = variant(both, mask=mask, level="zero").extract(batch, generator).probs.argmax(dim=1)
        assert torch.equal(found == 1, wanted), mask


def test_the_level_never_cuts_what_is_clearly_lighter(disc, context):
    generator, ctx = disc(), context()
    extractor = fitted(generator, ctx)
    batch = generator.sample(ctx.seeds("test", 6))
    light, dark = (luma(extractor.shifted(batch, generator, i))[:, 0] for i in range(2))
    found = extractor.extract(batch, generator).probs.argmax(dim=1) == 1
    assert bool(found[light - dark > 0.021].all())


def test_noise_of_samples_does_not_reach_the_masks_of_one_direction(disc, context):
    generator, ctx = disc(), context()
    plain = type(generator).sample

    def noisy(seeds, *, features=()):
        batch = plain(generator, seeds)
        noise = torch.stack(
            [torch.randn(batch.images.shape[1:], generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        )
        batch.images.add_(0.3 * noise)
        return batch

    quiet = fitted(disc(), context("quiet"))
    generator.sample = noisy
    extractor = fitted(generator, ctx)
    assert extractor.redraw
    assert not quiet.redraw
    batch = generator.sample(ctx.seeds("test", 4))
    found = variant(extractor, mask="light").extract(batch, generator).probs
    wanted = variant(quiet, mask="light").extract(disc().sample(ctx.seeds("test", 4)), disc()).probs
    torch.testing.assert_close(found, wanted)


def test_saved_and_loaded(disc, context):
    generator, ctx = disc(shape=(6, 4)), context()
    extractor = fitted(generator, ctx, steps=5)
    save_part(extractor, ctx.folder / "part", "extractor", "directions")
    other = build(steps=5)
    load_part(other, ctx.folder / "part")
    batch = generator.sample(ctx.seeds("test", 3))
    assert torch.equal(other.extract(batch, generator).probs, extractor.extract(batch, generator).probs)
    assert other.found == extractor.found
    with pytest.raises(ContractError, match=r"shape \[6, 4\], the batch has \[4\]"):
        other.extract(disc().sample(ctx.seeds("test", 3)), disc())
    with pytest.raises(ArtifactError, match="not fitted"):
        build().extract(batch, generator)


# ---- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_generator_without_gradients(disc, context):
    generator = disc()
    plain = generator.synthesize
    generator.synthesize = lambda latents, labels=None, **options: plain(latents.detach(), labels, **options)
    with pytest.raises(CapabilityError, match=r"no gradient flows .* colour-maps needs no gradients"):
        fitted(generator, context())
    ignores = disc()
    ignores.synthesize = lambda latents, labels=None, **options: plain(latents * 0, labels, **options)
    with pytest.raises(CapabilityError, match="ignores its latents"):
        fitted(ignores, context())


def scaled(generator, gain, offset=0.0, from_call=0):
    plain = generator.synthesize
    seen = []

    def synthesize(latents, labels=None, **options):
        batch = plain(latents, labels, **options)
        seen.append(1)
        if len(seen) > from_call:
            batch = type(batch)(batch.images * gain + offset, batch.latents, batch.labels)
        return batch

    generator.synthesize = synthesize
    return generator


def test_saturated_pictures(disc, context):
    with pytest.raises(DataError, match=r"100\.0% of the generator's values lie at or beyond -1 and 1"):
        fitted(scaled(disc(), 1.0, offset=100.0), context())


def test_pictures_with_nan(disc, context):
    with pytest.raises(DataError, match="NaN or infinity"):
        fitted(scaled(disc(), float("nan")), context())


def test_a_loss_that_is_not_finite(disc, context):
    generator = scaled(disc(), float("inf"), from_call=8)  # after the pictures that are measured first
    with pytest.raises(DivergedError, match=r"became (nan|inf|-inf) at step \d.*lower extractor.shift"):
        fitted(generator, context(), clamp=False)


def test_a_shift_that_saturates(disc, context):
    with pytest.raises(DataError, match=r"drives \d+% of the values to black or white.*lower extractor.mask_shift"):
        fitted(disc(), context(), mask_shift=20)


def test_a_direction_that_destroys_the_edges_is_stopped(disc, context):
    ctx = context()
    extractor = fitted(disc(), ctx, max_edge_change=1e-9)
    assert extractor.found["stopped_after"] == {"light": GRACE + 1, "dark": GRACE + 1}
    assert any("light direction was stopped after step 21" in text for text in ctx.progress.warnings)
    rows = read_metrics(ctx.folder / "metrics.jsonl")
    assert rows[-1]["step"] == GRACE


def test_watch_keeps_what_was_good(context):
    search = Search((3,), context())
    first = search.free.detach().clone()
    for step in range(GRACE + 2):
        with torch.no_grad():
            search.free.add_(1.0)
        search.watch(torch.tensor([0.1, 0.1 if step <= GRACE else 50.0]), step, 0.5)
    assert search.active.tolist() == [True, False]
    assert search.stopped.tolist() == [-1, GRACE + 2]
    torch.testing.assert_close(search.kept[0], first[0] + GRACE + 2)
    torch.testing.assert_close(search.kept[1], first[1] + GRACE + 1)
    search.watch(torch.tensor([0.0, 0.0]), GRACE + 2, 0.5)
    assert not bool(search.active[1])


def test_all_masks_rejected_names_the_filter(disc, context):
    pytest.importorskip("gsegkit_refine")
    generator, ctx = disc(), context()
    extractor = fitted(generator, ctx)
    refiners = [("components", installed().build("refiner", "components")),
                ("area", installed().build("refiner", "area", {"min": 0.9, "max": 1.0}))]  # fmt: skip
    with pytest.raises(DataError, match=r"dropped all of 20 samples \(.*components 0, area 20"):
        synthesize(generator, extractor, refiners, 20, ctx.stage("dataset"))


def test_large_masks_are_told_when_the_directions_are_found(disc, context):
    generator, ctx = disc(), context()
    generator.x, generator.y = generator.x * 0.5, generator.y * 0.5  # the disc fills the picture but for its corners
    fitted(generator, ctx)
    assert any("published area limit of 0.5" in text and "area.max" in text for text in ctx.progress.warnings)


@pytest.mark.parametrize(("cosine", "warns"), [(0.3, True), (-0.3, False)])
def test_directions_that_do_not_point_apart_are_reported(disc, context, monkeypatch, cosine, warns):
    monkeypatch.setattr("gsegkit_directions.directions._cosine", lambda directions: torch.tensor(cosine))
    ctx = context()
    extractor = fitted(disc(), ctx, steps=1)
    assert extractor.found["cosine"] == pytest.approx(cosine)
    assert any("are not opposed" in text for text in ctx.progress.warnings) is warns


def test_the_cosine_is_that_of_the_two_directions(disc, context):
    extractor = fitted(disc(), context(), steps=1)
    light, dark = extractor.directions.flatten(1).double()
    assert extractor.found["cosine"] == pytest.approx(float(light @ dark / light.norm() / dark.norm()), abs=1e-3)
