"""A scaling goes with what was trained: from photographs to generator, pairs, segmenter, new photographs and exports."""

import json
import threading
from types import SimpleNamespace

import gsegkit_datasets
import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit import api
from gsegkit.api.session import Session
from gsegkit.colours import display_palette
from gsegkit.engine import pipeline, sources
from gsegkit.engine.shards import Manifest
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.images import read_image
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed
from gsegkit.progress import Progress

SMALL = {"steps": 2}


@pytest.fixture
def session(registry):
    registry.add(gsegkit_datasets, "gsegkit-datasets")
    return Session(registry, Progress(), threading.Event())


def photographs(folder, count=3, masks=False):
    for seed in range(count):
        pixels = np.random.RandomState(seed).uniform(0, 3000, (32, 32)).astype(np.uint16)
        for name, array in (("images", pixels), *([("masks", (pixels > 1500).astype(np.uint8))] if masks else [])):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"p{seed}.png")
    return folder


def test_a_segmenter_of_16_bit_images_knows_their_scaling(tmp_path, session):
    data = photographs(tmp_path / "data", masks=True)

    def train(out, **reader):
        return api.train(data, "tiny", tmp_path / out, options=SMALL, reader_options=reader, session=session)

    assert train("out", scaling="range:0:4095").scaling == "range:0:4095"
    assert json.loads((tmp_path / "out" / COMPONENT_FILE).read_text())["facts"]["scaling"] == "range:0:4095"
    assert api.load(tmp_path / "out", session=session).scaling == "range:0:4095"
    before = (tmp_path / "out" / "state.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="scaling"):  # another scaling is another work
        train("out", scaling="full")
    assert (tmp_path / "out" / "state.safetensors").read_bytes() == before
    train("default")
    assert api.load(tmp_path / "default", session=session).scaling == "percentile"


def test_a_run_hands_its_scaling_on(tmp_path, plan, session, monkeypatch):
    data = photographs(tmp_path / "data", masks=True)
    reader = plan.data_reader.model_copy(update={"options": {"scaling": "full"}})
    run = tmp_path / "R"
    pipeline.run(plan.model_copy(update={"data": data, "data_reader": reader}), run, registry=session.registry)
    found = [api.load(run, kind, session=session).scaling for kind in ("extractor", "segmenter")]
    assert found == ["full", "full"]
    assert Manifest.read(run / "dataset" / "dataset.json").scaling == "full"
    api.synthesize(run, tmp_path / "more", 8, session=session)
    assert Manifest.read(tmp_path / "more" / "dataset.json").scaling == "full"
    api.train(tmp_path / "more", "tiny", tmp_path / "second", options=SMALL, session=session)
    assert api.load(tmp_path / "second", session=session).scaling == "full"
    opened = []
    real = sources.open_labelled
    monkeypatch.setattr(sources, "open_labelled", lambda *given: opened.append(real(*given)) or opened[-1])
    api.evaluate(run, data, evaluator="count", session=session)
    assert opened[0].scaling == "full"
    assert torch.equal(opened[0][0].pixels, read_image(data / "images" / "p0.png", "full"))


def test_weights_of_a_generator_bring_their_scaling(tmp_path):
    from gsegkit.engine.choices import choose
    from gsegkit.engine.plan import Plan
    from gsegkit.engine.sources import open_images, run_scaling

    images = photographs(tmp_path / "data") / "images"
    generator = installed().build("generator", "toy", {"size": 32})
    generator.scaling = "range:0:9000"
    save_part(generator, tmp_path / "gen", "generator", "toy")
    again = installed().build("generator", "toy", {"size": 32})
    load_part(again, tmp_path / "gen")
    assert again.scaling == "range:0:9000"

    def opened(*options):
        plan = Plan.from_options({"gen": "toy", "extractor": "native", "seg": "unet"}, options, images=images)
        choices = choose(plan, installed())
        return run_scaling(choices, again), open_images(choices, again)

    scaling, found = opened()
    assert scaling == found.scaling == "range:0:9000"
    assert torch.equal(found[0], read_image(images / "p0.png", "range:0:9000"))
    scaling, found = opened("data_reader.scaling=full")  # who asks for another one gets it
    assert scaling == found.scaling == "full"


def test_a_stored_scaling_is_checked(tmp_path):
    generator = installed().build("generator", "toy", {"size": 32})
    save_part(generator, tmp_path, "generator", "toy")
    path = tmp_path / COMPONENT_FILE
    record = json.loads(path.read_text())
    for bad in ("nonsense", 7, None, ["full"], "range:0:" + "9" * 10**5):
        path.write_text(json.dumps({**record, "facts": {**record["facts"], "scaling": bad}}))
        with pytest.raises(ArtifactError):
            load_part(generator, tmp_path)


def test_an_export_says_what_to_apply_before():
    from gsegkit.exports.networks import facts_of

    trained = SimpleNamespace(classes=("a", "b"), train_size=(8, 9), fit_rule="squash", scaling="full")
    facts = facts_of(trained, display_palette())
    assert facts["scaling"] == "full"
    assert "becomes 0 .. 255" in facts["scaling_note"]
