"""Tables of papers as recipes: every file is whole, every table can be looked at, exact rows match, bad input is told."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from gsegkit_datasets.testing import make_miniature
from gsegkit_eval.definitions import CLUSTERS, ORDER
from PIL import Image

import gsegkit
from gsegkit.errors import ArtifactError, ConfigError, DataError, GsegkitError
from gsegkit.plugins import installed
from gsegkit.reproducing.given import Given
from gsegkit.reproducing.planned import plan_table
from gsegkit.reproducing.recipes import CHECKOUT, EXACT, find_recipe, read_recipes, recipes_folder
from gsegkit.reproducing.result import judge

RECIPES = read_recipes()
PAPERS = {recipe.group: recipe.paper for recipe in RECIPES.values()}
LAYOUTS = {"stanford-cars": "torchvision", "stanford-dogs": "official", "flowers102": "official"}


# ---- the recipes as they are ---------------------------------------------------------------------------------------


def test_every_table_of_the_four_papers_is_there():
    tables = {
        "directions": "1234567", "labels4free": "1234567", "klish": "123456", "layered": ["1", "2", "3", "4", "5", "6", "c1", "d2"],
    }  # fmt: skip
    assert set(RECIPES) == {f"{group}-{name}" for group, names in tables.items() for name in names}
    assert recipes_folder() == CHECKOUT


def test_every_metric_is_one_that_is_measured():
    known = {*ORDER, *CLUSTERS, "cosine", "images", "fid", "layers", "channels", "lowest", "highest"}
    known |= {"num_codes", "group_size", "rotation", "gamma", "binary_weight"}
    for recipe in RECIPES.values():
        for row in recipe.table.rows:
            if row.runs_here:
                assert {metric for metric in row.paper if not metric.endswith(".iou_per_image")} <= known, row.name


def test_values_that_the_papers_print():
    def row(table, name):
        return {one.name: one for one in RECIPES[table].table.rows}[name]

    assert row("directions-1", "ours-cub").paper == {"accuracy": 0.921, "iou_foreground": 0.664, "max_f_beta": 0.783}
    assert row("directions-3", "ens-ecssd").paper == {"accuracy": 0.917, "iou_foreground": 0.713}
    assert row("layered-5", "ours").paper == {"accuracy": 94.3, "iou_foreground_dataset": 69.7, "miou_dataset": 81.7}
    assert row("labels4free-3", "ours-car").paper["miou_dataset"] == 0.97
    parts = row("klish-6", "ufgs-klish").paper
    assert len(parts) == 14
    assert np.mean(list(parts.values())) == pytest.approx(
        row("klish-5", "ufgs-klish").paper["miou_parts_void"], abs=0.05
    )


def test_columns_that_two_tables_share_are_equal():
    rows = {name: {one.name: one.paper for one in recipe.table.rows} for name, recipe in RECIPES.items()}
    for data in ("cub", "flowers", "omron", "duts", "ecssd"):
        assert rows["directions-2"][f"bigbigan-{data}"] == rows["directions-3"][f"light-{data}"]
        assert rows["directions-7"][f"b-{data}"] == rows["directions-3"][f"light-{data}"]


# ---- every table can be looked at ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    """name of a reader -> folder with its miniature."""
    root, found = tmp_path_factory.mktemp("miniatures"), {}
    readers = {data.reader for paper in PAPERS.values() for data in paper.data.values()} - {"folder"}
    for name in sorted(readers):
        found[name] = make_miniature(name, LAYOUTS.get(name, "official"), root / name).folder
    plain = root / "folder"
    plain.mkdir()
    for index in range(3):
        Image.new("RGB", (16, 16), (40 * index, 80, 120)).save(plain / f"{index}.png")
    return {**found, "folder": plain}


@pytest.mark.parametrize("table", sorted(RECIPES))
def test_a_dry_run_of_every_table_on_miniatures(table, miniatures, tmp_path):
    recipe = RECIPES[table]
    data = [f"{name}={miniatures[one.reader]}" for name, one in recipe.paper.data.items()]
    (tmp_path / "any.pth").write_bytes(b"weights of a test")
    weights = [f"{name}={tmp_path / 'any.pth'}" for name, one in recipe.paper.weights.items() if not one.sha256]
    work = gsegkit.reproduce(table, data=data, weights=weights, out=tmp_path / "out", dry_run=True).work
    assert not (tmp_path / "out").exists()
    for planned in work.rows:
        row = planned.row
        known = {"quoted": "quoted", "lacking": "lacking"}.get(row.how)
        if row.eval_weights:  # Inception, whose sha256 is known
            assert planned.state == "missing"
            assert "weights-inception" in planned.missing[0]
        else:
            assert planned.state == (known or "ready"), (row.name, planned.missing)


def test_without_masks_of_the_users_a_row_says_so(tmp_path):
    dogs = make_miniature("stanford-dogs", "official", tmp_path / "dogs").folder
    shutil.rmtree(dogs / "masks")
    given = [f"dogs-train={dogs}", f"dogs-128={dogs}"]
    (planned,) = gsegkit.reproduce("layered-4", rows=["ours-dogs"], data=given, dry_run=True).work.rows
    assert planned.state == "missing"
    assert "masks of Stanford Dogs" in planned.missing[0]


def test_without_anything_a_row_says_what_it_needs():
    work = plan_table(RECIPES["directions-3"], RECIPES["directions-3"].table.rows, Given(), installed())
    assert not work.ready
    assert any("BigBiGAN_x1.pth" in text and "--weights bigbigan=FILE" in text for text in work.rows[0].missing)
    assert any("segmentations.tgz" in text and "cub=FOLDER" in text for text in work.rows[0].missing)


# ---- rows that are exact -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["directions-6", "layered-c1"])
def test_exact_tables_match(table, tmp_path):
    done = gsegkit.reproduce(table, out=tmp_path / "out")
    numbers = [number for row in done.result.rows.values() for number in row.numbers]
    assert numbers
    assert {(number.verdict, number.difference) for number in numbers} == {("within", 0)}
    assert json.loads(done.file.read_text())["rows"].keys() == {row.name for row in RECIPES[table].table.rows}


def test_layers_of_networks_of_256_px_match(tmp_path):
    done = gsegkit.reproduce("klish-2", rows=["*-bedroom"], out=tmp_path / "out")
    numbers = [number for row in done.result.rows.values() for number in row.numbers]
    assert len(numbers) == 12
    assert {(number.verdict, number.difference) for number in numbers} == {("within", 0)}


@pytest.mark.slow
def test_layers_of_all_networks_match(tmp_path):
    done = gsegkit.reproduce("klish-2", out=tmp_path / "out")
    assert {number.verdict for row in done.result.rows.values() for number in row.numbers} == {"within"}


def test_published_masks_are_scored_by_their_numbers(tmp_path):
    """Two pairs in the authors' layout: other names, RGBA truth, a grey rim that is background."""
    found, truth = tmp_path / "set" / "Cats" / "Mask_cat_pred", tmp_path / "set" / "Cats" / "Mask_cat_gt"
    found.mkdir(parents=True)
    truth.mkdir()
    for number in (2, 10):
        mask = np.zeros((8, 8), np.uint8)
        mask[:, :4] = 255
        Image.fromarray(mask).save(found / f"{number}.png")
        rim = mask.copy()
        rim[:, 3] = 105
        alpha = np.full_like(rim, 255)
        Image.fromarray(np.dstack([rim, rim, rim, alpha])).save(truth / f"Cat{number}.png")
    done = gsegkit.reproduce(
        "labels4free-3", rows=["ours-cat"], data=[f"custom={tmp_path / 'set'}"], out=tmp_path / "out"
    )
    ours = {number.metric: number.ours for number in done.result.rows["ours-cat"].numbers}
    assert ours["accuracy_dataset"] == pytest.approx(56 / 64)
    assert ours["miou_dataset"] == pytest.approx((24 / 32 + 32 / 40) / 2)


# ---- a run of recipes of one's own ---------------------------------------------------------------------------------

PAPER = """
title = "A paper"
code = "nowhere"
[weights.net]
title = "a network"
file = "net.pth"
source = "a disk"
sha256 = "{sha256}"
licence = "none"
[data.ecssd]
title = "ECSSD"
reader = "ecssd"
images = {images}
folders = ["ECSSD"]
source = "images.zip"
[runs.toy]
differs = ["the toy is no network"]
[runs.toy.plan]
num_samples = 8
gen = "toy"
extractor = "native"
refine = []
seg = {{ name = "unet-paper", options = {{ channels = 4, steps = 2 }} }}
[runs.dcgan]
weights = "net"
[runs.dcgan.plan]
gen = "dcgan"
extractor = "directions"
seg = "unet-paper"
"""
TABLE = """
title = "masks"
eval = { baselines = false }
tolerance = { iou_foreground = 1.0 }
[[row]]
name = "ours"
method = "Ours"
run = "toy"
data = "ecssd"
paper = { iou_foreground = 0.5 }
[[row]]
name = "both"
method = "Ours, twice"
how = "ensemble"
runs = ["toy", "toy"]
data = "ecssd"
paper = { iou_foreground = 0.5 }
[[row]]
name = "net"
method = "Ours with weights"
run = "dcgan"
data = "ecssd"
paper = { iou_foreground = 0.5 }
[[row]]
name = "theirs"
method = "Theirs"
how = "quoted"
paper = { iou_foreground = 0.4 }
"""


def write(folder: Path, *, images: int = 6, sha256: str = "", table: str = TABLE) -> Path:
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "paper.toml").write_text(PAPER.format(images=images, sha256=sha256))
    (folder / "mine" / "table-1.toml").write_text(table)
    return folder


def test_rows_share_a_run_others_go_on_and_the_same_call_resumes(tmp_path):
    wrong = TABLE[TABLE.index("[[row]]") : TABLE.index('[[row]]\nname = "both"')].replace("ours", "wrong")
    table = TABLE.replace("tolerance = {", "tolerance = { nosuch = 1.0,") + wrong.replace("iou_foreground", "nosuch")
    recipes = write(tmp_path / "recipes", images=1000, table=table)
    data = make_miniature("ecssd", "official", tmp_path / "root" / "ECSSD").folder
    given = {"data": [str(data.parent)], "recipes": recipes, "out": tmp_path / "out", "smoke": True}
    done = gsegkit.reproduce("mine-1", **given)
    rows = done.result.rows
    assert {planned.row.name: planned.state for planned in done.work.rows} == {
        "ours": "ready", "both": "ready", "net": "missing", "theirs": "quoted", "wrong": "ready",
    }  # fmt: skip
    assert {name: row.status for name, row in rows.items()} == {"ours": "done", "both": "done", "wrong": "failed"}
    assert "'nosuch' was not measured" in rows["wrong"].message
    (number,) = rows["ours"].numbers
    assert number.verdict == "not comparable"  # a smoke run, and 6 of 1,000 images
    assert number.difference == pytest.approx(number.ours - 0.5)
    assert any("1,000 in the paper" in note for note in rows["ours"].notes)
    assert rows["both"].numbers == rows["ours"].numbers  # the mean of a network and itself
    assert rows["ours"].differs == ("the toy is no network",)
    assert [path.name for path in (tmp_path / "out" / "runs").iterdir()] == ["toy"]
    stored = json.loads(done.file.read_text())
    assert stored["rows"]["ours"]["counts"] == {"ecssd": 6}
    assert stored["environment"]["gsegkit"] == gsegkit.__version__
    before = done.file.stat().st_mtime_ns
    assert gsegkit.reproduce("mine-1", **given, rows=["ours", "both"]).result == done.result
    assert done.file.stat().st_mtime_ns == before


def test_data_of_another_version_are_refused(tmp_path):
    recipes = write(tmp_path / "recipes", images=1000)
    data = make_miniature("ecssd", "official", tmp_path / "ECSSD").folder
    with pytest.raises(ConfigError, match="has 6 images here, and 1,000 in the paper"):
        gsegkit.reproduce("mine-1", data=[f"ecssd={data}"], recipes=recipes, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_weights_than_the_published_ones_are_refused(tmp_path):
    recipes = write(tmp_path / "recipes", sha256="0" * 64)
    (tmp_path / "net.pth").write_bytes(b"something else")
    with pytest.raises(ConfigError, match=r"is not net.pth as it was published: its sha256 is [0-9a-f]{12}\.\.\."):
        gsegkit.reproduce("mine-1", weights=[str(tmp_path / "net.pth")], recipes=recipes, dry_run=True)


def test_a_half_unpacked_archive_is_told(tmp_path):
    data = make_miniature("ecssd", "official", tmp_path / "ECSSD").folder
    sorted((data / "ground_truth_mask").iterdir())[2].unlink()
    recipes = write(tmp_path / "recipes")
    with pytest.raises(DataError, match=r"data 'ecssd': .* lacks the mask of 1 of 6"):
        gsegkit.reproduce("mine-1", data=[f"ecssd={data}"], recipes=recipes, dry_run=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"table": "nosuch"}, "no recipe of a table 'nosuch'"),
        ({"table": "directions-1", "rows": ["nosuch"]}, "has no row 'nosuch'"),
        ({"table": "directions-1", "rows": ["rbd*"]}, "other people's methods"),
        ({"table": "directions-1", "rows": ["ours-cub"]}, "row 'ours-cub' needs"),
        ({"table": "directions-1", "data": ["nosuch"]}, "is not a folder of data"),
        ({"table": "directions-1", "data": ["nosuch=tests"]}, "no recipe here uses 'nosuch'"),
        ({"table": "directions-1", "weights": ["nosuch.pth"]}, "do not exist"),
        ({"table": "directions-1", "weights": [__file__]}, "none of the weights of this table"),
        ({"table": "directions-1", "recipes": "docs"}, "no recipe in 'docs'"),
    ],
)
def test_bad_input_is_one_sentence(words, told, tmp_path):
    with pytest.raises(GsegkitError, match=told):
        gsegkit.reproduce(**words, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_of_something_else_are_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "directions-6.json").write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="is not a result of gsegkit reproduce"):
        gsegkit.reproduce("directions-6", out=tmp_path / "out")
    assert (tmp_path / "out" / "directions-6.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('title = "masks"', 'title = "masks"\nnosuch = 1'), "nosuch: Extra inputs are not permitted"),
        (('run = "toy"', 'run = "nosuch"'), "there is no run 'nosuch'"),
        (('name = "theirs"', 'name = "ours"'), "row 'ours' is there twice"),
        (("tolerance = { iou_foreground = 1.0 }", ""), "'iou_foreground' has no tolerance"),
        (('name = "ours"', 'name = "../ours"'), "String should match pattern"),
        (("tolerance", "tolerance = ["), "cannot be read"),
    ],
)
def test_a_recipe_that_is_wrong_is_told(change, told, tmp_path):
    recipes = write(tmp_path / "recipes", table=TABLE.replace(*change, 1))
    with pytest.raises(ArtifactError, match=told.replace("[", r"\[")):
        find_recipe("mine-1", recipes)


def test_verdicts():
    (row,) = [one for one in RECIPES["directions-1"].table.rows if one.name == "ours-ecssd"]
    tolerances = {"accuracy": 0.01, "iou_foreground": 0.03, "f_beta": 0.03}
    ours = {"accuracy": 0.925, "iou_foreground": 0.6829, "f_beta": 0.9}
    assert [number.verdict for number in judge(row, tolerances, ours, "")] == ["within", "below", "above"]
    assert {number.verdict for number in judge(row, tolerances, ours, "smoke")} == {"not comparable"}
    assert judge(row, tolerances, {**ours, "f_beta": None}, "")[2].verdict == "not comparable"
    assert all(row.runs_here for recipe in RECIPES.values() for row in recipe.table.rows if row.how in EXACT)


def test_the_wheel_and_the_source_archive_carry_the_recipes():
    build = tomllib.loads((CHECKOUT.parents[2] / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"] == {"benchmarks/recipes/papers": "gsegkit/reproducing/papers"}
    assert "benchmarks/recipes/papers" in build["sdist"]["include"]
