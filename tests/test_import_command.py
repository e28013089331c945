"""`gsegkit import` as a user meets it: what it prints, what it writes, and how it refuses."""

import json

import pytest
import safetensors.torch
import torch

pytest.importorskip("gsegkit_dcgan")

NAMES = ("card.json", "component.json", "state.safetensors")


def dcgan(colours=3):
    """A small state dict of PyTorch's DCGAN tutorial."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    state = {"main.0.weight": normal(6, 8, 4, 4), "main.3.weight": normal(8, 4, 4, 4)}
    for layer, width in ((1, 8), (4, 4)):
        state |= {f"main.{layer}.{name}": normal(width) for name in ("weight", "bias", "running_mean")}
        state |= {f"main.{layer}.running_var": torch.rand(width, generator=generator) + 0.5}
        state |= {f"main.{layer}.num_batches_tracked": torch.tensor(7)}
    return state | {"main.6.weight": normal(4, colours, 4, 4)}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.tar"
    torch.save({"netG_state_dict": dcgan(), "epoch": 3}, path)
    return path


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_checkpoint_becomes_a_folder_beside_it(call, weights):
    code, out, err = call("import", weights)
    folder = weights.with_suffix("")
    assert code == 0
    assert f"imported to {folder}" in err
    assert f"next: gsegkit check --gen dcgan -o gen.weights={folder} --extractor klish --seg unet" in err
    assert out == ""
    assert sorted(written(folder)) == list(NAMES)


def test_json_is_the_card_and_where_it_lies(call, weights, tmp_path):
    code, out, _ = call("import", weights, "--out", tmp_path / "mine", "--json")
    assert code == 0
    told = json.loads(out)
    assert told.pop("folder") == str(tmp_path / "mine")
    assert told == json.loads((tmp_path / "mine" / "card.json").read_text())
    assert told["generator"] == "dcgan"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_look_says_what_it_is_and_writes_nothing(call, weights, tmp_path, options):
    code, out, _ = call("import", weights, "--look", *options)
    assert code == 0
    assert json.loads(out)["generator"] == "dcgan" if options else out.startswith("dcgan: ")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.tar"]


def test_a_reader_can_be_named(call, weights, tmp_path):
    reader = json.loads(call("list", "--json")[1])["components"]
    (name,) = [r["name"] for r in reader if r["kind"] == "checkpoint-reader" and r["dist"] == "gsegkit-dcgan"]
    assert call("import", weights, "--reader", name, "--out", tmp_path / "a")[0] == 0
    assert call("import", weights, "--out", tmp_path / "b")[0] == 0
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_the_same_file_again_changes_nothing(call, weights, tmp_path):
    assert call("import", weights, "--out", tmp_path / "out")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert call("import", weights, "--out", tmp_path / "out")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def refused(done, *words):
    """One sentence, a remedy, exit code 2, nothing on standard output, no traceback."""
    code, out, err = done
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    text = " ".join(err.split())
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn", b"\x80\x04."])
def test_a_bad_file_is_refused(call, tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    refused(call("import", tmp_path / "bad.pt"), "bad.pt", "try:")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_a_file_that_is_not_there_is_refused(call, tmp_path):
    refused(call("import", tmp_path / "absent.pt"), "absent.pt")
    assert not list(tmp_path.iterdir())


def test_an_unknown_reader_is_refused(call, weights, tmp_path):
    refused(call("import", weights, "--reader", "nonsense"), "nonsense", "try:")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.tar"]


def test_what_is_there_already_is_not_replaced(call, weights, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    refused(call("import", weights, "--out", tmp_path / "full"), "exists and is not an import", "--out")
    assert written(tmp_path / "full") == {"thesis.txt": b"mine"}

    other = tmp_path / "other.pt"
    torch.save(dcgan(colours=1), other)
    assert call("import", weights, "--out", tmp_path / "out")[0] == 0
    before = written(tmp_path / "out")
    refused(call("import", other, "--out", tmp_path / "out"), "holds the import of a different file", "--out")
    assert written(tmp_path / "out") == before


def test_what_gsegkit_wrote_needs_no_import(call, weights, tmp_path):
    assert call("import", weights, "--out", tmp_path / "out")[0] == 0
    refused(call("import", tmp_path / "out"), "was written by gsegkit", f"gen.weights={tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("arguments", "word"), [((), "Missing argument"), (("a.pt", "b.pt"), "b.pt"), (("a.pt", "--no"), "--no")]
)
def test_wrong_usage_is_told(call, arguments, word):
    code, out, err = call("import", *arguments)
    assert code == 2
    assert word in out + err


def test_help_names_every_flag(call):
    code, out, err = call("import", "--help")
    assert code == 0
    for flag in ("FILE", "--out", "--look", "--reader", "--json"):
        assert flag in out + err


def test_an_interrupted_import_is_finished_and_a_part_of_the_users_is_not_replaced(call, weights, tmp_path):
    out = tmp_path / "a"
    assert call("import", weights, "--out", out)[0] == 0
    whole = written(out)
    (out / "card.json").unlink()  # killed before its last step
    assert call("import", weights, "--out", out)[0] == 0
    assert written(out) == whole
    state = torch.nn.Linear(2, 2).state_dict()
    for name, content in (
        ("state.safetensors", safetensors.torch.save(state)),
        ("component.json", b"{}"),
        ("thesis.tmp", b"mine"),
    ):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        code, _, err = call("import", weights, "--out", folder)
        assert code == 2
        assert "is not an imported checkpoint" in " ".join(err.split())
        assert written(folder) == {name: content}
