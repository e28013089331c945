"""One notion of the same work: what is continued, what is refused by name, what --update makes again; nothing is lost."""

import json
import os
import shutil
import threading

import pytest
import torch

from gsegkit import api
from gsegkit.engine.claim import check_own
from gsegkit.engine.identity import contents_identity
from gsegkit.errors import ArtifactError, ConfigError, DataError
from gsegkit.images import write_png
from gsegkit.plugins import installed
from gsegkit.testing import Listener

SMALL = {"steps": 2, "batch_size": 2, "encoder": "tu-test_resnet", "val_fraction": 0}
RUN = {"num_samples": 8, "options": ["gen.size=32", "seg.steps=2", "seg.batch_size=2", "seg.encoder=tu-test_resnet"]}


def pair(folder, name, seed):
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    write_png(folder / "images" / f"{name}.png", pixels)
    write_png(folder / "masks" / f"{name}.png", (pixels[0] > 127).to(torch.uint8))


def pairs(folder, seed, count=4):
    for i in range(count):
        pair(folder, f"p{i}", seed * 100 + i)
    return folder


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def weights(folder):
    return (folder / "state.safetensors").read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    api.run("toy", "native", "unet", out=folder / "R", **RUN)
    return folder / "R"


def test_train_continues_the_same_work_only(tmp_path):
    data, out = pairs(tmp_path / "a", 1), tmp_path / "out"
    api.train(data, "unet", out, options=SMALL)
    first, before = weights(out), tree(out)
    api.train(data, "unet", out, options=SMALL)
    assert weights(out) == first
    other = pairs(tmp_path / "b", 2)
    for words, call in (
        ("'images/p0.png' has changed", {"data": other}),
        ("options.lr: 0.002 -> 0.001", {"options": {**SMALL, "lr": 1e-3}}),
        ("seed: 0 -> 3", {"seed": 3}),
        ("name: unet -> fpn", {"seg": "fpn"}),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            api.train(**{"data": data, "seg": "unet", "out": out, "options": SMALL, **call})
        assert "--update" in caught.value.hint
        assert tree(out).items() >= {k: v for k, v in before.items() if k.name != "hashes.json"}.items()
    api.train(other, "unet", out, options=SMALL, update=True)
    api.train(other, "unet", tmp_path / "fresh", options=SMALL)
    assert weights(out) == weights(tmp_path / "fresh") != first


def test_train_generator_continues_the_same_work_only(tmp_path):
    pytest.importorskip("gsegkit_dcgan")
    images, out = pairs(tmp_path / "a", 1, 8) / "images", tmp_path / "out"
    options = {"arch": "dcgan", "size": 32, "width": 4, "steps": 2, "batch_size": 4}
    options = {name: value for name, value in options.items() if name in _options("generator", "dcgan")}
    api.train_generator("dcgan", images, out, options=options)
    first = weights(out)
    api.train_generator("dcgan", images, out, options=options)
    assert weights(out) == first
    with pytest.raises(ConfigError, match=r"p0\.png' has changed"):
        api.train_generator("dcgan", pairs(tmp_path / "b", 2, 8) / "images", out, options=options)
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        api.train_generator("dcgan", images, out, options=options, seed=1)
    with pytest.raises(DataError, match="photographs"):
        api.train_generator("dcgan", images, images / "out", options=options)
    assert weights(out) == first
    api.train_generator("dcgan", images, out, options=options, seed=1, update=True)
    assert weights(out) != first


def test_a_training_whose_time_is_over_leaves_weights_and_goes_on_with_more(tmp_path):
    pytest.importorskip("gsegkit_dcgan")
    images, out = pairs(tmp_path / "a", 1, 8) / "images", tmp_path / "out"
    options = {"resolution": 8, "channels": 4, "steps": 40, "batch_size": 4}
    api.train_generator("dcgan", images, out, options=options, hours=1e-9)
    first = weights(out)
    api.train_generator("dcgan", images, out, options=options, hours=1e-9)
    assert weights(out) == first
    api.train_generator("dcgan", images, out, options=options, hours=1)
    api.train_generator("dcgan", images, tmp_path / "whole", options=options)
    assert weights(out) == weights(tmp_path / "whole") != first
    for hours in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="is not a time"):
            api.train_generator("dcgan", images, tmp_path / "none", options=options, hours=hours)
    assert not (tmp_path / "none").exists()


def _options(kind, name):
    return installed().find(kind, name).config_class().model_fields


@pytest.mark.parametrize("change", ["bytes", "mask", "classes", "new", "gone"])
def test_a_changed_file_is_named(tmp_path, change):
    data, out = pairs(tmp_path / "a", 1), tmp_path / "out"
    api.train(data, "unet", out, options=SMALL)
    image = data / "images" / "p1.png"
    stat = image.stat()
    name = "p1.png"
    if change == "bytes":
        image.write_bytes(image.read_bytes()[:-1] + b"\0")  # the same size and, below, the same time
        os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "mask":
        write_png(data / "masks" / name, torch.zeros(32, 32, dtype=torch.uint8))
    elif change == "classes":
        (data / (name := "classes.txt")).write_text("background\nbright\n")
    elif change == "new":
        pair(data, "p9", 9)
        name = "p9.png"
    else:
        image.unlink()
        (data / "masks" / name).unlink()
    with pytest.raises(ConfigError, match=name):
        api.train(data, "unet", out, options=SMALL)


def test_a_part_without_a_record_is_not_continued(tmp_path):
    data, out = pairs(tmp_path / "a", 1), tmp_path / "out"
    api.train(data, "unet", out, options=SMALL)
    (out / "work.json").unlink()
    with pytest.raises(ConfigError, match="does not say what it was trained on"):
        api.train(data, "unet", out, options=SMALL)
    api.train(data, "unet", out, options=SMALL, update=True)
    for name in ("work.json", "component.json"):  # an unfinished one is continued, with a warning
        (out / name).unlink()
    listener = Listener()
    api.train(data, "unet", out, options=SMALL, session=api.Session(installed(), listener, threading.Event()))
    assert any("earlier version" in text for text in listener.warnings)


def test_hashes_are_kept_and_renewed(tmp_path, monkeypatch):
    data = pairs(tmp_path / "a", 1)
    files = sorted((data / "images").iterdir())
    first = contents_identity(files, tmp_path)
    read = []
    monkeypatch.setattr("gsegkit.engine.identity.file_hash", lambda path: read.append(path) or "0" * 64)
    assert contents_identity(files, tmp_path) == first
    assert not read
    os.replace(files[1], tmp_path / "x")
    shutil.copy2(tmp_path / "x", files[1])  # same bytes, size and time: read again all the same
    contents_identity(files, tmp_path)
    assert read == [files[1]]
    (tmp_path / "hashes.json").write_text("[1")
    contents_identity(files, tmp_path)
    assert len(read) == 1 + len(files)


def test_the_output_is_never_the_data(tmp_path, made):
    data = pairs(tmp_path / "a", 1)
    run = shutil.copytree(made, tmp_path / "R")
    before = tree(tmp_path)
    for source, out in ((run, run), (data, data), (data, data / "images" / "x"), (data, tmp_path), (run, run / "x")):
        with pytest.raises(DataError, match=r"the data|not empty"):
            api.train(source, "unet", out, options=SMALL)
    with pytest.raises(DataError, match="belongs to the run"):
        api.train(data, "unet", run / "segmenter", options=SMALL)
    with pytest.raises(DataError, match="belongs to the run"):
        api.export(run, run / "dataset" / "png", "png")
    with pytest.raises(DataError, match="photographs"):
        api.run("toy", "native", "unet", images=data, out=data / "run", **RUN)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("verb", ["run", "train", "synthesize"])
@pytest.mark.parametrize("content", [".lock", "thesis.docx", "sub/.thesis.docx.tmp", "config.json", ".pairs.tmp/x"])
def test_a_folder_of_the_users_is_left_alone(tmp_path, made, verb, content):
    mine = tmp_path / "mine" / content
    mine.parent.mkdir(parents=True)
    mine.write_text('{"model_type": "vit"}')
    (tmp_path / "mine" / "more.txt").write_text("x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    data = pairs(tmp_path / "a", 1)
    with pytest.raises((DataError, ArtifactError)):
        if verb == "run":
            api.run("toy", "native", "unet", out=tmp_path / "mine", update=True, **RUN)
        elif verb == "train":
            api.train(data, "unet", tmp_path / "mine", options=SMALL, update=True)
        else:
            api.synthesize(made, tmp_path / "mine", 8, update=True)
    shutil.rmtree(data)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_killed_export_left_stops_no_run(tmp_path, made):
    run = shutil.copytree(made, tmp_path / "R")
    (run / ".pairs.tmp" / "images").mkdir(parents=True)
    (run / ".12-0123abcd.tmp" / "content").mkdir(parents=True)
    api.run("toy", "native", "unet", out=run, **RUN)
    assert (run / ".pairs.tmp" / "images").is_dir()


def test_synthesize_knows_generator_and_options(tmp_path, made):
    out = tmp_path / "pairs"
    assert len(api.synthesize(made, out, 8)) == 8
    recipe = json.loads((out / "recipe.json").read_text())
    with pytest.raises(ConfigError, match="num_samples: 8 -> 12"):
        api.synthesize(made, out, 12)
    assert len(api.synthesize(made, out, 12, update=True)) == 12
    (out / "recipe.json").write_text(json.dumps({**recipe, "generator": "another"}))
    with pytest.raises(ConfigError, match="generator: another"):
        api.synthesize(made, out, 8)
    del recipe["generator"]  # of an earlier version
    shutil.rmtree(out)
    out.mkdir()
    (out / "recipe.json").write_text(json.dumps(recipe))
    assert len(api.synthesize(made, out, 8)) == 8


def test_a_run_knows_the_contents_of_its_images(tmp_path):
    """Photographs of the same names and sizes, but other contents, are another run's."""
    images = tmp_path / "images"
    for i in range(4):
        write_png(images / f"{i}.png", torch.full((3, 32, 32), i * 10, dtype=torch.uint8))
    plan = {"images": images, "out": tmp_path / "R", "num_samples": 8, "options": RUN["options"]}
    api.run("toy", "native", "unet", **plan)
    first = json.loads((tmp_path / "R" / "extractor" / "stage.json").read_text())["key"]
    api.run("toy", "native", "unet", **plan)
    assert json.loads((tmp_path / "R" / "extractor" / "stage.json").read_text())["key"] == first
    size = (images / "2.png").stat().st_size
    write_png(images / "2.png", torch.full((3, 32, 32), 99, dtype=torch.uint8))
    assert (images / "2.png").stat().st_size == size
    with pytest.raises(ConfigError, match=r"'2\.png' has changed"):
        api.run("toy", "native", "unet", **plan)
    api.run("toy", "native", "unet", update=True, **plan)
    second = json.loads((tmp_path / "R" / "extractor" / "stage.json").read_text())["key"]
    assert second != first
    api.run("toy", "native", "unet", **plan)
    assert json.loads((tmp_path / "R" / "extractor" / "stage.json").read_text())["key"] == second


def test_a_run_of_an_earlier_version_keeps_its_keys(tmp_path):
    from gsegkit.engine.claim import claim_images
    from gsegkit.rundir import RunFolder

    run = RunFolder(tmp_path)
    run.begin_stage(tmp_path / "generator", "key")
    assert claim_images(run, {"a": "1"}, update=False) == ""
    assert claim_images(run, {"a": "1"}, update=False) == ""
    with pytest.raises(ConfigError, match="'a' has changed"):
        claim_images(run, {"a": "2"}, update=False)
    changed = claim_images(run, {"a": "2"}, update=True)
    assert changed == claim_images(run, {"a": "2"}, update=False) != ""


def test_only_own_folders_pass(tmp_path):
    check_own(tmp_path / "new", ("work.json",), "a trained part")
    (tmp_path / ".lock").touch()
    (tmp_path / ".12-0123abcd.tmp").touch()
    check_own(tmp_path, ("work.json",), "a trained part")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="not empty and not a trained part"):
        check_own(tmp_path, ("work.json",), "a trained part")
    with pytest.raises(DataError, match="is a file"):
        check_own(tmp_path / "file", ("work.json",), "a trained part")
