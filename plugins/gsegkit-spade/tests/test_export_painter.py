"""Exported painters paint what the painter paints."""

import json

import pytest
import torch

import gsegkit
from gsegkit.config import Config
from gsegkit.errors import CapabilityError, ConfigError, ContractError
from gsegkit.exports import painters
from gsegkit.exports.painters import export_painter
from gsegkit.painting import Painter
from gsegkit.parts import save_part
from gsegkit.plugins import installed
from gsegkit.seeds import isolated_rng


class Unnetworked(Painter):
    """Paints by a search, say."""

    def __init__(self):
        super().__init__(Config())
        self.classes, self.train_size, self.latent_dim = ("a", "b"), (8, 8), 2

    def fit(self, dataset, ctx, *, segmenter=None):
        raise AssertionError("not used")

    def paint(self, masks, z):
        raise AssertionError("not used")


def untrained(seed=0, name="class-adaptive"):
    """Weights of a seed, on a canvas that no power of two divides."""
    painter = installed().build("painter", name, {"latent_dim": 5, "width": 4, "width_max": 8})
    painter.classes, painter.train_size = ("ground", "cell", "nucleus"), (20, 28)
    with isolated_rng(seed):
        painter.network = painter.build(spectral=False)
    return painter.eval()


def canvas(count, painter):
    masks = torch.randint(0, 3, (count, *painter.train_size), dtype=torch.uint8)
    masks[:, :3] = 255
    return masks, painter.latents(torch.arange(count))


def test_onnxruntime_paints_the_same(tmp_path):
    import onnx
    import onnxruntime

    painter = untrained()
    made = export_painter(painter, tmp_path)
    assert made.path == tmp_path / "painter.onnx"
    assert made.dynamic == ("batch",)
    assert made.max_abs_diff < 1e-3
    session = onnxruntime.InferenceSession(made.path)
    masks, z = canvas(4, painter)
    (picture,) = session.run(["picture"], {"label": masks.numpy(), "z": z.numpy()})
    assert torch.allclose(torch.from_numpy(picture), painter.paint(masks, z), atol=1e-3)
    masks[masks == 255] = 3  # any number of no class is unknown
    (again,) = session.run(["picture"], {"label": masks.numpy(), "z": z.numpy()})
    assert (again == picture).all()
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(made.path).metadata_props}
    assert facts["classes"] == ["ground", "cell", "nucleus"]
    assert facts["size"] == [20, 28]
    card = json.loads((tmp_path / "painter.onnx.json").read_text())
    assert card["palette"] == facts["palette"]
    assert [row["shape"] for row in card["parity"]] == [[1, 20, 28], [2, 20, 28], [3, 20, 28]]


def test_the_verb_exports_a_painters_folder(tmp_path):
    painter = untrained()
    save_part(painter, tmp_path / "painter", "painter", "class-adaptive")
    made = gsegkit.export(tmp_path / "painter", tmp_path / "a.pt2", "torch")
    loaded = torch.export.load(made.path).module(check_guards=False)
    masks, z = canvas(3, painter)
    assert torch.allclose(loaded(masks, z), painter.paint(masks, z), atol=1e-5)
    with pytest.raises(ConfigError, match="its own class names"):
        gsegkit.export(tmp_path / "painter", tmp_path / "b.pt2", "torch", classes="blood-cells")


@pytest.mark.parametrize("name", ["spade", "oasis"])
def test_every_painter_with_a_network_is_exported(name, tmp_path):
    made = export_painter(untrained(name=name), tmp_path)
    assert made.dynamic == ("batch",)
    assert made.max_abs_diff < 1e-3


def test_another_painter_is_not_replaced(tmp_path):
    export_painter(untrained(), tmp_path, "torch")
    export_painter(untrained(), tmp_path, "torch")
    with pytest.raises(ConfigError, match="the export of another network"):
        export_painter(untrained(1), tmp_path, "torch")
    export_painter(untrained(1), tmp_path, "torch", update=True)
    (tmp_path / "mine.pt2").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="no export made it"):
        export_painter(untrained(), tmp_path / "mine.pt2", "torch", update=True)


def test_a_painter_without_a_network_says_so(tmp_path):
    with pytest.raises(CapabilityError, match="does not paint by one network"):
        export_painter(Unnetworked(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_paints_something_else_is_refused(tmp_path, monkeypatch):
    real = painters.store

    def inverted(*given):
        runner = real(*given)
        return lambda label, z: (-runner(label, z)[0],)

    monkeypatch.setattr(painters, "store", inverted)
    with pytest.raises(ContractError, match="its pictures differ by"):
        export_painter(untrained(), tmp_path, "torch")
    assert list(tmp_path.iterdir()) == []
