"""A scaling goes with what was trained: from photographs to generator, pairs, segmenter, new photographs and exports."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import gsegkit
from gsegkit import api
from gsegkit.engine.shards import Manifest
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.images import read_image
from gsegkit.parts import COMPONENT_FILE, load_part, save_part
from gsegkit.plugins import installed

SMALL = {"steps": 2, "batch_size": 2, "encoder": "tu-test_resnet", "val_fraction": 0}
RUN = ["gen.size=32", "seg.steps=2", "seg.batch_size=2", "seg.encoder=tu-test_resnet"]


def photographs(folder, count=3, masks=False):
    for seed in range(count):
        pixels = np.random.RandomState(seed).uniform(0, 3000, (32, 32)).astype(np.uint16)
        for name, array in (("images", pixels), *([("masks", (pixels > 1500).astype(np.uint8))] if masks else [])):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"p{seed}.png")
    return folder


def test_a_segmenter_of_16_bit_images_knows_their_scaling(tmp_path):
    data = photographs(tmp_path / "data", masks=True)
    trained = api.train(data, "unet", tmp_path / "out", options=SMALL, reader_options={"scaling": "range:0:4095"})
    assert trained.scaling == "range:0:4095"
    assert json.loads((tmp_path / "out" / COMPONENT_FILE).read_text())["facts"]["scaling"] == "range:0:4095"
    assert gsegkit.load(tmp_path / "out").scaling == "range:0:4095"
    before = (tmp_path / "out" / "state.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="scaling"):  # another scaling is another work
        api.train(data, "unet", tmp_path / "out", options=SMALL, reader_options={"scaling": "full"})
    assert (tmp_path / "out" / "state.safetensors").read_bytes() == before
    api.train(data, "unet", tmp_path / "default", options=SMALL)
    assert gsegkit.load(tmp_path / "default").scaling == "percentile"


def test_a_run_hands_its_scaling_on(tmp_path, monkeypatch):
    data = photographs(tmp_path / "data", masks=True)
    options = [*RUN, "data_reader.scaling=full"]
    api.run("toy", "native", "unet", out=tmp_path / "R", num_samples=8, data=data, options=options)
    assert [gsegkit.load(tmp_path / "R", kind).scaling for kind in ("extractor", "segmenter")] == ["full", "full"]
    assert Manifest.read(tmp_path / "R" / "dataset" / "dataset.json").scaling == "full"
    api.synthesize(tmp_path / "R", tmp_path / "more", 8)
    assert Manifest.read(tmp_path / "more" / "dataset.json").scaling == "full"
    api.train(tmp_path / "more", "unet", tmp_path / "second", options=SMALL)
    assert gsegkit.load(tmp_path / "second").scaling == "full"
    seen = []
    from gsegkit.engine import sources

    monkeypatch.setattr(
        sources, "open_labelled", lambda *given: seen.append(given) or (_ for _ in ()).throw(ConfigError("x", "y"))
    )
    with pytest.raises(ConfigError):
        api.evaluate(tmp_path / "R", data)
    assert seen[0][-1] == "full"


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


def test_an_export_says_what_to_apply_before(tmp_path):
    from gsegkit.exports.networks import export_model

    data = photographs(tmp_path / "data", masks=True)
    trained = api.train(data, "unet", tmp_path / "out", options=SMALL, reader_options={"scaling": "full"})
    made = export_model(trained, tmp_path / "s.pt2", "torch")
    card = json.loads((tmp_path / "s.pt2.json").read_text())
    assert card["scaling"] == "full"
    assert "becomes 0 .. 255" in card["scaling_note"]
    assert made.path.exists()
