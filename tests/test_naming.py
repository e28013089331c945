"""Names for clusters: the file, the extractor under its names, and the runs, pairs and scores that follow."""

import base64
import dataclasses
import json
import shlex
import shutil
import threading
import zlib

import pytest
import torch

from gsegkit import api
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy
from gsegkit.classes.class_map import (
    ClassMap,
    class_map_yaml,
    cluster_ids,
    parse_class_map,
    parse_classes,
    read_class_map,
    stored_class_map,
)
from gsegkit.classes.held_out import leave_out
from gsegkit.classes.match import Predicted, parents, predicted_clusters
from gsegkit.classes.named import Named, Renamed
from gsegkit.classes.page.photographs import positions
from gsegkit.classes.targets import automatic_classes, coarse_cut, coarse_parts
from gsegkit.clustering.config import ClusterConfig, KMeansConfig
from gsegkit.clustering.extractor import ClusterExtractor, Clustering, Partition, centre_classifiers
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset, UnlabelledImages
from gsegkit.engine.choices import choose
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check
from gsegkit.engine.synthesis import label_samples
from gsegkit.errors import ArtifactError, ConfigError, ContractError, DataError
from gsegkit.images import read_image, to_pixels, write_png
from gsegkit.interfaces import Level, MaskExtractor
from gsegkit.plugins import Component, hookimpl
from gsegkit.progress import Progress
from gsegkit.report import render_report
from gsegkit.testing import Listener
from gsegkit.types import MaskBatch

# ---- a small tree of clusters ----------------------------------------------------------------------------------------

LEAVES = 6


class Tree(ClusterExtractor):
    """K-means, then the two nearest centres are merged until two are left; a merged cluster has a new id."""

    def cluster(self, points, ctx):
        centres, leaf = TorchKMeans(KMeansConfig()).fit(points.x, LEAVES, ctx.seed)
        groups = {i: [i] for i in range(LEAVES)}  # id -> leaves
        rows = [centres[i] for i in range(LEAVES)]
        levels = {}
        while True:
            ids = tuple(groups)
            owner = [next(p for p, i in enumerate(ids) if leaf_ in groups[i]) for leaf_ in range(LEAVES)]
            gaps = torch.cdist(torch.stack([rows[i] for i in ids]), torch.stack([rows[i] for i in ids]))
            gaps.fill_diagonal_(torch.inf)
            facts = {"lowest_gap": float(gaps.min()), "remark": "text"}
            levels[len(ids)] = Partition(ids=ids, rows=ids, leaves=tuple(owner), facts=facts)
            if len(ids) == 2:
                break
            a, b = (ids[i] for i in divmod(int(gaps.argmin()), len(ids)))
            groups[len(rows)] = groups.pop(a) + groups.pop(b)
            rows.append((rows[a] + rows[b]) / 2)
        weight, bias = centre_classifiers(torch.stack(rows))
        return Clustering(leaf=leaf, levels=levels, weight=weight, bias=bias)


class TreePlugin:
    @hookimpl
    def gsegkit_components(self):
        return [Component("extractor", "tree", f"{__name__}:Tree", "gsegkit.clustering.config:ClusterConfig")]


@pytest.fixture
def registry(registry):
    registry.add(TreePlugin(), "tree")
    return registry


@pytest.fixture
def session(registry):
    return api.Session(registry, Progress(), threading.Event())


@pytest.fixture
def tree_plan():
    return Plan.from_options(
        {"gen": "toy", "extractor": "tree", "seg": "tiny", "eval": "count", "num_samples": 24, "device": "cpu"},
        ["gen.size=24", "seg.steps=30", "extractor.num_images=8", "extractor.pixels_per_image=40"],
        batch_size=8,
    )


@pytest.fixture(scope="module")
def toy():
    return Toy(ToyConfig(size=24)).eval()


@pytest.fixture
def tree(toy, tmp_path):
    part = Tree(ClusterConfig(num_images=8, pixels_per_image=40))
    part.fit(toy, RunContext(tmp_path / "fit", seed=1))
    return part.eval()


def names_for(extractor, cut=4, **more):
    """Class `a` = the first two clusters of the cut, `b` = the rest."""
    ids = extractor.level(cut).ids
    rows = [{"name": "a", "clusters": ids[:2], "colour": "#102030"}, {"name": "b", "clusters": ids[2:]}]
    return parse_class_map({"extractor": extractor.fingerprint(), "cut": cut, "classes": rows} | more)


def batch_of(toy, extractor, count=5):
    return toy.sample(torch.arange(count), features=extractor.features(toy.info))


# ---- the file --------------------------------------------------------------------------------------------------------

GOOD = {
    "extractor": "0123456789abcdef",
    "cut": 3,
    "classes": [
        {"name": "Grund: 1, # 'x'", "colour": "#a0B1c2", "clusters": [3, 0]},
        {"name": "葉 🍃", "clusters": [7]},
    ],
}


def test_the_file_survives_a_round_trip(tmp_path):
    written = parse_class_map({**GOOD, "ignore": [2], "labels_used": ["null", "12", "é"]})
    (tmp_path / "c.yaml").write_text(class_map_yaml(written), encoding="utf-8")
    assert read_class_map(tmp_path / "c.yaml") == written
    assert parse_class_map(json.loads(json.dumps(written.model_dump(mode="json")))) == written
    assert written.targets([0, 2, 7, 3]) == (0, -1, 1, 0)
    assert written.colours(("葉 🍃", "Grund: 1, # 'x'")) == {1: "#a0B1c2"}


BAD = {
    "not YAML": ("extractor: [", "is not valid yaml"),
    "a list": ("- background\n- leaf\n", "not a table of options"),
    "class names of a data folder": ("0: background\n1: leaf\n", "has no list of classes"),
    "no fingerprint": ('classes: [{name: a, clusters: [0]}, {name: b, clusters: [1]}]', "extractor: must be given"),
    "a wrong fingerprint": ("extractor: hello\nclasses: []", "extractor: string should match"),
    "one class only": ("classes: [{name: a, clusters: [0]}]", "at least 2 items"),
    "a class without clusters": ("classes: [{name: a, clusters: []}, {name: b, clusters: [1]}]", "classes.0.clusters"),
    "two classes of one name": ("classes: [{name: a, clusters: [0]}, {name: a, clusters: [1]}]", "two classes are called 'a'"),
    "a cluster twice": ("classes: [{name: a, clusters: [0, 4]}, {name: b, clusters: [4]}]", "cluster 4 is named 2 times"),
    "a cluster named and ignored": (
        "classes: [{name: a, clusters: [0]}, {name: b, clusters: [1]}]\nignore: [1]", "cluster 1 is named 2 times",
    ),
    "a cluster that is no number": ("classes: [{name: a, clusters: [x]}, {name: b, clusters: [1]}]", "classes.0.clusters.0"),
    "a cluster that is true": ("classes: [{name: a, clusters: [true]}, {name: b, clusters: [0]}]", "classes.0.clusters.0"),
    "a negative cluster": ("classes: [{name: a, clusters: [-1]}, {name: b, clusters: [1]}]", "classes.0.clusters.0"),
    "a bad colour": ('classes: [{name: a, colour: red, clusters: [0]}, {name: b, clusters: [1]}]', "classes.0.colour"),
    "an unquoted colour": ("classes:\n- {name: a, clusters: [0]}\n- name: b\n  colour: 112233\n  clusters: [1]", "classes.1.colour"),
    "a name that is a truth value": ("classes: [{name: true, clusters: [0]}, {name: b, clusters: [1]}]", "classes.0.name"),
    "an empty name": ("classes: [{name: '', clusters: [0]}, {name: b, clusters: [1]}]", "classes.0.name"),
    "a name with a line break": ('classes: [{name: "a\\nb", clusters: [0]}, {name: b, clusters: [1]}]', "printable"),
    "an unknown field": ("classes: [{name: a, clusters: [0], color: 1}, {name: b, clusters: [1]}]", "classes.0.color: no such option"),
    "nested too deeply": ("classes: " + "[" * 3000, "nests values more than"),
    "too large": ("# " + "x" * 300_000, "has 300,0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_a_remedy(name, tmp_path):
    text, message = BAD[name]
    if name not in ("not YAML", "a list", "no fingerprint", "a wrong fingerprint", "too large", "nested too deeply"):
        text = 'extractor: "0123456789abcdef"\n' + text
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_class_map(tmp_path / "c.yaml")
    assert message in caught.value.message
    assert name == "a list" or caught.value.hint
    assert len(caught.value.message) < 700


def test_a_missing_file():
    with pytest.raises(ConfigError, match=r"cannot read 'xx.*: File name too long"):
        read_class_map("x" * 300)
    with pytest.raises(ConfigError, match=r"cannot read 'absent\.yaml'"):
        read_class_map("absent.yaml")


def test_ids_of_unnamed_classes():
    assert cluster_ids(("cluster-9", "cluster-2")) == (9, 2)
    assert cluster_ids(("background", "cluster-2")) == (0, 1)


def test_the_command_lines_syntax():
    classes, ignored = parse_classes(["ground=3, 0", "a=b #leaf#44aa22=*"], "7", [0, 1, 2, 3, 7])
    assert classes == [
        {"name": "ground", "colour": None, "clusters": [3, 0]},
        {"name": "a=b #leaf", "colour": "#44aa22", "clusters": [1, 2]},
    ]
    assert ignored == [7]
    assert parse_classes(["a=1"], "*", [1, 2, 3])[1] == [2, 3]
    for texts, ignore, message in [
        (["leaf"], "", "not have the form NAME=ID,ID"),
        (["=1"], "", "not have the form NAME=ID,ID"),
        (["leaf=one"], "", "not have the form NAME=ID,ID"),
        (["a=*", "b=*"], "", "given twice"),
        (["a=*"], "*", "given twice"),
        (["a=1"], "x", "--ignore 'x'"),
    ]:
        with pytest.raises(ConfigError, match=message.replace("*", r"\*")):
            parse_classes(texts, ignore, [1, 2])


# ---- the extractor under its names ------------------------------------------------------------------------------------


def test_probabilities_of_a_class_are_those_of_its_clusters(tree, toy):
    class_map = names_for(tree)
    batch = batch_of(toy, tree)
    tree.cut(4)
    plain = tree.extract(batch, toy)
    tree.cut(6)
    named = Named(tree, class_map)
    assert named.classes == ("a", "b")
    assert named.features(toy.info) == tree.features(toy.info)
    found = named.extract(batch, toy)
    assert torch.allclose(found.probs[:, 0], plain.probs[:, :2].sum(1))
    assert torch.allclose(found.probs.sum(1), torch.ones(5, 24, 24))
    assert torch.allclose(found.scores["coverage"], plain.probs[:, 2:].sum(1).mean((1, 2)), atol=1e-6)
    assert torch.equal(found.scores["confidence"], plain.scores["confidence"])
    assert found.ignore is None
    with pytest.raises(ConfigError, match="cannot be fitted again"):
        named.fit(toy, RunContext(None))


def test_ignored_clusters_become_255_and_leave_no_hole_in_the_probabilities(tree, toy):
    tree.cut(4)
    ids = tree.level(4).ids
    rows = [{"name": "a", "clusters": ids[:1]}, {"name": "b", "clusters": ids[2:]}]
    class_map = parse_class_map({"extractor": tree.fingerprint(), "cut": 4, "classes": rows, "ignore": ids[1:2]})
    seeds = torch.arange(6)
    labelled, _ = label_samples(toy, Named(tree, class_map), seeds)
    clusters = tree.extract(batch_of(toy, tree, 6), toy).probs
    wins = clusters[:, 1] > torch.maximum(clusters[:, 0], clusters[:, 2:].sum(1))
    assert wins.any()
    assert torch.equal(labelled.masks == 255, wins)
    assert torch.allclose(labelled.probs.sum(1), torch.ones(6, 24, 24), atol=1e-5)
    kept = clusters[:, 0] > clusters[:, 2:].sum(1)
    assert torch.equal(labelled.masks[~wins] == 0, kept[~wins])


def test_a_mask_batch_checks_what_it_ignores():
    with pytest.raises(ContractError, match="ignore"):
        MaskBatch(torch.full((2, 2, 4, 4), 0.5), {}, torch.zeros(2, 4, 5, dtype=torch.bool))


def test_the_fingerprint_is_that_of_the_fit_not_of_the_cut(tree, toy, tmp_path):
    first = tree.fingerprint()
    tree.cut(3)
    assert tree.fingerprint() == first
    other = Tree(ClusterConfig(num_images=8, pixels_per_image=40))
    other.fit(toy, RunContext(tmp_path / "other", seed=2))
    assert other.fingerprint() != first
    native = Native(Config())
    native.fit(toy, RunContext(tmp_path))
    before = native.fingerprint()
    native.classes = ("background", "leaf")
    assert native.fingerprint() != before


def test_names_that_do_not_fit_the_extractor(tree, toy, tmp_path):
    good = names_for(tree)
    ids = tree.level(4).ids
    with pytest.raises(ConfigError, match="another fit of the extractor") as caught:
        Named(tree, good.model_copy(update={"extractor": "0" * 16}))
    assert "gsegkit name RUN" in caught.value.hint
    with pytest.raises(ConfigError, match="which cut"):
        Named(tree, good.model_copy(update={"cut": None}))
    with pytest.raises(ConfigError, match="no cut into 17"):
        Named(tree, good.model_copy(update={"cut": 17}))
    with pytest.raises(ConfigError, match="cluster 99, which does not exist"):
        Named(tree, good.model_copy(update={"ignore": (99,)}))
    short = [{"name": "a", "clusters": ids[:2]}, {"name": "b", "clusters": ids[3:]}]
    with pytest.raises(ConfigError, match=f"omit cluster {ids[2]}"):
        Named(tree, parse_class_map({"extractor": tree.fingerprint(), "cut": 4, "classes": short}))
    native = Native(Config())
    native.fit(toy, RunContext(tmp_path))
    with pytest.raises(ConfigError, match="has no levels"):
        Named(native, good.model_copy(update={"extractor": native.fingerprint(), "cut": 4}))


def test_extractors_without_levels_are_named_by_class_index(toy, tmp_path):
    native = Native(Config())
    native.fit(toy, RunContext(tmp_path))
    rows = [{"name": "thing", "clusters": [1, 2, 3]}, {"name": "ground", "clusters": [0]}]
    named = Named(native, parse_class_map({"extractor": native.fingerprint(), "classes": rows}))
    batch = toy.sample(torch.arange(3))
    assert torch.allclose(named.extract(batch, toy).probs[:, 1], batch.probs[:, 0])


def test_parents_follow_the_merges(tree):
    for fine, coarse in ((6, 3), (6, 6), (4, 2)):
        found = parents(tree, fine, coarse)
        assert set(found) == set(tree.level(fine).ids)
        assert set(found.values()) == set(tree.level(coarse).ids)
    shares = dict(zip(tree.level(6).ids, tree.level(6).shares, strict=True))
    merged = parents(tree, 6, 3)
    for cluster, share in zip(tree.level(3).ids, tree.level(3).shares, strict=True):
        assert sum(shares[i] for i, parent in merged.items() if parent == cluster) == pytest.approx(share, abs=1e-5)
    with pytest.raises(ConfigError, match="finer"):
        parents(tree, 3, 6)
    tree._table[5]["ids"] = [90, 91, 92, 93, 94]
    with pytest.raises(ConfigError, match="are not merged from"):
        parents(tree, 6, 3)


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_stored_masks_are_merged(tmp_path):
    masks = torch.tensor([[[0, 1, 2, 255]]], dtype=torch.uint8)
    pairs = MemoryDataset(torch.zeros(1, 3, 1, 4, dtype=torch.uint8), masks, ("cluster-5", "cluster-0", "cluster-8"))
    rows = [{"name": "a", "clusters": [0]}, {"name": "b", "clusters": [5]}]
    class_map = parse_class_map({"extractor": "0" * 16, "cut": 3, "classes": rows, "ignore": [8]})
    renamed = Renamed(pairs, class_map)
    assert renamed.classes == ("a", "b")
    assert renamed[0].mask.tolist() == [[1, 0, 255, 255]]
    assert renamed.batch([0])[1].tolist() == [[[1, 0, 255, 255]]]
    with pytest.raises(ConfigError, match="omit cluster 1"):
        Renamed(MemoryDataset(pairs.pixels, masks, ("x", "y", "z")), class_map.model_copy(update={"ignore": (2,), "classes": class_map.classes[:1]}))  # fmt: skip


def test_images_whose_labels_were_used_are_left_out():
    zeros = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    pairs = MemoryDataset(zeros, zeros[:, 0], ("a", "b"), names=("x", "y", "z"))
    kept, note = leave_out(pairs, ("y", "elsewhere"))
    assert [sample.name for sample in kept] == ["x", "z"]
    assert "1 of this data set's 3 images were left out" in note
    assert leave_out(pairs, ()) == (pairs, "")
    assert "none of them" in leave_out(pairs, ("q",))[1]
    with pytest.raises(DataError, match="none is left"):
        leave_out(pairs, ("x", "y", "z"))


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template():
    """Where the run that the tests copy is kept."""
    return {}


@pytest.fixture
def finished(template, tree_plan, registry, tmp_path, tmp_path_factory):
    """A finished run, made once; tests may change their copy."""
    if not template:
        template["run"] = tmp_path_factory.mktemp("template") / "run"
        run(tree_plan, template["run"], registry=registry)
    return shutil.copytree(template["run"], tmp_path / "run")


def test_a_run_that_is_named_keeps_its_extractor_and_replays(finished, tree_plan, registry, session, tmp_path):
    raw = api.open_labelled(finished, session)
    assert [name[:8] for name in raw.classes] == ["cluster-"] * LEAVES
    file = tmp_path / "classes.yaml"
    made = api.name(finished, ["a#112233=*", f"b={raw.classes[1][8:]}"], save=file, session=session)
    assert read_class_map(file) == made
    config = json.loads((finished / "config.json").read_text())
    named = Plan.from_options(config, classes=file)
    assert named.default_folder() == Plan.from_options(config).default_folder()
    with pytest.raises(ConfigError, match=r"classes: None -> \{'extractor'.* \.\.\."):
        run(named, finished, registry=registry)
    said = Listener()
    result = run(named, finished, registry=registry, progress=said, update=True)
    assert [line for line in said.infos if "reused" in line] == ["extractor: reused"]
    pairs = api.open_labelled(finished, session)
    assert pairs.classes == ("a", "b") == api.load(finished, session=session).classes
    assert pairs.manifest.recipe["fingerprint"] == made.extractor
    merged = Renamed(_kept(raw, finished, session, tmp_path), made)
    agree = [(merged[i].mask == pairs[i].mask).float().mean() for i in range(len(pairs))]
    assert torch.stack(agree).mean() > 0.9, "the pairs are those of the run before, with clusters added up"
    assert "a &lt;- " in render_report(result.folder).read_text()
    # the file's content counts, not its name; and the stored content replays without the file
    (tmp_path / "renamed.yaml").write_text(file.read_text() + "\n# a comment\n")
    file.unlink()
    again = Listener()
    run(Plan.from_options(config, classes=tmp_path / "renamed.yaml"), finished, registry=registry, progress=again)
    assert sum("reused" in line for line in again.infos) == 3
    replay = Plan.from_options(json.loads((finished / "config.json").read_text()))
    run(replay, tmp_path / "replay", registry=registry)
    shard = "dataset/shard-00000.safetensors"
    assert (finished / shard).read_bytes() == (tmp_path / "replay" / shard).read_bytes()
    # another colour is no other data
    recoloured = made.model_dump(mode="json")
    recoloured["classes"][0]["colour"] = "#445566"
    third = Listener()
    run(Plan.from_options(config, classes=recoloured), finished, registry=registry, progress=third, update=True)
    assert sum("reused" in line for line in third.infos) == 3
    assert stored_class_map(finished).classes[0].colour == "#445566"
    # and the names can be taken back
    run(Plan.from_options(config), finished, registry=registry, update=True)
    assert api.open_labelled(finished, session).classes == raw.classes
    assert stored_class_map(finished) is None


def _kept(raw, finished, session, tmp_path):
    """The raw pairs in memory: the folder they lie in is about to change."""
    again = api.synthesize(finished, tmp_path / "raw", len(raw), classes=_all_apart(finished, session), session=session)
    pixels, masks = again.batch(range(len(again)))
    return MemoryDataset(pixels, masks, raw.classes)


def _all_apart(finished, session):
    return api.name(finished, session=session)


def test_another_fits_names_stop_a_run_after_its_extractor(finished, tree_plan, registry, tmp_path, session):
    names = api.name(finished, session=session)
    other = tree_plan.model_copy(update={"classes": names, "seed": 9})
    with pytest.raises(ConfigError, match="another fit"):
        run(other, tmp_path / "other", registry=registry)
    said = Listener()
    smoke = run(other.model_copy(update={"smoke": True}), tmp_path / "smoke", registry=registry, progress=said)
    assert any("class names are ignored" in line for line in said.warnings)
    assert render_report(smoke.folder).exists()


def test_preflight_refuses_names_over_several_rounds(tree, tree_plan, registry):
    plan = tree_plan.model_copy(update={"classes": names_for(tree), "rounds": 2})
    assert [p.where for p in check(choose(plan, registry))] == ["classes"]


def test_synthesize_and_train_take_names(finished, session, tmp_path):
    ids = api.load(finished, "extractor", session=session).level(3).ids
    save = tmp_path / "three.yaml"
    made = api.name(finished, ["x=*", f"y={ids[1]}"], cut=3, save=save, session=session)
    pairs = api.synthesize(finished, tmp_path / "more", 16, classes=save, device="cpu", session=session)
    assert pairs.classes == ("x", "y")
    with pytest.raises(ConfigError, match="made with other options"):
        api.synthesize(finished, tmp_path / "more", 16, device="cpu", session=session)
    raw = api.synthesize(finished, tmp_path / "raw", 16, device="cpu", session=session)
    six = api.name(finished, [f"x={cluster_ids(raw.classes)[0]}", "y#abcdef=*"], session=session)  # y is most of it
    part = api.train(tmp_path / "raw", "tiny", tmp_path / "seg", classes=six, options={"steps": 3}, session=session)
    assert part.classes == ("x", "y")
    assert stored_class_map(tmp_path / "seg") == six
    options = {"classes": six.model_copy(update={"extractor": "0" * 16}), "options": {"steps": 3}, "session": session}
    with pytest.raises(ConfigError, match="another fit"):
        api.train(tmp_path / "raw", "tiny", tmp_path / "no", **options)
    with pytest.raises(ConfigError, match="already have class names"):
        api.train(tmp_path / "more", "tiny", tmp_path / "no", classes=made, options={"steps": 3}, session=session)
    assert not (tmp_path / "no").exists()
    # colours of the names are those of the pictures
    write_png(tmp_path / "photos" / "p.png", raw[0].pixels)
    api.predict(tmp_path / "seg", tmp_path / "photos", tmp_path / "out", device="cpu", session=session)
    mask = api.load(tmp_path / "seg", session=session).predict(raw[0].pixels[None])[0]
    assert (mask == 1).any(), "the second class is not drawn"
    drawn = read_image(tmp_path / "out" / "overlays" / "p.png").float()[:, mask == 1]
    colour = torch.tensor([0xAB, 0xCD, 0xEF])[:, None]
    assert (drawn - (raw[0].pixels.float()[:, mask == 1] + colour) / 2).abs().max() <= 1


def test_names_are_never_written_over_something_else(finished, session, tmp_path):
    (tmp_path / "classes.yaml").write_text("- background\n- leaf\n")
    with pytest.raises(ConfigError, match="is not a file of class names"):
        api.name(finished, save=tmp_path / "classes.yaml", session=session)
    assert (tmp_path / "classes.yaml").read_text() == "- background\n- leaf\n"
    with pytest.raises(ConfigError, match=r"is not a \.yaml file"):
        api.name(finished, save=tmp_path / "classes.json", session=session)
    api.name(finished, save=tmp_path / "mine.yaml", session=session)
    api.name(finished, ["a=*", "b=3"] if "cluster-3" in api.open_labelled(finished, session).classes else [],
             save=tmp_path / "mine.yaml", session=session)  # fmt: skip
    with pytest.raises(ArtifactError, match="holds no trained extractor"):
        api.name(tmp_path, session=session)


# ---- matching --------------------------------------------------------------------------------------------------------


TRUE_NAMES = ("background", "body", "spot")


@pytest.fixture
def annotated(toy, finished, session, tmp_path):
    """12 toy pictures; the true class of a pixel is its predicted cluster's place modulo 3, with a little noise."""
    pictures = to_pixels(toy.sample(torch.arange(900, 912)).images)
    predicted = api.load(finished, session=session).predict(pictures)
    assert len(predicted.unique()) > 2, "too few clusters are predicted: the tests below would test nothing"
    noise = torch.rand(predicted.shape, generator=torch.Generator().manual_seed(0)) < 0.02
    truth = torch.where(noise, 1, predicted % 3).to(torch.uint8)
    for i, (picture, mask) in enumerate(zip(pictures, truth, strict=True)):
        write_png(tmp_path / "data" / "images" / f"p{i:02d}.png", picture)
        write_png(tmp_path / "data" / "masks" / f"p{i:02d}.png", mask)
    (tmp_path / "data" / "classes.txt").write_text("\n".join(TRUE_NAMES))
    return tmp_path / "data"


@pytest.fixture
def full_session(registry):
    """With the evaluator and the folder reader, which are plugins."""
    registry.add(pytest.importorskip("gsegkit_eval"), "gsegkit-eval")
    registry.add(pytest.importorskip("gsegkit_datasets"), "gsegkit-datasets")
    return api.Session(registry, Listener(), threading.Event())


def test_match_writes_names_and_evaluate_leaves_the_used_images_out(finished, annotated, full_session, tmp_path):
    save = tmp_path / "matched.yaml"
    found = api.match(finished, annotated, num_images=5, save=save, session=full_session, device="cpu")
    assert len(found.labels_used) == len(set(found.labels_used)) == 5
    assert found == api.match(finished, annotated, num_images=5, session=full_session, device="cpu")
    assert found.labels_used != api.match(finished, annotated, num_images=5, seed=1, session=full_session).labels_used
    ids = cluster_ids(api.load(finished, session=full_session).classes)
    assert sorted(c for clusters in found.classes.values() for c in clusters) == sorted(ids)
    assert {*found.classes, *found.unmatched} == set(TRUE_NAMES)
    segmenter = api.load(finished, session=full_session)
    data = api.open_labelled(annotated, full_session)
    pictures = [sample.pixels for sample in data if sample.name in found.labels_used]
    for value in segmenter.predict(torch.stack(pictures)).unique().tolist():
        assert ids[value] in found.classes[TRUE_NAMES[value % 3]]
    assert found.classes == _plain_matching(finished, annotated, found.labels_used, full_session)
    class_map = read_class_map(save)
    assert class_map.labels_used == found.labels_used
    assert class_map.names == tuple(name for name in TRUE_NAMES if name in found.classes)
    report = api.evaluate(finished, annotated, options={"match": str(save)}, session=full_session, device="cpu")
    assert report.metrics["num_images"] == 7
    assert not set(report.per_image) & set(found.labels_used)
    assert any("5 of this data set's 12 images were left out" in note for note in report.notes)
    # a run that is trained on these names leaves them out by itself
    config = json.loads((finished / "config.json").read_text())
    run(Plan.from_options(config, classes=save), finished, registry=full_session.registry, update=True)
    report = api.evaluate(finished, annotated, session=full_session, device="cpu")
    assert report.metrics["num_images"] == 7
    assert report.notes[0] == "classes were matched by name"
    # and its classes are matched as they are
    again = api.match(finished, annotated, num_images=5, session=full_session, device="cpu")
    assert sorted(c for clusters in again.classes.values() for c in clusters) == sorted(ids)
    with pytest.raises(ConfigError, match="already have names"):
        api.match(finished, annotated, cut=3, session=full_session, device="cpu")


def _plain_matching(finished, annotated, used, session):
    """The same by the evaluator's own matching on the same images."""
    import numpy as np
    from gsegkit_eval.matching import greedy

    from gsegkit.classes.greedy import contingency

    segmenter = api.load(finished, session=session)
    data = api.open_labelled(annotated, session)
    tables = [
        contingency(sample.mask, segmenter.predict(sample.pixels[None])[0], 3, LEAVES)
        for sample in data
        if sample.name in used
    ]
    ids = cluster_ids(segmenter.classes)
    targets = greedy(np.stack(tables)).targets
    found = {name: tuple(i for i, t in zip(ids, targets, strict=True) if t == v) for v, name in enumerate(data.classes)}
    return {name: clusters for name, clusters in found.items() if clusters}


def test_match_a_coarser_cut(finished, annotated, full_session):
    found = api.match(finished, annotated, num_images=6, cut=3, session=full_session, device="cpu")
    extractor = api.load(finished, "extractor", session=full_session)
    assert found.cut == 3
    assert sorted(c for clusters in found.classes.values() for c in clusters) == sorted(extractor.level(3).ids)
    extractor.cut(3)
    with pytest.raises(ConfigError, match="is finer than the one into 3"):
        predicted_clusters(extractor.classes, extractor, cut=6)
    with pytest.raises(ConfigError, match="are not the clusters"):
        predicted_clusters(("cluster-1", "cluster-99"), extractor)


def test_match_says_when_it_cannot(finished, annotated, full_session, tmp_path):
    with pytest.raises(ConfigError, match="at least one annotated image"):
        api.match(finished, annotated, num_images=0, session=full_session)
    api.match(finished, annotated, num_images=99, session=full_session, device="cpu")
    assert any("none is left to score" in line for line in full_session.progress.warnings)
    one = dataclasses.replace(
        api.match(finished, annotated, num_images=3, session=full_session, device="cpu"), classes={"body": (1, 2)}
    )
    with pytest.raises(ConfigError, match="all clusters were matched to 'body'"):
        one.class_map()
    for path in (annotated / "masks").iterdir():
        write_png(path, torch.full((24, 24), 255, dtype=torch.uint8))
    with pytest.raises(DataError, match=r"none of the images has a labelled pixel|255"):
        api.match(finished, annotated, session=full_session, reader_options={"values": "index"}, device="cpu")


def test_evaluating_with_another_fits_names(finished, annotated, full_session, tmp_path):
    made = api.name(finished, save=tmp_path / "c.yaml", session=full_session)
    (tmp_path / "c.yaml").write_text(class_map_yaml(made.model_copy(update={"extractor": "f" * 16})))
    with pytest.raises(ConfigError, match="another fit"):
        api.evaluate(finished, annotated, options={"match": str(tmp_path / "c.yaml")}, session=full_session)


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, call, full_session):
    """The command with the tests' own parts."""
    from gsegkit.cli import early, work
    from gsegkit.cli import main as cli
    from gsegkit.cli import options as common

    for module in (cli, common, work, early):
        monkeypatch.setattr(module, "installed", lambda: full_session.registry)

    return call


def test_the_whole_way_on_the_command_line(call, finished, annotated, tmp_path):
    code, out, _ = call("name", finished, "--list", "--cut", "3", "--json", "-q")
    assert code == 0
    listed = json.loads(out)
    assert listed["cut"] == len(listed["clusters"]) == 3
    assert sum(row["share"] for row in listed["clusters"]) == pytest.approx(1, abs=1e-4)
    assert listed["facts"].keys() == {"lowest_gap"}
    assert read_image(listed["sheet"]).shape[0] == 3
    code, _, err = call("name", finished, "--list", "-q")
    assert code == 0
    assert "sheet.png" in err
    assert "cluster" in err
    first, *rest = (row["id"] for row in listed["clusters"])
    save = tmp_path / "names.yaml"
    code, _, err = call(
        "name", finished, "--cut", 3, "--class", f"ground={first}", "--class", "leaf#44aa22=*", "--save", save
    )
    assert code == 0, err
    assert read_class_map(save).summary() == f"ground <- {first}; leaf <- {', '.join(map(str, rest))}"
    use, train = (line.partition(": ")[2] for line in err.splitlines() if line.startswith(("next: ", "or train")))
    masks = tmp_path / "masks"
    words = [{"PHOTOS": annotated, "masks": masks}.get(word, word) for word in shlex.split(use)[1:]]
    code, _, err = call(*words, "--no-refine", "-q")
    assert code == 0, err
    assert json.loads((masks / "predictions.json").read_text())["classes"] == ["ground", "leaf"]
    code, out, err = call("evaluate", finished, "--data", annotated, "--classes", save, "--no-refine", "--json", "-q")
    assert code == 0, err
    code, _, err = call(*words, "--parts", "-q")
    assert (code, "choose one of them" in err) == (2, True)
    code, _, err = call(*shlex.split(train)[1:], "-q")
    assert code == 0, err
    code, _, err = call(*words, "--no-refine", "-q")
    assert code == 0, "names that it was trained with change nothing"
    assert json.loads((finished / "config.json").read_text())["classes"]["cut"] == 3
    code, _, err = call("match", finished, "--data", annotated, "--num-images", 4, "--device", "cpu", "-q")
    assert code == 0, err
    assert "labels were used: 4 annotated images" in " ".join(err.split())


def test_match_on_the_command_line(call, finished, annotated, tmp_path):
    save = tmp_path / "m.yaml"
    code, out, err = call("match", finished, "--data", annotated, "--num-images", 4, "--save", save, "--json", "-q")
    assert code == 0, err
    assert json.loads(out)["labels_used"] == list(read_class_map(save).labels_used)
    code, out, err = call("evaluate", finished, "--data", annotated, "--match", save, "--json", "-q")
    assert code == 0, err
    assert json.loads(out)["num_images"] == 8


def test_bad_commands(call, finished, tmp_path):
    for args, message in [
        (["--class", "a=1"], "need a file to write"),
        (["--cut", "3"], "--cut was given without"),
        (["--list", "--save", tmp_path / "x.yaml"], "given together"),
        (["--list", "--cut", "77"], "no cut into 77"),
        (["--class", "a=0", "--save", tmp_path / "x.yaml"], "at least 2 items"),
        (["--class", "a=0", "--class", "b=1", "--save", tmp_path / "x.yaml"], "omit cluster"),
        (["--num-images", "129"], "129 images cannot be shown"),
    ]:
        code, out, err = call("name", finished, *args, "-q")
        assert code == 2, args
        assert message in " ".join(err.split()), err
        assert out == ""
    assert not (tmp_path / "x.yaml").exists()


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_shows_chosen_colours_and_survives_damaged_names(finished, registry, session):
    config = json.loads((finished / "config.json").read_text())
    ids = cluster_ids(api.load(finished, session=session).classes)
    made = api.name(finished, ["ground=*", f"leaf#0a1b2c={ids[1]}"], session=session)
    page = render_report(run(Plan.from_options(config, classes=made), finished, registry=registry, update=True).folder)
    assert "rgb(10, 27, 44)" in page.read_text()
    damaged = json.loads((finished / "config.json").read_text())
    damaged["classes"]["classes"][1]["colour"] = "blue"
    (finished / "config.json").write_text(json.dumps(damaged))
    text = render_report(finished).read_text()
    assert text.count("the colours of the classes cannot be read") == 1
    assert "rgb(255, 59, 92)" in text


def test_nothing_here_is_a_fitted_class_map():
    assert isinstance(ClassMap(**GOOD), ClassMap)
    assert issubclass(Named, MaskExtractor)


# ---- targets ---------------------------------------------------------------------------------------------------------


def test_targets_stand_for_class_maps(tree, toy):
    assert automatic_classes(tree, "clusters") is None
    parts, foreground = automatic_classes(tree, "parts"), automatic_classes(tree, "foreground")
    ids = tree.level(coarse_cut(tree)).ids
    assert foreground.cut == coarse_cut(tree) == tree.coarse
    cut, large, small = coarse_parts(tree)
    assert set(large) | set(small) == set(tree.level(cut).ids)
    assert (parts.cut, parts.ignore) == (cut, small)
    assert parts.names == ("background", *(f"part {i}" for i in range(1, len(large))))
    assert [entry.clusters for entry in parts.classes] == [(i,) for i in large]
    assert [entry.clusters for entry in foreground.classes] == [ids[:1], ids[1:]]
    assert foreground.names == ("background", "foreground")
    found = Named(tree, foreground).extract(batch_of(toy, tree), toy)
    assert found.probs.shape[1] == 2
    own = Native(Config())
    own.fit(toy, None)
    assert automatic_classes(own, "parts") is None, "its classes are parts already"
    assert [entry.clusters for entry in automatic_classes(own, "foreground").classes] == [(0,), (1, 2, 3)]


def test_the_coarse_cut_of_an_extractor_that_names_none():
    shares = {2: (0.9, 0.1), 4: (0.4, 0.3, 0.2, 0.1), 5: (0.4, 0.3, 0.2, 0.06, 0.04), 9: (1 / 9,) * 9}

    class Other(Tree):
        coarse = 0

        def level(self, k):
            return Level(tuple(range(k)), shares[k])

    part = Other(ClusterConfig())
    part.levels = tuple(shares)
    assert coarse_cut(part) == 4, "of 3 to 8 clusters the level whose smallest is largest"
    assert coarse_parts(part) == (5, (0, 1, 2, 3, 4), ()), "the finest level of at most 8 large clusters"
    shares[9] = (0.4, 0.3, 0.265, *(0.005,) * 5, 0.01)
    assert coarse_parts(part) == (9, (0, 1, 2, 8), (3, 4, 5, 6, 7)), "odd corners are no parts"
    shares[9] = (0.4, 0.3, 0.24, *(0.01 - 1e-4,) * 6)
    assert coarse_parts(part)[0] == 5, "too many pixels would be ignored"
    shares[9] = (1 / 9,) * 9
    part.levels = (9,)
    assert coarse_cut(part) == 9
    assert coarse_parts(part) == (9, tuple(range(9)), ()), "one level with many parts: there is no other"


def test_a_run_with_a_target(finished, tree_plan, registry, session, tmp_path):
    assert stored_class_map(finished) is None
    stored = Plan.from_options(json.loads((finished / "config.json").read_text()))
    wanted = stored.model_copy(update={"target": "foreground"})
    assert wanted.default_folder() != stored.default_folder()
    with pytest.raises(ConfigError, match="target: None -> foreground"):
        run(wanted, finished, registry=registry)
    said = Listener()
    result = run(wanted, finished, registry=registry, progress=said, update=True)
    assert [line for line in said.infos if "reused" in line] == ["extractor: reused"], "the fit is kept"
    names = stored_class_map(finished)
    assert names == automatic_classes(api.load(finished, "extractor", session=session), "foreground")
    assert api.load(finished, session=session).classes == ("background", "foreground")
    assert api.open_labelled(finished, session).manifest.recipe["classes"] == names.model_dump(mode="json")
    assert "foreground &lt;- " in render_report(result.folder).read_text()
    again = Listener()
    run(wanted, finished, registry=registry, progress=again)
    assert sum("reused" in line for line in again.infos) == 3
    replay = Plan.from_options(json.loads((finished / "config.json").read_text()))
    run(replay, tmp_path / "replay", registry=registry)
    shard = "dataset/shard-00000.safetensors"
    assert (finished / shard).read_bytes() == (tmp_path / "replay" / shard).read_bytes()
    more = api.synthesize(finished, tmp_path / "more", 8, device="cpu", session=session)
    assert more.classes == ("background", "foreground")
    # the fine clusters are still there to be named, and names that a person gave come first
    extractor = api.load(finished, "extractor", session=session)
    assert len(extractor.classes) == LEAVES
    made = api.name(finished, ["a=*", f"b={extractor.level(LEAVES).ids[1]}"], session=session)
    run(wanted.model_copy(update={"classes": made}), finished, registry=registry, update=True)
    assert api.load(finished, session=session).classes == ("a", "b")
    assert stored_class_map(finished) == made


def test_a_target_that_there_is_not():
    with pytest.raises(ConfigError, match="target"):
        Plan.from_options({"gen": "toy", "extractor": "native", "seg": "tiny", "target": "heads"})


# ---- photographs on the page -----------------------------------------------------------------------------------------


def test_a_segmenters_classes_on_every_level(tree):
    fine = tree.level(4).ids
    predicted = Predicted(tuple((i,) for i in fine), (0, 1, 2, 3), 4)
    assert positions(predicted, tree, fine) == [0, 1, 2, 3]
    for k in (2, 3):
        ids, parent = tree.level(k).ids, parents(tree, 4, k)
        assert positions(predicted, tree, ids) == [ids.index(parent[i]) for i in fine]
    finer = tree.level(6).ids
    assert positions(predicted, tree, finer) == [finer.index(i) if i in finer else 255 for i in fine]
    assert 255 in positions(predicted, tree, finer), "a cluster that is divided on this level"
    grouped = Predicted((fine[:2], fine[2:]), (0, 1), 4)
    assert positions(grouped, tree, fine) == [255, 255], "several clusters are no single one"
    other = Predicted(tuple((i,) for i in (91, 92, 93, 94)), (0, 1, 2, 3), 4)
    assert positions(other, tree, tree.level(6).ids) == [255] * 4


def test_the_page_shows_photographs(finished, session, tmp_path):
    for i in range(10):
        write_png(tmp_path / "photos" / f"cell-{i}.png", torch.full((3, 30, 20), 25 * i, dtype=torch.uint8))
    page = api.name_page(finished, tmp_path / "page.html", num_images=3, images=tmp_path / "photos", session=session)
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert data["photographs"] == [f"cell-{i}" for i in range(8)]
    assert len(data["seeds"]) == 3
    assert len(data["pictures"]) == 11
    segmenter = api.load(finished, session=session)
    photos = UnlabelledImages(tuple(sorted((tmp_path / "photos").glob("*.png")))).fitted((24, 24), "squash")
    own = next(level for level in data["levels"] if level["k"] == LEAVES)
    drawn = [list(zlib.decompress(base64.b64decode(text))) for text in own["maps"][3:]]
    assert drawn == segmenter.predict(photos.batch(range(8))).flatten(1).tolist()
    assert "then 8 photographs" in page.read_text()
    alone = api.name_page(finished, tmp_path / "alone.html", num_images=3, session=session)
    assert '"photographs": []' in alone.read_text(), "the toy has no photographs of its own"
    with pytest.raises(DataError, match="does not exist"):
        api.name_page(finished, tmp_path / "page.html", images=tmp_path / "nothing", session=session)


def test_two_classes_of_one_colour_are_refused(tmp_path):
    from gsegkit.classes.class_map import parse_classes, stored_class_map

    with pytest.raises(ConfigError, match="'leaf' and 'stem' have one colour, #44aa22"):
        parse_classes(["leaf#44aa22=1", "stem#44AA22=2", "rest=*"], "", [0, 1, 2])
    rows = [{"name": name, "clusters": [i], "colour": "#44aa22"} for i, name in enumerate(("leaf", "stem"))]
    record = {"extractor": "0" * 16, "cut": 2, "classes": rows}
    (tmp_path / "classes.yaml").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="one colour"):
        read_class_map(tmp_path / "classes.yaml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"classes": record}))
    assert stored_class_map(tmp_path / "run").names == ("leaf", "stem"), "what is stored stays readable"
