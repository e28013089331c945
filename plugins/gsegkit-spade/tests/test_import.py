"""Files of SPADE and OASIS: what they paint equals a plain reading of the same equations; what does not fit is refused."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from gsegkit_spade.readers.sample import LABELS, filled, tensors, write_oasis, write_spade

import gsegkit
from gsegkit.api import look_at_checkpoint
from gsegkit.cli.main import main
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.painting.examples import stored_examples
from gsegkit.painting.page.render import page_data
from gsegkit.types import IGNORE
from gsegkit.weights import find_weights

SPADE = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")


def plain(state, seen, z, blocks, free, doubled, coarsest, start):
    """The published equations in the simplest words. `seen` [N, C, H, W] is what every level is told."""

    def conv(name, x, kernel=3):
        weight = state.get(f"{name}.weight")
        if weight is None:
            original = state[f"{name}.weight_orig"]
            u, v = state[f"{name}.weight_u"], state[f"{name}.weight_v"]
            weight = original / (u @ original.reshape(len(u), -1) @ v)
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=kernel // 2)

    def modulated(name, x):
        told = F.interpolate(seen, size=x.shape[2:], mode="nearest")
        told = conv(f"{name}.mlp_shared.0", told).relu()
        if f"{name}.{free}.running_mean" in state:
            mean, variance = (state[f"{name}.{free}.{leaf}"][:, None, None] for leaf in ("running_mean", "running_var"))
        else:
            mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
        x = (x - mean) / (variance + 1e-5).sqrt()
        return x * (1 + conv(f"{name}.mlp_gamma", told)) + conv(f"{name}.mlp_beta", told)

    def lrelu(x):
        return torch.where(x > 0, x, 0.2 * x)

    if start == "latent":
        x = (z @ state["fc.weight"].T + state["fc.bias"]).reshape(len(z), -1, *coarsest)
    else:
        x = conv("fc", F.interpolate(seen, size=coarsest, mode="nearest"))
    for name, twice in zip(blocks, doubled, strict=True):
        if twice:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        inside = conv(f"{name}.conv_0", lrelu(modulated(f"{name}.norm_0", x)))
        inside = conv(f"{name}.conv_1", lrelu(modulated(f"{name}.norm_1", inside)))
        if f"{name}.norm_s.mlp_gamma.weight" in state:
            x = conv(f"{name}.conv_s", modulated(f"{name}.norm_s", x), 1)
        x = x + inside
    return conv("conv_img", lrelu(x)).tanh()


def one_hot(masks, count):
    return torch.stack([masks == value for value in range(count)], dim=1).float()


def masks(size, classes):
    """Blocks of all classes, and some unknown pixels."""
    rows, columns = torch.arange(size[0]) // 5, torch.arange(size[1]) // 7
    found = ((rows[:, None] + 2 * columns) % classes).to(torch.uint8)
    found[:3, :4] = IGNORE
    return found[None]


@pytest.fixture
def net_g(tmp_path):
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / "latest_net_G.pth"
    write_spade(path)
    return path


@pytest.fixture
def ema(tmp_path):
    (tmp_path / "oasis").mkdir()
    path = tmp_path / "oasis" / "best_EMA.pth"
    write_oasis(path)
    return path


def imported(path, reader="", **options):
    folder = path.parent / f"out-{len(list(path.parent.iterdir()))}"
    return gsegkit.load(gsegkit.import_checkpoint(path, folder, reader=reader, options=options), "painter")


def rewritten(path, **changes):
    """The same file with other tensors; None takes one away."""
    state = torch.load(path)
    state |= {name.replace("__", "."): value for name, value in changes.items()}
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return state


@pytest.mark.parametrize(("layers", "doubled"), [("normal", (0, 1, 0, 1, 1, 1, 1)), ("more", (0, 1, 1, 1, 1, 1, 1))])
@pytest.mark.parametrize("normalised", ["batch", "instance"])
def test_spade_with_an_encoder_paints_what_its_equations_say(net_g, layers, doubled, normalised):
    state = torch.load(net_g)
    if normalised == "instance":
        state = {name: value for name, value in state.items() if "param_free_norm" not in name}
        torch.save(state, net_g)
    painter = imported(net_g, "spade", num_upsampling_layers=layers)
    size = (128, 128) if layers == "more" else (64, 64)
    assert (painter.train_size, painter.latent_dim, painter.classes) == (size, 5, ("class-0", "class-1", "class-2"))
    assert not painter.region_styles
    given, z = masks(size, LABELS), painter.latents(torch.arange(1))
    wanted = plain(state, one_hot(given, LABELS), z, SPADE, "param_free_norm", doubled, (2, 2), "latent")
    assert float(wanted.std()) > 0.05
    rounding = 1e-5 if normalised == "batch" else 1e-4  # a map that hardly varies is divided by its own deviation
    assert float((painter.paint(given, z) - wanted).abs().max()) < rounding


@pytest.mark.parametrize("unknown", ["first", "last", "none"])
def test_spade_without_an_encoder_gets_its_size_from_options(net_g, unknown):
    state = rewritten(net_g, fc__weight=filled("fc", 32, LABELS, 3, 3), fc__bias=filled("fc", 32))
    with pytest.raises(ArtifactError, match="do not say the size") as caught:
        imported(net_g)
    assert "reader.crop_size=" in caught.value.hint
    options = {"crop_size": 64, "aspect_ratio": 2.0, "unknown": unknown, "edges": True}
    painter = imported(net_g, "spade", **options)
    assert (painter.train_size, painter.latent_dim) == ((32, 64), 1)
    count = len(painter.classes)
    assert count == LABELS - 1 - (unknown != "none")
    given = masks((32, 64), count)
    seen = one_hot(given, count)
    missing = (given == IGNORE)[:, None].float()
    seen = torch.cat({"first": [missing, seen], "last": [seen, missing], "none": [seen]}[unknown], dim=1)
    border = torch.zeros(1, 1, 32, 64)
    differs = given[:, :, 1:] != given[:, :, :-1]
    border[:, 0, :, 1:] += differs
    border[:, 0, :, :-1] += differs
    differs = given[:, 1:] != given[:, :-1]
    border[:, 0, 1:] += differs
    border[:, 0, :-1] += differs
    seen = torch.cat([seen, border.clamp(max=1)], dim=1)
    wanted = plain(state, seen, None, SPADE, "param_free_norm", (0, 1, 0, 1, 1, 1, 1), (1, 2), "labels")
    assert float((painter.paint(given, painter.latents(torch.arange(1))) - wanted).abs().max()) < 1e-5
    one, two = painter.paint(given.repeat(2, 1, 1), painter.latents(torch.arange(2)))
    assert torch.equal(one, two)


def test_spade_with_most_layers_is_seen_by_its_last_block(net_g):
    net_g.with_name("opt.txt").unlink()
    state = tensors((*SPADE, "up_4"), (32, 32, 32, 32, 16, 8, 4, 2, 1), LABELS, "param_free_norm")
    state |= {"fc.weight": filled("fc", 64 * 2 * 2, 5), "fc.bias": filled("fc", 64 * 2 * 2)}
    torch.save(state, net_g)
    painter = imported(net_g)
    given, z = masks((256, 256), LABELS), painter.latents(torch.arange(1))
    doubled = (0, 1, 1, 1, 1, 1, 1, 1)
    wanted = plain(state, one_hot(given, LABELS), z, (*SPADE, "up_4"), "param_free_norm", doubled, (2, 2), "latent")
    assert float((painter.paint(given, z) - wanted).abs().max()) < 1e-5


def test_oasis_paints_what_its_equations_say_with_noise_first_and_a_style_for_each_region(ema):
    state = torch.load(ema)
    painter = imported(ema)
    assert (painter.train_size, painter.latent_dim, len(painter.classes)) == ((16, 16), 5, LABELS - 1)
    given, z = masks((16, 16), 2), painter.latents(torch.arange(3))[None]
    seen = torch.cat([(given == IGNORE)[:, None].float(), one_hot(given, 2)], dim=1)
    noise = torch.einsum("kd,nkhw->ndhw", z[0], seen)  # of unknown pixels that of the picture, then class by class
    wanted = plain(
        state, torch.cat([noise, seen], dim=1), None, ("body.0", "body.1", "body.2"), "first_norm", (0, 1, 1), (4, 4), "labels",
    )  # fmt: skip
    assert float((painter.paint(given, z) - wanted).abs().max()) < 1e-5
    alike = painter.paint(given, z[:, :1].repeat(1, 3, 1))
    assert torch.allclose(alike, painter.paint(given, z[:, 0]), atol=1e-6)


def test_the_stored_vectors_are_used_and_early_files_are_read(net_g):
    state = torch.load(net_g)
    before = imported(net_g)
    given, z = masks((64, 64), LABELS), before.latents(torch.arange(1))
    name = "up_2.conv_0"
    original, u, v = (state[f"{name}.weight_{leaf}"] for leaf in ("orig", "u", "v"))
    rewritten(net_g, **{f"{name}.weight_v": None})  # v follows from u there
    assert torch.allclose(imported(net_g).paint(given, z), before.paint(given, z), atol=1e-5)
    rewritten(net_g, **{f"{name}.weight_v": -v})
    assert not torch.allclose(imported(net_g).paint(given, z), before.paint(given, z), atol=1e-3)
    rewritten(net_g, **{f"{name}.weight": original / (u @ original.flatten(1) @ v)})
    assert torch.allclose(imported(net_g).paint(given, z), before.paint(given, z), atol=1e-6)


def test_names_licence_and_notes_stand_in_the_card(net_g, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("sky\nsea\nland\n")
    options = {"classes": str(names), "licence": "mine"}
    folder = gsegkit.import_checkpoint(net_g, tmp_path / "out", reader="spade", options=options)
    card = json.loads((folder / "card.json").read_text())
    assert (card["painter"], card["classes"], card["licence"]) == ("spade", ["sky", "sea", "land"], "mine")
    assert "generator" not in card
    assert any("opt.txt beside it was read: num_upsampling_layers normal" in note for note in card["notes"])
    assert any("reader.edges=true" in note for note in card["notes"])
    assert gsegkit.load(folder, "painter").licence == "mine"
    painter = gsegkit.open_painter(folder)
    assert painter.classes == ("sky", "sea", "land")
    assert page_data(painter, stored_examples(folder, painter), "x")["licences"] == ["Weights of the painter: mine."]
    assert gsegkit.import_checkpoint(net_g, folder, reader="spade", options=options) == folder
    with pytest.raises(ArtifactError, match="with other options"):
        gsegkit.import_checkpoint(net_g, folder)
    names.write_text("sky\nlake\nland\n")
    with pytest.raises(ArtifactError, match="with other options"):
        gsegkit.import_checkpoint(net_g, folder, reader="spade", options=options)
    assert "CC BY-NC-SA" in look_at_checkpoint(net_g).licence


@pytest.mark.slow
def test_an_imported_painter_is_exported(net_g, ema, tmp_path):
    pytest.importorskip("onnxruntime")
    from gsegkit.exports.painters import export_painter

    for index, path in enumerate((net_g, ema)):
        export_painter(imported(path), tmp_path / f"{index}.onnx")  # compares what both paint


@pytest.mark.parametrize(
    ("text", "message"),
    [("two\nnames\n", "has 2 lines, the network 3 classes"), ("a\na\nb\n", "'a' twice"), ("a\n\nb\n", "has the name ''"),
     ("a\n\x1b[31m\nb\n", "has the name")],
)  # fmt: skip
def test_names_that_do_not_fit_are_refused(net_g, tmp_path, text, message):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        imported(net_g, "spade", classes=str(tmp_path / "names.txt"))


def test_what_does_not_fit_is_refused_by_name(net_g):
    state = torch.load(net_g)
    for changes, message in (
        ({"up_1.norm_s.mlp_beta.bias": None}, "lacks 'up_1.norm_s.mlp_beta.bias'"),
        ({"up_1.conv_0.weight_u": None}, "lacks 'up_1.conv_0.weight_u'"),
        ({"up_1.conv_0.bias": torch.full((8,), float("nan"))}, "'up_1.conv_0.bias' is float32"),
        ({"up_1.conv_0.bias": torch.zeros(8, dtype=torch.int64)}, "'up_1.conv_0.bias' is int64"),
        ({"up_1.conv_0.bias": torch.zeros(9)}, r"blocks.4.conv_0.bias is \[9\], expected \[8\]"),
        ({"up_1.conv_0.weight_v": torch.zeros(3)}, "vectors of 'up_1.conv_0' do not fit"),
        ({"up_1.conv_0.weight_u": torch.zeros(8)}, "spectral norm of 'up_1.conv_0' is 0"),
        ({"up_1.norm_0.param_free_norm.running_var": torch.full((16,), -1.0)}, "a variance is negative"),
        ({"up_1.norm_0.param_free_norm.running_mean": None}, "unexpected tensors"),
        ({"stranger": torch.zeros(2)}, "unexpected tensors: stranger"),
        ({"fc.weight": torch.zeros(96, 5), "fc.bias": torch.zeros(96)}, "coarsest map of 3 places"),
        ({"head_0.norm_0.mlp_shared.0.weight": torch.zeros(4, LABELS, 4, 4)}, "not supported: network.kernel"),
    ):
        torch.save({k: v for k, v in {**state, **changes}.items() if v is not None}, net_g)
        with pytest.raises(ArtifactError, match=message) as caught:
            imported(net_g)
        assert caught.value.hint
        assert str(net_g) in caught.value.message
    assert not [item for item in net_g.parent.iterdir() if item.name.startswith("out-")]


def test_opt_txt_is_plain_text_and_opt_pkl_is_never_opened(net_g, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "canary",)

    net_g.with_name("opt.pkl").write_bytes(pickle.dumps(Bomb()))
    imported(net_g)
    opt = net_g.with_name("opt.txt")
    for text, message in (
        ("num_upsampling_layers: __import__", "says num_upsampling_layers '__import__'"),
        ("num_upsampling_layers: normal\ncrop_size: 99999999999999999999", "says crop_size"),
        ("num_upsampling_layers: normal\naspect_ratio: nan", "says aspect_ratio"),
        ("num_upsampling_layers: normal\ncontain_dontcare_label: 1", "says contain_dontcare_label"),
        ("x" * 100_000, "not a text of at most 64 KiB"),
        ("num_upsampling_layers: most", "most, but the file lacks up_4"),
        ("nothing", "do not say whether"),
    ):
        opt.write_text(text)
        with pytest.raises(ArtifactError, match=message):
            imported(net_g)
    opt.write_text("  crop_size: 64  [default: 256]\nnum_upsampling_layers: normal\ncontain_dontcare_label: True\n"
                   "no_instance: False\nname: ../../x\n")  # fmt: skip
    painter = imported(net_g)
    assert len(painter.classes) == LABELS - 2
    torch.save({**torch.load(net_g), "up_0.conv_0.bias": Bomb()}, net_g)
    with pytest.raises(ArtifactError, match="executable pickle"):
        imported(net_g)
    assert not (tmp_path / "canary").exists()


def test_weights_of_ade20k_come_with_a_warning(net_g):
    state = {name: value.clone() for name, value in torch.load(net_g).items()}
    for name in [key for key in state if key.endswith("mlp_shared.0.weight")]:
        state[name] = filled(name, 4, 151, 3, 3)
    torch.save(state, net_g)
    assert any("expect raw labels" in note for note in look_at_checkpoint(net_g).notes)
    found = look_at_checkpoint(net_g, reader="spade", options={"unknown": "first"})
    assert not any("raw labels" in note for note in found.notes)
    assert len(found.facts["classes"]) == 150


def test_the_command_says_what_it_made_and_under_which_licence(net_g, tmp_path, monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["gsegkit", "import", *map(str, args)])
        try:
            main()
        except SystemExit as leaving:
            return leaving.code or 0
        return 0

    out = tmp_path / "out"
    assert call(net_g, "--out", out, "--reader", "spade", "-o", "reader.crop_size=64") == 0
    told = "".join(capsys.readouterr())
    assert f"SPADE, 64 x 64 px, 3 classes: imported to {out}" in told
    assert "licence: CC BY-NC-SA 4.0, not for commercial use" in told
    assert f"next: gsegkit paint {out} --serve" in told
    assert call(net_g, "--look", "--json") == 0
    assert json.loads(capsys.readouterr().out)["painter"] == "spade"
    assert call(net_g, "-o", "reader.crop_size=64") == 2
    assert "name it: gsegkit import --reader NAME" in capsys.readouterr().err
    assert call(net_g, "--reader", "spade", "-o", "painter.steps=3") == 2
    assert call(net_g, "--reader", "spade", "-o", "reader.crop=64") == 2
    assert "reader.crop: no such option" in capsys.readouterr().err


def test_a_painter_is_no_generator(net_g):
    with pytest.raises(ArtifactError, match="is for the painter 'spade', not for the generator 'dcgan'") as caught:
        find_weights("dcgan", str(net_g))
    assert "gsegkit import" in caught.value.hint
    with pytest.raises(ConfigError, match="options are those of one reader"):
        look_at_checkpoint(net_g, options={"crop_size": 64})
    with pytest.raises(ConfigError, match="crop: no such option"):
        look_at_checkpoint(net_g, reader="spade", options={"crop": 64})


def test_a_record_with_another_shape_is_refused(net_g):
    folder = gsegkit.import_checkpoint(net_g)
    record = json.loads((folder / "component.json").read_text())
    for change in ({"channels": [10**9] * 8}, {"hidden": 10**4, "latent_dim": 4096}, {"size": [16384, 16384]},
                   {"doubled": [True] * 7}, {"num_classes": 2}, {"kernel": "3"}):  # fmt: skip
        facts = {**record["facts"], "arch": {**record["facts"]["arch"], **change}}
        (folder / "component.json").write_text(json.dumps({**record, "facts": facts}))
        with pytest.raises(ArtifactError):
            gsegkit.load(folder, "painter")
