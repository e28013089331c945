"""A published data set through the commands: chosen by `-o data_reader.name=NAME`."""

import json

import pytest

import gsegkit
from gsegkit.engine.plan import Plan
from gsegkit.errors import ConfigError

for needed in ("gsegkit_baselines", "gsegkit_datasets", "gsegkit_eval"):
    pytest.importorskip(needed)


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    from gsegkit_datasets.testing import make_miniature

    return make_miniature("cub", "official", tmp_path_factory.mktemp("birds") / "cub")


def test_a_plan_takes_the_reader_from_the_options():
    toy = {"gen": "toy", "extractor": "native", "seg": "unet"}
    plan = Plan.from_options(toy, ["data_reader.name=cub", "data_reader.split=redo-test"], data="x")
    assert plan.data_reader.model_dump() == {"name": "cub", "options": {"split": "redo-test"}}
    base = {**toy, "data_reader": {"name": "folder", "options": {"values": "index"}}}
    assert Plan.from_options(base, ["data_reader.name=voc"]).data_reader.options == {}  # those were another reader's
    assert Plan.from_options(base, ["data_reader.images=x"]).data_reader.options == {"values": "index", "images": "x"}
    with pytest.raises(ConfigError, match="name"):
        Plan.from_options(toy, ["data_reader.name=3"])


def test_commands_read_a_published_set_by_its_name(birds, tmp_path, call):
    fitted = tmp_path / "otsu"
    code, _, err = call("fit", "otsu", "--data", birds.folder, "--out", fitted, "-o", "data_reader.name=cub")
    assert code == 0, err
    words = ["evaluate", fitted, "--no-refine", "--data", birds.folder, "-o", "data_reader.name=cub", "--json"]
    code, out, err = call(*words, "-o", "data_reader.split=redo-test", "-o", "data_reader.crop=centre-square")
    assert code == 0, err
    assert json.loads(out)["num_images"] == len(birds.splits["redo-test"])
    assert "CUB-200-2011, layout official, split redo-test: 4 images" in " ".join(err.split())


def test_what_a_reader_does_not_have_is_said_before_anything_is_read(birds, tmp_path, call):
    given = ["fit", "otsu", "--data", birds.folder, "--out", tmp_path / "o"]
    for options, said in (
        (["name=cups"], "no dataset 'cups'"), (["name=cub", "masks=x"], "no such option"), (["split=x"], "no such option"),
        (["name=cub", "split=test"], "redo-test"), (["name=3"], "not a reader's name"),
    ):  # fmt: skip
        code, _, err = call(*given, *(word for option in options for word in ("-o", f"data_reader.{option}")))
        assert code == 2
        assert said in " ".join(err.split())
    assert not (tmp_path / "o").exists()


def test_show_says_how_a_reader_and_its_options_are_given(call):
    assert "-o data_reader.name=cub -o data_reader.layout=VALUE" in " ".join(call("show", "dataset", "cub")[2].split())


def test_what_was_learned_from_one_split_is_not_taken_for_another(birds, tmp_path):
    def fit(split):
        return gsegkit.fit("otsu", birds.folder, tmp_path / "f", reader_options={"name": "cub", "split": split})

    fit("official-train")
    fit("official-train")
    with pytest.raises(gsegkit.GsegkitError, match="split"):
        fit("official-test")
