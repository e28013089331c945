"""The page on which clusters are named: what is in it is what the extractor says, and its text is a class map."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy
from gsegkit.classes.class_map import parse_class_map, read_class_map
from gsegkit.classes.named import Named
from gsegkit.classes.page import look, render_page
from gsegkit.classes.page.look import choose_pictures
from gsegkit.classes.page.render import packed, palette
from gsegkit.classes.page.sheet import CELL, GAP, LABEL, draw_sheet
from gsegkit.classes.targets import coarse_parts
from gsegkit.clustering.config import ClusterConfig
from gsegkit.clustering.extractor import ClusterExtractor, Clustering, Partition
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.errors import ConfigError
from gsegkit.images import to_pixels

SCRIPT = "".join(files("gsegkit.classes.page").joinpath(name).read_text("utf-8") for name in ("names.js", "page.js"))
NODE = shutil.which("node")


class Stripes(ClusterExtractor):
    """Fixed classifiers: four clusters, of which 2 and 3 become 7, then 0 and 1 become 9."""

    def cluster(self, points, ctx):
        weight = torch.randn(6, points.x.shape[1], generator=torch.Generator().manual_seed(3))
        bias = -points.x.mean(0) @ weight.T
        leaf = (points.x @ weight[:4].T + bias[:4]).argmax(1)
        levels = {
            4: Partition(
                (5, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), {"lowest_iou": 0.25, "gap": float("nan"), "n": True}
            ),
            3: Partition((5, 1, 7), (0, 1, 4), (0, 1, 2, 2), {"lowest_iou": 0.5}),
            2: Partition((9, 7), (5, 4), (0, 0, 1, 1), {}),
        }
        return Clustering(leaf=leaf, levels=levels, weight=weight, bias=bias)


@pytest.fixture(scope="module")
def toy():
    return Toy(ToyConfig(size=24, width=40)).eval()


@pytest.fixture(scope="module")
def extractor(toy, tmp_path_factory):
    part = Stripes(ClusterConfig(num_images=6, pixels_per_image=50, k=3))
    part.fit(toy, RunContext(tmp_path_factory.mktemp("fit"), seed=1))
    return part.eval()


@pytest.fixture
def ctx(tmp_path):
    return RunContext(tmp_path, seed=5, batch_size=4)


class Page(HTMLParser):
    """Elements, ids, and the texts of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.attributes, self.scripts, self.styles, self.policy = [], [], [], "", ""
        self._open = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [found["id"]] if "id" in found else []
        self._open = (tag, found) if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((found, ""))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open and self._open[0] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._open:
            self.styles += data

    @property
    def data(self):
        return json.loads(next(text for found, text in self.scripts if found.get("type") == "application/json"))

    @property
    def script(self):
        return next(text for found, text in self.scripts if "type" not in found)


def picture(uri):
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def positions(data, text):
    """A map of the page, [h, w] uint8."""
    width, height = data["mapSize"]
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(height, width)


def test_the_page_holds_the_extractors_levels_and_maps(toy, extractor, ctx):
    shown = look(toy, extractor, ctx, num_images=5, max_clusters=30)
    data = Page(render_page(shown, "runs/x")).data
    assert data["extractor"] == extractor.fingerprint()
    assert (data["cut"], data["hasLevels"]) == (3, True)
    batch = toy.sample(ctx.seeds("preview", 5), features=extractor.features(toy.info))
    for uri, pixels in zip(data["pictures"], to_pixels(batch.images), strict=True):
        assert (picture(uri) == pixels.permute(1, 2, 0).numpy()).all()
    assert [level["k"] for level in data["levels"]] == [2, 3, 4]
    for level in data["levels"]:
        assert level["ids"] == list(extractor.level(level["k"]).ids)
        assert level["shares"] == list(extractor.level(level["k"]).shares)
        labels = extractor.scores(batch.features, (24, 40), level["k"]).argmax(1)
        assert len(labels.unique()) > 1
        for uri, own in zip(level["maps"], labels, strict=True):
            assert (positions(data, uri) == own.numpy()).all()
    coarse, middle, fine = data["levels"]
    assert coarse["above"] == [], "nothing is coarser"
    for level, above in ((middle, coarse), (fine, middle)):
        merged = set(above["ids"]) - set(level["ids"])
        assert level["above"] == [i if i in above["ids"] else min(merged) for i in level["ids"]]
    assert [set(view.joined) for view in shown.levels] == [set(), {5, 1}, {2, 3}]
    assert len(data["palette"]) == len(set(data["palette"])) == 7  # one for each cluster, grey apart


def test_the_page_needs_nothing_else(toy, extractor, ctx):
    text = render_page(look(toy, extractor, ctx, num_images=2, max_clusters=4), "runs/</script><b>'\"&\u2028x")
    page = Page(text)
    assert not re.findall(r"https?:|//[a-z]", page.styles + page.script + str(page.data["commands"]))
    links = [value for tag, name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert links == ["#classes"]
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert page.policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert page.script == SCRIPT
    assert "</script><b>" in page.data["commands"][0], "a hostile name stays data"
    assert len(page.scripts) == 2
    wanted = set(re.findall(r"\bat\(\"([a-z-]+)\"\)", page.script)) | {
        "merge",
        "split",
        "ignore",
        "clear",
        "undo",
        "save",
    }
    assert wanted <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_rare_clusters_are_looked_for():
    maps = torch.zeros(9, 4, 4, dtype=torch.uint8)
    maps[5, 0, :2] = 1
    maps[7, 0, 0] = 1
    maps[8, 1] = 2
    maps[2, 2, 0] = 2
    assert choose_pictures(maps, 4, 4) == [0, 1, 5, 8]
    assert choose_pictures(maps, 4, 9) == list(range(9))
    assert choose_pictures(maps, 4, 1) == [0]


def test_chosen_pictures_are_shown_as_their_seeds_make_them(toy, extractor, ctx):
    shown = look(toy, extractor, ctx, num_images=4, cut=4, candidates=24)
    seeds = torch.tensor(shown.seeds)
    assert set(shown.seeds) < set(ctx.seeds("preview", 24).tolist())
    assert shown.seeds[:2] == tuple(ctx.seeds("preview", 2).tolist())
    batch = toy.sample(seeds, features=extractor.features(toy.info))
    assert torch.equal(shown.pixels, to_pixels(batch.images))
    assert torch.equal(shown.levels[0].maps.long(), extractor.scores(batch.features, (24, 40), 4).argmax(1))
    plain = look(toy, extractor, ctx, num_images=4, cut=4)
    least = [min(float((view.maps == c).float().mean((1, 2)).max()) for c in range(4)) for view in (shown.levels[0], plain.levels[0])]  # fmt: skip
    assert least[0] >= least[1]


def test_finer_levels_are_left_out_but_the_present_cut_is_there(toy, extractor, ctx):
    assert [view.k for view in look(toy, extractor, ctx, num_images=1, max_clusters=2).levels] == [2, 3]
    assert [view.k for view in look(toy, extractor, ctx, num_images=1).levels] == [3]
    assert [view.k for view in look(toy, extractor, ctx, num_images=1, cut=4).levels] == [4]
    with pytest.raises(ConfigError, match="0 images cannot be shown"):
        look(toy, extractor, ctx, num_images=0)


def test_thirty_levels_of_64_pixels_stay_small():
    generator = torch.Generator().manual_seed(0)
    size = 0
    for k in range(2, 31):
        coarse = torch.randint(k, (1, 1, 12, 12), generator=generator).float()
        labels = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="nearest")[0, 0].to(torch.uint8)
        noisy = torch.rand(64, 64, generator=generator) < 0.05
        labels[noisy] = torch.randint(k, (int(noisy.sum()),), generator=generator).to(torch.uint8)
        size += 12 * len(packed(labels))
    assert size < 2e6
    assert len(set(palette(30))) == 30


def test_extractors_without_levels(toy, ctx):
    native = Native(Config())
    native.fit(toy, ctx)
    data = Page(render_page(look(toy, native, ctx, num_images=3, max_clusters=30), "r")).data
    (level,) = data["levels"]
    assert (level["k"], level["ids"], data["hasLevels"]) == (4, [0, 1, 2, 3], False)
    assert data["names"] == ["background", "body", "spot", "rim"]
    truth = toy.sample(ctx.seeds("preview", 3)).probs.argmax(1)
    assert (np.stack([positions(data, text) for text in level["maps"]]) == truth.numpy()).all()
    assert sum(level["shares"]) == pytest.approx(1, abs=1e-4)


def test_large_pictures_are_shrunk(ctx):
    toy = Toy(ToyConfig(size=160, width=400)).eval()
    native = Native(Config())
    native.fit(toy, ctx)
    data = Page(render_page(look(toy, native, ctx, num_images=1), "r")).data
    assert picture(data["pictures"][0]).shape == (77, 192, 3)
    assert positions(data, data["levels"][0]["maps"][0]).shape == (51, 128)


def test_the_sheet_shows_every_cluster_in_its_row(toy, extractor, ctx):
    shown = look(toy, extractor, ctx, num_images=3, cut=4)
    sheet = draw_sheet(shown)
    height = round(24 * CELL / 40) + GAP
    assert sheet.shape == (3, 5 * height, LABEL + 3 * (CELL + GAP))
    row = sheet[:, height : 2 * height - GAP, LABEL : LABEL + CELL]
    most = int((shown.levels[0].maps == 0).float().mean((1, 2)).argmax())
    own = shown.levels[0].maps[most, None, None].float()
    inside = torch.nn.functional.interpolate(own, size=row.shape[1:], mode="nearest-exact")[0, 0] == 0
    left = LABEL + most * (CELL + GAP)
    original = sheet[:, : height - GAP, left : left + CELL]
    assert torch.equal(row[:, inside], original[:, inside])
    assert (row[:, ~inside].float().mean(0) <= 0.22 * 255 + 1).all()


# ---- the script ------------------------------------------------------------------------------------------------------

needs_node = pytest.mark.skipif(NODE is None, reason="needs node")


def node(code, data):
    """Run the page's script without a page, then `code`, which returns what is to be printed as JSON."""
    run = "(async () => { %s })().then((found) => console.log(JSON.stringify(found)));" % code  # noqa: UP031
    text = f"{SCRIPT}\nconst data = {json.dumps(data)};\n{run}"
    done = subprocess.run([NODE, "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_script_reads_the_maps(toy, extractor, ctx):
    data = Page(render_page(look(toy, extractor, ctx, num_images=2, max_clusters=4), "r")).data
    found = node(
        "const map = await readMap(data.levels[2].maps[1], data.mapSize); return [map.width, map.height, [...map.values]];",
        data,
    )
    assert found == [40, 24, positions(data, data["levels"][2]["maps"][1]).flatten().tolist()]


@needs_node
def test_what_the_page_saves_names_the_extractor(toy, extractor, ctx, tmp_path):
    data = Page(render_page(look(toy, extractor, ctx, num_images=1, max_clusters=4), "r")).data
    text = node(
        """
        const level = data.levels.find((one) => one.k === 4);
        let state = initialState(data);
        const [first, second, third, fourth] = level.ids;
        state = merged(state, data, level, [first, third]);
        state = changed(state, state.owner[first], { name: cleanName(" Grün:\\u00a0# 'x'\\u2028 \\u{1F343}"), colour: "#0a0B0c" });
        state = moved(state, level, state.owner[first], 1);
        state = ignoring(state, data, [fourth]);
        return [yamlText(data, state, level), problemOf(state, level), level.ids];
        """,
        data,
    )
    (tmp_path / "classes.yaml").write_text(text[0], encoding="utf-8")
    made = read_class_map(tmp_path / "classes.yaml")
    first, second, third, fourth = text[2]
    assert text[1] == ""
    assert made.names == (f"cluster-{second}", "Grün: # 'x' 🍃")
    assert made.classes[1].clusters == (first, third)
    assert made.classes[1].colour == "#0a0B0c"
    assert (made.ignore, made.cut) == ((fourth,), 4)
    named = Named(extractor, made)
    probs = named.extract(toy.sample(torch.arange(2), features=named.features(toy.info)), toy).probs
    assert torch.allclose(probs.sum(1), torch.ones(2, 24, 40), atol=1e-5)


@needs_node
def test_names_follow_clusters_over_the_levels_and_can_be_taken_apart(toy, extractor, ctx):
    data = Page(render_page(look(toy, extractor, ctx, num_images=1, max_clusters=4), "r")).data
    found = node(
        """
        const at = (k) => data.levels.find((one) => one.k === k);
        const show = (state, k) => classesOf(state, at(k)).map((entry) => [entry.name, entry.ids]);
        let state = initialState(data);
        const before = show(state, 2);
        state = merged(state, data, at(4), [5, 1]);
        state = changed(state, state.owner[5], { name: "ground" });
        const coarse = show(state, 3);
        const first = show(state, 4);
        state = splitOff(state, data, at(4), [at(4).ids.find((id) => `own-${id}` === state.owner[5])]);
        const apart = show(state, 4);
        const twice = problemOf(changed(state, state.owner[7], { name: "ground" }), at(3));
        const none = problemOf(ignoring(state, data, [5, 1]), at(3));
        return { before, coarse, first, apart, twice, none };
        """,
        data,
    )
    assert [ids for _, ids in found["before"]] == [[i] for i in extractor.level(2).ids], "the background stays first"
    assert ["ground", [i for i in extractor.level(3).ids if i != 7]] in found["coarse"]
    assert len(found["first"]) == 3
    assert len(found["apart"]) == 4
    assert sorted(i for _, ids in found["apart"] for i in ids) == [1, 2, 3, 5]
    assert [ids for name, ids in found["apart"] if name == "ground"] in ([[1]], [[5]])
    assert "“ground”" in found["twice"]
    assert "two classes" in found["none"]


@needs_node
def test_the_page_begins_with_the_names_that_a_run_has(toy, extractor, ctx):
    ids = list(extractor.level(4).ids)
    rows = [{"name": "b", "clusters": ids[2:0:-1], "colour": "#111111"}, {"name": "a", "clusters": ids[:1]}]
    names = parse_class_map({"extractor": extractor.fingerprint(), "cut": 4, "classes": rows, "ignore": ids[3:]})
    shown = look(toy, extractor, ctx, num_images=1, max_clusters=4)
    data = Page(render_page(shown, "r", names)).data
    code = "return yamlText(data, initialState(data), data.levels.find((one) => one.k === 4));"
    import yaml

    text = yaml.safe_load(node(code, data))
    assert [c["name"] for c in text["classes"]] == ["b", "a"]
    assert sorted(text["classes"][0]["clusters"]) == sorted(ids[1:3])
    assert text["ignore"] == ids[3:]
    foreign = names.model_copy(update={"extractor": "0" * 16})
    assert Page(render_page(shown, "r", foreign)).data["start"] is None


BLOOD_CELLS = ["plasma", "red cell", "cytoplasm", "nucleus"]


class CoarseStripes(Stripes):
    """Eight leaves; the coarse cut has them all: as many parts as a person is ever shown at first."""

    def cluster(self, points, ctx):
        weight = torch.randn(8, points.x.shape[1], generator=torch.Generator().manual_seed(3))
        bias = -points.x.mean(0) @ weight.T
        leaf = (points.x @ weight.T + bias).argmax(1)
        levels = {8: Partition(tuple(range(8)), tuple(range(8)), tuple(range(8)), {})}
        return Clustering(leaf=leaf, levels=levels, weight=weight, bias=bias)


@needs_node
def test_four_names_for_eight_parts_take_at_most_twelve_clicks_and_four_words(toy, ctx, tmp_path):
    """What a person does, step by step, on the functions that the page calls for it."""
    part = CoarseStripes(ClusterConfig(num_images=6, pixels_per_image=50))
    part.fit(toy, RunContext(tmp_path / "fit", seed=1))
    data = Page(render_page(look(toy, part, ctx, num_images=1, max_clusters=30), "r")).data
    assert data["coarse"] == 8
    meant = {cluster: BLOOD_CELLS[place % 4] for place, cluster in enumerate(part.level(8).ids)}
    found = node(
        """
        const level = data.levels[firstLevel(data)];
        let state = initialState(data);
        let clicks = 0;
        let words = 0;
        for (const name of data.wanted) {
          const selected = new Set();
          for (const id of level.ids.filter((one) => data.meant[one] === name)) { selected.add(id); clicks += 1; }
          state = named(state, data, level, [...selected], name); // Enter, the name, Enter
          words += 1;
        }
        clicks += 1; // Save
        const joined = named(state, data, level, [level.ids[0]], " nucleus ");
        return { clicks, words, text: yamlText(data, state, level), problem: problemOf(state, level),
          names: classesOf(state, level).map((entry) => entry.name),
          joined: classesOf(joined, level).map((entry) => [entry.name, entry.ids.length]) };
        """,
        {**data, "meant": meant, "wanted": BLOOD_CELLS},
    )  # fmt: skip
    assert found["problem"] == ""
    assert found["clicks"] <= 12
    assert found["words"] == 4
    assert found["names"] == BLOOD_CELLS
    assert dict(found["joined"]) == {"plasma": 1, "red cell": 2, "cytoplasm": 2, "nucleus": 3}
    (tmp_path / "classes.yaml").write_text(found["text"])
    made = read_class_map(tmp_path / "classes.yaml")
    assert {cluster: entry.name for entry in made.classes for cluster in entry.clusters} == meant
    assert len({entry.colour for entry in made.classes}) == 4


@needs_node
def test_the_page_begins_with_the_coarse_cut(toy, extractor, ctx):
    data = Page(render_page(look(toy, extractor, ctx, num_images=1, max_clusters=4), "r")).data
    assert data["coarse"] == coarse_parts(extractor)[0]
    code = "const at = (more) => data.levels[firstLevel({ ...data, ...more })].k;"
    code += "return [at({}), at({ coarse: 3 }), at({ coarse: 0 }), at({ coarse: 77 }), at({ start: { cut: 2 } })];"
    assert node(code, data) == [coarse_parts(extractor)[0], 3, data["cut"], data["cut"], 2]


def tree_of(leaves):
    """Levels as the page gets them: of `leaves` clusters two are merged at a time, the largest id first."""
    ids, levels = list(range(leaves)), []
    while len(ids) > 1:
        levels.append({"k": len(ids), "ids": list(ids)})
        merged = levels[-1]["k"] * 7 % len(ids), levels[-1]["k"] * 3 % len(ids)
        pair = {ids[merged[0]], ids[merged[1] if merged[1] != merged[0] else merged[0] - 1]}
        ids = [1000 + len(ids), *(name for name in ids if name not in pair)]
    return levels[::-1]


@needs_node
def test_no_two_clusters_of_a_level_have_one_colour():
    levels = tree_of(24)
    data = {"levels": levels, "cut": 24, "start": None, "hasLevels": True, "palette": palette(25), "colours": {}}
    code = """
        const state = initialState(data);
        return data.levels.map((level) => level.ids.map((id) => state.classes[state.owner[id]].colour));
        """
    found = node(code, data)
    assert [len(colours) for colours in found] == list(range(2, 25))
    for colours in found:
        assert len(set(colours)) == len(colours)


@needs_node
def test_a_cluster_keeps_its_colour_on_every_level_and_in_the_class_that_it_begins(toy, extractor, ctx):
    data = Page(render_page(look(toy, extractor, ctx, num_images=1, max_clusters=30), "r")).data
    code = """
        const level = data.levels[data.levels.length - 1];
        const state = initialState(data);
        const ids = [level.ids[3], level.ids[1]];
        const next = named(state, data, level, ids, "both");
        return [state.classes[state.owner[level.ids[1]]].colour, next.classes[next.owner[level.ids[3]]].colour];
        """
    before, after = node(code, data)
    assert before == after


@needs_node
def test_a_name_reaches_finer_levels_and_comes_back(toy, extractor, ctx):
    data = Page(render_page(look(toy, extractor, ctx, num_images=1, max_clusters=4), "r")).data
    found = node(
        """
        const at = (k) => data.levels.find((one) => one.k === k);
        const show = (state, k) => Object.fromEntries(classesOf(state, at(k)).map((one) => [one.name, one.ids.sort()]));
        const first = initialState(data);
        const coarse = named(first, data, at(2), [7], "leaf");
        const renamed_ = renamed(first, data, at(2), first.owner[7], "leaf");
        const fine = named(named(first, data, at(4), [2], "leaf"), data, at(4), [3], "leaf");
        const half = named(coarse, data, at(4), [2], "vein");
        const apart = splitOff(coarse, data, at(3), [7]);
        const out = ignoring(first, data, [7]);
        return {
          down: [show(coarse, 3), show(coarse, 4)], row: show(renamed_, 4), up: [show(fine, 3), show(fine, 2)],
          half: [show(half, 4), show(half, 3)], apart: Object.keys(show(apart, 4)), out: ignoredOf(out, at(4)).sort(),
        };
        """,
        data,
    )
    assert [level["leaf"] for level in found["down"]] == [[7], [2, 3]], "as far as the finest level"
    assert found["row"]["leaf"] == [2, 3], "typed into the row of a class as well"
    assert [level["leaf"] for level in found["up"]] == [[7], [7]], "all that a cluster is made of has one name"
    assert (found["half"][0]["leaf"], found["half"][0]["vein"]) == ([3], [2])
    assert found["half"][1]["leaf"] == [7], "what has two names below keeps its own"
    assert {"cluster-2", "cluster-3"} <= set(found["apart"])
    assert found["out"] == [2, 3]


@needs_node
def test_no_two_classes_get_one_colour_whatever_is_done(toy, extractor, ctx):
    shown = look(toy, extractor, ctx, num_images=1, max_clusters=4)
    ids = extractor.level(4).ids
    rows = [{"name": "a", "clusters": ids[:1]}, {"name": "b", "clusters": ids[1:3], "colour": "#2F8CFF"}]
    rows.append({"name": "c", "clusters": ids[3:]})  # its usual colour is that which b was given
    names = parse_class_map({"extractor": extractor.fingerprint(), "cut": 4, "classes": rows})
    for start in (None, names):
        found = node(
            """
            const colours = (state) => data.levels.map((level) => classesOf(state, level).map((one) => one.colour.toLowerCase()));
            const all = [];
            let state = initialState(data);
            for (const level of data.levels) for (const id of level.ids) {
              all.push(colours(named(merged(state, data, level, level.ids.slice(0, 3)), data, level, [id], "new")));
              all.push(colours(splitOff(merged(state, data, level, level.ids), data, level, [id])));
              state = named(state, data, level, [id], `name ${id}`);
              all.push(colours(state));
            }
            const [one, two] = classesOf(state, data.levels[0]);
            return { all, refused: recoloured(state, data, one.key, two.colour.toUpperCase()) };
            """,
            Page(render_page(shown, "r", start)).data,
        )
        for levels in found["all"]:
            for colours in levels:
                assert len(set(colours)) == len(colours)
        assert found["refused"] is None
