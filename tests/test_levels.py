"""Levels belong to the interface: an extractor that knows nothing of clustering is named, cut, matched and shown."""

import json
import threading

import pytest
import torch

from gsegkit import api
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy
from gsegkit.classes import targets
from gsegkit.classes.class_map import class_map_yaml, parse_class_map
from gsegkit.classes.in_classes import InClasses
from gsegkit.classes.in_parts import can_be_in_parts, homes, in_parts
from gsegkit.classes.match import match_clusters, parents, predicted_clusters
from gsegkit.classes.named import Named, check_fits, clusters_of
from gsegkit.classes.page import look, render_page
from gsegkit.classes.shipped import with_shipped
from gsegkit.classes.transfer import transferred
from gsegkit.clustering.extractor import ClusterExtractor
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.engine.choices import choose
from gsegkit.engine.next_steps import in_a_line, next_commands
from gsegkit.engine.pipeline import run as run_plan
from gsegkit.engine.plan import PartSpec, Plan
from gsegkit.engine.preflight import check
from gsegkit.errors import ConfigError
from gsegkit.images import read_image, read_mask, to_pixels, write_png
from gsegkit.interfaces import Level, MaskExtractor, Segmenter, Weights
from gsegkit.parts import load_part, save_part
from gsegkit.plugins import Component, Entry, hookimpl
from gsegkit.progress import Progress
from gsegkit.tensors import state_hash
from gsegkit.testing import KitSettings, Listener, run_checks
from gsegkit.types import MaskBatch


class Shades(MaskExtractor):
    """Quarters of brightness: 0 and 1 become 4, then 2 and 3 become 5."""

    HIERARCHY = {2: {4: (0, 1), 5: (2, 3)}, 3: {4: (0, 1), 2: (2,), 3: (3,)}, 4: {0: (0,), 1: (1,), 2: (2,), 3: (3,)}}

    def __init__(self, config):
        super().__init__(config)
        self.classes = ()
        self.register_buffer("bounds", torch.zeros(3))

    def fit(self, generator, ctx, *, images=None):
        luma = generator.sample(ctx.seeds("fit", 8)).images.mean(dim=1)
        self.bounds = luma.flatten().quantile(torch.tensor([0.25, 0.5, 0.75]))
        self.levels = (2, 3, 4)
        self.cut(4)

    def level(self, k):
        if k not in self.levels:
            raise self.no_level(k)
        quarters = self.HIERARCHY[k]
        return Level(tuple(quarters), tuple(len(q) / 4 for q in quarters.values()), {"darkest": float(self.bounds[0])})

    def cut(self, k):
        self.classes = tuple(f"cluster-{i}" for i in self.level(k).ids)

    def extract(self, batch, generator):
        quarter = torch.bucketize(batch.images.mean(dim=1), self.bounds)
        groups = self.HIERARCHY[len(self.classes)].values()
        probs = torch.stack([sum((quarter == q).float() for q in group) for group in groups], dim=1)
        return MaskBatch(probs, {})

    def facts(self):
        return {"k": len(self.classes)}

    def restore(self, facts):
        self.levels = (2, 3, 4)
        self.cut(facts["k"])


class Shade:
    """A plugin of one extractor."""

    @hookimpl
    def gsegkit_components(self):
        return [
            Component(
                "extractor", "shades", f"{__name__}:Shades", "gsegkit.config:Config", summary="quarters of brightness"
            )
        ]


class Truth(LabelledDataset):
    """The toy's images with the toy's masks."""

    def __init__(self, toy, count):
        batch = toy.sample(torch.arange(count))
        self.pixels, self.masks = to_pixels(batch.images), toy.truth(batch)
        self.classes = tuple(toy.info.mask_classes)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return Sample(f"image-{index}", self.pixels[index], self.masks[index])


@pytest.fixture(scope="module")
def toy():
    return Toy(ToyConfig(size=24)).eval()


@pytest.fixture
def shades(toy, tmp_path):
    part = Shades(Config())
    part.fit(toy, RunContext(tmp_path, seed=1))
    return part.eval()


def names(shades, cut, *groups):
    rows = [{"name": f"class {i}", "clusters": list(group)} for i, group in enumerate(groups)]
    return parse_class_map({"extractor": shades.fingerprint(), "cut": cut, "classes": rows})


def test_it_is_no_cluster_extractor_and_keeps_the_contract():
    assert not issubclass(Shades, ClusterExtractor)
    results = run_checks(Entry(Shade().gsegkit_components()[0], "shades", "1"), KitSettings(iou_floor=0.0))
    assert [f"{one.check}: {one.message}" for one in results if one.status not in ("passed", "skipped")] == []
    assert {"levels", "levels-are-stored"} <= {one.check for one in results if one.status == "passed"}


def test_it_is_named_at_any_level(toy, shades):
    assert clusters_of(shades) == (0, 1, 2, 3)
    assert clusters_of(shades, 3) == (4, 2, 3)
    with pytest.raises(ConfigError, match="no cut into 9 clusters"):
        clusters_of(shades, 9)
    with pytest.raises(ConfigError, match="which cut they belong to"):
        check_fits(names(shades, None, [0], [1, 2, 3]), shades)
    batch = toy.sample(torch.arange(3))
    fine = shades.extract(batch, toy).probs
    named = Named(shades, names(shades, 3, [4, 3], [2]))
    found = named.extract(batch, toy).probs
    assert torch.equal(found[:, 1], fine[:, 2])
    assert torch.equal(found[:, 0], 1 - fine[:, 2])


def test_the_page_shows_its_levels(toy, shades, tmp_path):
    shown = look(toy, shades, RunContext(tmp_path, seed=5), num_images=4, max_clusters=30)
    assert shown.has_levels
    assert [(view.k, view.ids) for view in shown.levels] == [(2, (4, 5)), (3, (4, 2, 3)), (4, (0, 1, 2, 3))]
    assert shown.levels[0].shares == (0.5, 0.5)
    assert "darkest" in shown.levels[0].facts
    assert shades.classes == tuple(f"cluster-{i}" for i in range(4)), "looking leaves the cut alone"
    coarse, fine = shown.levels[0].maps, shown.levels[2].maps
    assert torch.equal(coarse, fine // 2)
    assert json.dumps(shown.fingerprint) in render_page(shown, "runs/x")


def test_it_is_matched_at_a_coarser_cut(toy, shades, tmp_path):
    assert parents(shades, 4, 2) == {0: 4, 1: 4, 2: 5, 3: 5}
    predicted = predicted_clusters(shades.classes, shades, cut=3)
    assert (predicted.clusters, predicted.group, predicted.cut) == (((4,), (2,), (3,)), (0, 0, 1, 2), 3)

    def predict(pixels):
        quarter = torch.bucketize(pixels.float().mean(dim=1) / 127.5 - 1, shades.bounds)
        return torch.nn.functional.one_hot(quarter, 4).permute(0, 3, 1, 2).float()

    found = match_clusters(predict, predicted, shades, Truth(toy, 6), RunContext(tmp_path))
    assert sorted(c for ids in found.classes.values() for c in ids) == [2, 3, 4]
    assert (found.extractor, found.cut) == (shades.fingerprint(), 3)


def test_it_is_stored_with_its_cut(shades, tmp_path):
    shades.cut(3)
    save_part(shades, tmp_path / "part", "extractor", "shades")
    other = Shades(Config())
    load_part(other, tmp_path / "part")
    assert (other.classes, other.levels) == (shades.classes, (2, 3, 4))
    assert other.fingerprint() == shades.fingerprint()


def test_a_run_is_named_by_command_and_page(registry, tmp_path):
    registry.add(Shade(), "shades")
    session = api.Session(registry, Progress(), threading.Event())
    chosen = {"gen": "toy", "extractor": "shades", "seg": "tiny", "eval": "count", "num_samples": 8, "device": "cpu"}
    plan = Plan.from_options(chosen, ["gen.size=24", "seg.steps=2"], batch_size=8)
    run = tmp_path / "run"
    run_plan(plan, run, registry=registry)
    named = api.name(run, ["dark=4", "light=*"], cut=3, save=tmp_path / "classes.yaml", session=session)
    assert (named.cut, named.summary()) == (3, "dark <- 4; light <- 2, 3")
    view, sheet = api.list_clusters(run, 2, num_images=2, device="cpu", session=session)
    assert (view.ids, sheet.is_file()) == ((4, 5), True)
    page = api.name_page(run, num_images=2, device="cpu", session=session)
    assert named.extractor in page.read_text(encoding="utf-8")
    run_plan(plan.model_copy(update={"classes": named}), run, registry=registry, update=True)
    assert api.load(run, "segmenter", session=session).classes == ("dark", "light")


class Quarters(Segmenter):
    """A segmenter of the four quarters."""

    classes = tuple(f"cluster-{i}" for i in range(4))
    train_size, fit_rule = (24, 24), "native"

    def __init__(self, bounds):
        super().__init__(Config())
        self.register_buffer("bounds", bounds)

    def fit(self, dataset, ctx, *, val=None):
        raise NotImplementedError

    def logits(self, images):
        quarter = torch.bucketize(images.mean(dim=1), self.bounds)
        return (torch.nn.functional.one_hot(quarter, 4).permute(0, 3, 1, 2) * 0.7 + 0.075).log()


def test_a_segmenter_of_many_clusters_is_looked_at_in_parts(toy, shades, monkeypatch):
    segmenter = Quarters(shades.bounds)
    assert not can_be_in_parts(segmenter, shades), "four are few"
    with pytest.raises(ConfigError, match="its parts"):
        in_parts(segmenter, Native(Config()))
    monkeypatch.setattr(targets, "MOST_PARTS", 3)
    assert can_be_in_parts(segmenter, shades)
    view, pixels = in_parts(segmenter, shades), Truth(toy, 3).pixels
    assert view.classes == ("background", "part 1", "part 2")
    fine, parts = segmenter.probs(pixels), view.probs(pixels)
    torch.testing.assert_close(parts, torch.stack([fine[:, 0] + fine[:, 1], fine[:, 2], fine[:, 3]], dim=1))


@pytest.mark.parametrize("fit_rule", ["native", "squash"])
def test_a_segmenter_of_clusters_is_used_under_names(toy, shades, fit_rule):
    segmenter, pixels = Quarters(shades.bounds), Truth(toy, 3).pixels
    segmenter.fit_rule = fit_rule
    fine = segmenter.probs(pixels)
    named = InClasses(segmenter, shades, names(shades, 3, [4, 3], [2]))
    assert (named.classes, named.train_size, named.fit_rule) == (("class 0", "class 1"), (24, 24), fit_rule)
    wanted = torch.stack([fine[:, [0, 1, 3]].sum(1), fine[:, 2]], dim=1)
    torch.testing.assert_close(named.probs(pixels), wanted)
    torch.testing.assert_close(Segmenter.probs(named, pixels), wanted, msg="what an exported file computes")
    some = InClasses(segmenter, shades, names(shades, 4, [0], [3]).model_copy(update={"ignore": (1, 2)}))
    torch.testing.assert_close(some.probs(pixels), fine[:, [0, 3]] / fine[:, [0, 3]].sum(1, keepdim=True))
    assert state_hash(named) != state_hash(some)
    with pytest.raises(ConfigError, match="cannot be trained"):
        named.fit(None, None)


def test_names_that_a_segmenter_cannot_have(shades):
    segmenter = Quarters(shades.bounds)
    fits = names(shades, 3, [4, 3], [2])
    with pytest.raises(ConfigError, match="another fit"):
        InClasses(segmenter, shades, fits.model_copy(update={"extractor": "0" * 16}))
    with pytest.raises(ConfigError, match="omit cluster 3"):
        InClasses(segmenter, shades, names(shades, 3, [4], [2]))
    shades.cut(2)
    segmenter.classes = shades.classes
    with pytest.raises(ConfigError, match="finer") as caught:
        InClasses(segmenter, shades, fits)
    assert "extractor.k=3" in caught.value.hint


def test_names_are_handed_from_one_fit_to_another(toy, shades, tmp_path):
    shades.cut(4)
    named = Named(shades, names(shades, 3, [4], [2], [3]))
    other = Shades(Config())
    other.fit(toy, RunContext(tmp_path, seed=9))
    assert other.fingerprint() != shades.fingerprint()
    found = transferred(named, other, toy, RunContext(tmp_path, seed=3))
    assert found.extractor == other.fingerprint()
    assert [(c.name, c.clusters) for c in found.classes] == [("class 0", (0, 1)), ("class 1", (2,)), ("class 2", (3,))]
    other.cut(2)
    talk = Listener()
    few = transferred(named, other, toy, RunContext(tmp_path, seed=3, progress=talk))
    assert (few.cut, len(few.classes)) == (2, 2)
    assert any("no cluster of this fit is mostly 'class" in message for message in talk.warnings)


def test_small_clusters_go_to_the_part_that_they_join_first(shades):
    assert homes(shades, 4, (0, 2, 3), (1,)) == {1: 0}, "0 and 1 merge first"
    assert homes(shades, 4, (2, 0), (1, 3)) == {1: 0, 3: 2}
    assert homes(shades, 4, (2, 3), (0, 1)) == {0: 2, 1: 2}, "no level joins them to a part: the background"


def test_a_run_of_many_clusters_shows_parts_and_predicts_them(registry, tmp_path, monkeypatch):
    registry.add(Shade(), "shades")
    session = api.Session(registry, Progress(), threading.Event())
    monkeypatch.setattr(targets, "MOST_PARTS", 3)
    photos = tmp_path / "photos"
    write_png(photos / "one.png", torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8))
    chosen = {"gen": "toy", "extractor": "shades", "seg": "tiny", "eval": "count", "num_samples": 8, "device": "cpu"}
    options = ["gen.size=24", "seg.steps=2"]
    chosen["data_reader"] = "plain"
    run = tmp_path / "run"
    done = run_plan(Plan.from_options(chosen, options, batch_size=8, images=photos), run, registry=registry)
    assert done.found["parts"] == ["background", "part 1", "part 2"]
    assert in_a_line(done.found) == "found 4 clusters without names, in 3 parts"
    assert next_commands("run", done.found)[-1] == "gsegkit predict run PHOTOS --out masks --parts"
    for parts, names in ((True, done.found["parts"]), (False, done.found["classes"])):
        out = tmp_path / f"masks-{parts}"
        api.predict(run, photos, out, refine=(), parts=parts, device="cpu", session=session)
        assert json.loads((out / "predictions.json").read_text())["classes"] == names
    assert read_mask(tmp_path / "masks-True" / "labels" / "one.png").max() < 3

    named = api.name(run, ["dark=4", "light=*"], cut=3, save=tmp_path / "classes.yaml", session=session)
    api.predict(run, photos, tmp_path / "named", refine=(), classes=named, device="cpu", session=session)
    assert json.loads((tmp_path / "named" / "predictions.json").read_text())["classes"] == ["dark", "light"]
    part = api.load(run, classes=tmp_path / "classes.yaml", session=session)
    probs, fine = (one.probs(read_image(photos / "one.png")[None]) for one in (part, api.load(run, session=session)))
    torch.testing.assert_close(probs[:, 0], fine[:, :2].sum(1))
    assert torch.equal(read_mask(tmp_path / "named" / "labels" / "one.png"), probs.argmax(1)[0].to(torch.uint8))
    assert api.export(run, tmp_path / "pairs", "png", classes=named, session=session)
    assert read_mask(next((tmp_path / "pairs" / "masks").glob("*.png"))).max() <= 1
    with pytest.raises(ConfigError, match="given for the extractor"):
        api.load(run, "extractor", classes=named, session=session)
    run_plan(Plan.from_options(chosen, options, batch_size=8, images=photos, classes=named), run, registry=registry,
             update=True)  # fmt: skip
    api.load(run, classes=named, session=session)
    with pytest.raises(ConfigError, match="have names already"):
        api.load(run, classes=named.model_copy(update={"cut": 2}), session=session)
    with pytest.raises(ConfigError, match="cannot be added up to parts"):
        api.predict(run, photos, tmp_path / "no", parts=True, device="cpu", session=session)


class Words(Weights):
    """Weights of the toy, with names of shades."""

    root = None
    names = "shades-in-words"

    def folder(self):
        return self.root


class Worded(Shade):
    """Shades, and weights with names for them."""

    @hookimpl
    def gsegkit_components(self):
        config = "gsegkit.config:Config"
        return [
            *super().gsegkit_components(),
            Component("weights", "toy-small", f"{__name__}:Words", config, summary="the toy"),
        ]


@pytest.fixture
def worded(registry, toy, shades, tmp_path, monkeypatch):
    """A registry with names that ship with weights, for the toy of 24 pixels."""
    registry.add(Worded(), "worded")
    monkeypatch.setattr(Words, "root", tmp_path / "weights")
    save_part(shades, Words.root / "names", "extractor", "shades")
    given = names(shades, 3, [4, 2], [3])
    (Words.root / "names" / "classes.yaml").write_text(class_map_yaml(given))
    card = {"generator": state_hash(toy), "given": "names given by looking; no pixel labelled"}
    (Words.root / "names" / "card.json").write_text(json.dumps(card))
    return registry


CHOSEN = {"gen": "toy", "extractor": "shades", "seg": "tiny", "eval": "count", "num_samples": 8, "device": "cpu"}


def worded_plan(registry, *options, **fields):
    given = with_shipped({**fields, "classes": "shades-in-words"}, registry)
    return Plan.from_options(CHOSEN, ["gen.size=24", "seg.steps=2", *options], batch_size=8, **given)


def test_names_that_ship_with_weights_bring_their_fit(worded, tmp_path, monkeypatch):
    monkeypatch.setattr(Shades, "fit", lambda *_, **__: pytest.fail("fitted anew"))
    said = Listener()
    done = run_plan(worded_plan(worded), tmp_path / "run", registry=worded, progress=said)
    assert done.found["classes"] == ["class 0", "class 1"]
    assert any("no pixel labelled" in line for line in said.infos)
    session = api.Session(worded, Progress(), threading.Event())
    fit = api.load(tmp_path / "run", "extractor", session=session)
    assert fit.fingerprint() == api.load(Words.root / "names", "extractor", session=session).fingerprint()
    replayed = run_plan(Plan.of_run(tmp_path / "run", worded), tmp_path / "again", registry=worded)
    assert replayed.found == done.found


def test_names_of_another_fit_or_generator_are_refused_before_anything_is_made(worded, toy, tmp_path):
    other = worded_plan(worded, "gen.latent_dim=12")
    assert state_hash(Toy(ToyConfig(size=24, latent_dim=12))) == state_hash(toy), "the toy has no state"
    (card := Words.root / "names" / "card.json").write_text(json.dumps({"generator": "0" * 16, "given": ""}))
    with pytest.raises(ConfigError, match="belong to the generator weights 'toy-small'"):
        run_plan(other, tmp_path / "other", registry=worded)
    native = worded_plan(worded).model_copy(update={"extractor": PartSpec(name="native")})
    with pytest.raises(ConfigError, match="belong to the extractor shades with its default options"):
        run_plan(native, tmp_path / "native", registry=worded)
    trained = worded_plan(worded, train_generator=True)
    assert any("as they ship" in problem.message for problem in check(choose(trained, worded)))
    card.write_text("{")
    with pytest.raises(ConfigError, match="are damaged"):
        worded_plan(worded)
    with pytest.raises(ConfigError, match=r"no class names 'shade'.*") as raised:
        with_shipped({"classes": "shade"}, worded)
    assert "shades-in-words" in raised.value.hint


def test_names_that_ship_with_weights_fit_a_run_with_a_fit_of_its_own(worded, tmp_path):
    plan = Plan.from_options(CHOSEN, ["gen.size=24", "seg.steps=2"], batch_size=8, seed=7)
    run_plan(plan, tmp_path / "run", registry=worded)
    session = api.Session(worded, Progress(), threading.Event())
    found = api.load(tmp_path / "run", classes="shades-in-words", session=session)
    assert found.classes == ("class 0", "class 1")
    assert found.members == [[0, 1, 2], [3]], "the darker three quarters"
    card = Words.root / "names" / "card.json"
    card.write_text(json.dumps({"generator": "0" * 16, "given": ""}))
    with pytest.raises(ConfigError, match="belong to the generator weights 'toy-small'"):
        api.load(tmp_path / "run", classes="shades-in-words", session=session)


def test_a_file_goes_before_a_shipped_name(worded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shades-in-words").write_text("")
    assert with_shipped({"classes": "shades-in-words"}, worded) == {"classes": "shades-in-words"}
    assert with_shipped({"classes": None}, worded) == {"classes": None}
