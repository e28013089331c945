"""Files as other software writes them: containers, wrappers, which generator they are for, what is refused."""

import importlib.util
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from gsegkit_foreign.audit import audit
from gsegkit_resgan.readers import sample
from gsegkit_resgan.readers.detect import find
from gsegkit_resgan.readers.selfcond import cluster_sizes

from gsegkit.checkpoints import CheckpointFile
from gsegkit.errors import ArtifactError


def saved(path, value, legacy=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def found(path):
    match = find(CheckpointFile(path))
    return None if match is None else (match.generators, match.read())


STUDIO = {"seed": 1, "step": 5, "best_fid": np.float64(12.5), "ada_p": np.float32(0), "optimizer": {"state": {}}}


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy tar", "zip"])
@pytest.mark.parametrize("name", ["G_ema.pth", "G.pth.tar", "weights.bin"])
def test_containers_of_biggan_pytorch(tmp_path, legacy, name):
    generators, read = found(saved(tmp_path / name, sample.biggan_pytorch(), legacy))
    assert generators == ("biggan",)
    assert (read.arch.side, read.arch.num_classes, read.arch.z_dim) == (8, 3, 4)
    assert any("1e-05 was taken" in note for note in read.notes)


def test_a_state_dict_inside_a_tar_checkpoint(tmp_path):
    path = saved(tmp_path / "model.tar", {"epoch": 3, "state_dict": sample.biggan_pytorch(), "optimizer": {}})
    assert found(path)[0] == ("biggan",)


def test_conversions_of_deepminds_weights_have_their_epsilon(tmp_path):
    table = {name: tensor for name, tensor in sample.biggan_pytorch().items() if not name.endswith("sv0")}
    read = found(saved(tmp_path / "biggan-128.pth", table))[1]
    assert read.arch.eps == 1e-4
    assert "DeepMind" in read.licence


def test_bigbigan_is_known_by_its_rows_or_its_name(tmp_path):
    generators, read = found(saved(tmp_path / "x1.pth", sample.bigbigan()))
    assert (generators, read.arch.num_classes, read.arch.z_dim) == (("bigbigan",), 0, 4)
    assert found(saved(tmp_path / "BigBiGAN_x1.pth", sample.biggan_pytorch()))[0] == ("bigbigan",)


@pytest.mark.parametrize(
    ("kind", "run", "generators"),
    [
        ("table", "ACGAN-train-2020", ("acgan",)),
        ("table", "SNGAN-train-2020", ("sngan",)),
        ("table", "something", ("acgan", "sngan")),
        ("table-sn", "something", ("sagan",)),
        ("affine", "GGAN-train-2020", ("ggan",)),
        ("affine", "WGAN-WC-train", ("ggan",)),
        ("affine", "SNGAN-CIFAR", ("sngan",)),
        ("shared", "ContraGAN256", ("contragan",)),
        ("shared", "BigGAN2048", ("biggan",)),
        ("shared", "ReACGAN", ("biggan", "contragan")),
    ],
)
def test_a_run_of_studiogan_says_which_method_it_is(tmp_path, kind, run, generators):
    table = sample.studiogan(kind)
    by_run = saved(tmp_path / "a" / "model=G-best-weights-step=5.pth", {**STUDIO, "run_name": run, "state_dict": table})
    by_folder = saved(tmp_path / run / "model=G_ema-best-weights-step=5.pth", {"state_dict": table})
    for path in (by_run, by_folder):
        assert found(path)[0] == generators


def test_both_generations_of_studiogan_are_the_same_network(tmp_path):
    """The later one has its tables transposed, and the singular vectors of those swapped."""
    old = sample.studiogan("table-sn")
    new = {}
    for name, tensor in old.items():
        later = name.replace("embed0", "gain").replace("embed1", "bias")
        if later == name:
            new[name] = tensor
        elif name.endswith("weight_orig"):
            new[later] = tensor.t().contiguous()
        else:
            new[
                later.replace("weight_u", "weight_x").replace("weight_v", "weight_u").replace("weight_x", "weight_v")
            ] = tensor
    first, second = (
        found(saved(tmp_path / f"{i}.pth", {"state_dict": table}))[1] for i, table in enumerate((old, new))
    )
    assert first.arch == second.arch
    assert all(torch.allclose(tensor, second.state[name], atol=1e-6) for name, tensor in first.state.items())


def test_the_average_of_selfcondgan_is_preferred(tmp_path):
    plain, average = sample.selfcond(), {name: tensor + 1 for name, tensor in sample.selfcond().items()}
    tables = {"generator": plain, "generator_test": average, "discriminator": plain, "g_optimizer": {}, "it": 9}
    wrapped = {key: {f"module.{n}": t for n, t in v.items()} if key != "it" else v for key, v in tables.items()}
    generators, read = found(saved(tmp_path / "selfcondgan_i_model.pt", wrapped, legacy=True))
    assert generators == ("selfcondgan",)
    assert torch.equal(read.state["to_rgb.bias"], average["conv_img.bias"])
    assert any("generator_test" in note and "averages" in note for note in read.notes)
    assert found(saved(tmp_path / "u.pt", {"generator": sample.selfcond(classes=0)}))[0] == ("uncondgan",)


def test_spectral_norms_are_those_of_the_stored_vectors(tmp_path):
    """Vectors of an average are shorter than 1; made unit length they would give other weights."""
    table = sample.studiogan("table-sn")
    read = found(saved(tmp_path / "sagan.pth", table))[1]
    weight, u, v = (table[f"linear0.weight_{part}"] for part in ("orig", "u", "v"))
    assert torch.allclose(read.state["first.weight"], weight / (u @ weight @ v), rtol=1e-5)


# ---- the clusterer -------------------------------------------------------------------------------------------------


def clusterer(path, labels, attribute="x_labels"):
    """A pickle of an object of the class that self-conditioned-gan stores, which need not exist when it is read."""
    module = types.ModuleType("clusterers")
    module.selfcondgan = types.ModuleType("clusterers.selfcondgan")
    cls = type("Clusterer", (), {"__module__": "clusterers.selfcondgan"})
    module.selfcondgan.Clusterer = cls
    sys.modules["clusterers"], sys.modules["clusterers.selfcondgan"] = module, module.selfcondgan
    try:
        thing = cls()
        thing.k, thing.x = 3, None
        setattr(thing, attribute, labels)
        path.write_bytes(pickle.dumps(thing, 3))
    finally:
        del sys.modules["clusterers"], sys.modules["clusterers.selfcondgan"]
    return path


def test_the_clusterer_says_how_frequent_a_class_is(tmp_path):
    path = clusterer(tmp_path / "c.pkl", np.array([0, 2, 2, 2], dtype=np.int64))
    assert cluster_sizes(path, 3) == [0.25, 0, 0.75]


@pytest.mark.parametrize(
    ("labels", "attribute", "words"),
    [
        (np.array([0, 3]), "x_labels", "3 classes"),
        (np.array([-1, 1]), "x_labels", "-1"),
        (np.array([0.5]), "x_labels", "not a list of labels"),
        (np.zeros((2, 2), dtype=np.int64), "x_labels", "not a list of labels"),
        (np.array([0, 1]), "labels", "no x_labels"),
    ],
)
def test_other_clusterers_are_refused(tmp_path, labels, attribute, words):
    with pytest.raises(ArtifactError, match=words) as caught:
        cluster_sizes(clusterer(tmp_path / "c.pkl", labels, attribute), 3)
    assert "clusterer.pkl" in caught.value.hint


# ---- what is refused -----------------------------------------------------------------------------------------------


def changed(table, name, value):
    return {**table, name: value}


def without(table, name):
    return {key: value for key, value in table.items() if key != name}


BROKEN = {
    "missing": (lambda: without(sample.biggan_pytorch(), "output_layer.0.gain"), "lacks 'output_layer.0.gain'"),
    "unexpected": (lambda: changed(sample.biggan_pytorch(), "more.weight", torch.ones(2)), "unexpected tensors: 'more"),
    "rank": (lambda: changed(sample.biggan_pytorch(), "linear.weight", torch.ones(3)), "rank 2"),
    "nan": (lambda: changed(sample.biggan_pytorch(), "linear.bias", torch.full((128,), torch.nan)), "finite"),
    "integers": (lambda: changed(sample.biggan_pytorch(), "linear.bias", torch.ones(128, dtype=torch.int64)), "int64"),
    "shape": (lambda: changed(sample.biggan_pytorch(), "linear.bias", torch.ones(7)), "expected \\[128\\]"),
    "u0": (lambda: changed(sample.biggan_pytorch(), "linear.u0", torch.ones(1, 7)), "128 were expected"),
    "zero norm": (lambda: changed(sample.biggan_pytorch(), "linear.weight", torch.zeros(128, 2)), "spectral norm"),
    "variance": (
        lambda: changed(sample.biggan_pytorch(), "output_layer.0.stored_var", -torch.ones(8)),
        "not variances",
    ),
    "deep": (lambda: changed(sample.studiogan(), "blocks.0.0.conv2d4.weight", torch.ones(2)), "big_resnet_deep"),
    "deep_conv": (lambda: changed(sample.studiogan(), "blocks.0.0.deconv0.weight", torch.ones(2)), "deep_conv"),
    "infogan": (lambda: changed(sample.studiogan(), "info_mix_linear.weight", torch.ones(2)), "InfoGAN"),
    "attention first": (
        lambda: changed(sample.studiogan(), "blocks.0.0.sigma", torch.ones(1)),
        "without a block before it",
    ),
    "embedding": (
        lambda: changed(sample.selfcond(), "get_latent.embedding.weight", torch.zeros(3, 4)),
        "does not fit the layer 'fc'",
    ),
    "first": (lambda: changed(sample.selfcond(), "fc.weight", torch.ones(100, 6)), "not supported"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_tables_are_refused_in_words(tmp_path, what):
    make, words = BROKEN[what]
    with pytest.raises(ArtifactError, match=words) as caught:
        found(saved(tmp_path / "file.pth", make()))
    assert caught.value.hint
    assert "file.pth" in caught.value.message


def test_a_discriminator_is_not_taken_for_a_generator(tmp_path):
    table = {name: t for name, t in sample.biggan_pytorch().items() if not name.startswith("output_layer")}
    assert found(saved(tmp_path / "D.pth", {**table, "embed.weight": torch.ones(3, 8)})) is None


def test_a_dump_of_tf_hub_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "biggan-128.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 500)
    with pytest.raises(ArtifactError, match="HDF5") as caught:
        found(path)
    assert "BigGAN-PyTorch's folder TFHub" in caught.value.hint


# ---- hostile files -------------------------------------------------------------------------------------------------


class Payload:
    """Pickles as a call; loading it in the ordinary way would make the canary."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(canary):
    """Each container with a payload in each place where one of these files can hold it."""
    import os
    import subprocess

    calls = {
        "system": Payload(os.system, f"touch {canary}"),
        "popen": Payload(subprocess.Popen, ["touch", str(canary)]),
        "exec": Payload(exec, f"open({str(canary)!r}, 'w').close()"),
        "eval": Payload(eval, f"__import__('os').system('touch {canary}')"),
    }
    places = {
        "biggan-weight": lambda bad: {**sample.biggan_pytorch(), "linear.weight": bad},
        "biggan-u0": lambda bad: {**sample.biggan_pytorch(), "blocks.0.0.conv1.u0": bad},
        "studio-state": lambda bad: {**STUDIO, "state_dict": {**sample.studiogan(), "bn4.running_mean": bad}},
        "selfcond-average": lambda bad: {"generator": sample.selfcond(), "generator_test": bad},
    }
    cases = {
        f"{place}-{call}-{'zip' if zipped else 'legacy'}": (make(bad), zipped)
        for place, make in places.items()
        for call, bad in calls.items()
        for zipped in (True, False)
    }
    return cases


def test_hostile_variants_are_refused_and_none_is_run(tmp_path):
    canary = tmp_path / "ran"
    honest = saved(tmp_path / "honest.pth", sample.biggan_pytorch())
    files = [
        saved(tmp_path / f"{name}.pth", value, legacy=not zipped) for name, (value, zipped) in hostile(canary).items()
    ]
    assert len(files) >= 30
    for name, data in of_gsegkit_foreign().executing(canary).items():
        files.append(tmp_path / name)
        files[-1].write_bytes(data)
    rows = audit("gsegkit_resgan.readers.detect:read_generator", [honest], [*files, honest])
    assert set(rows) == {path.name for path in [*files, honest]}
    assert {name: row.events for name, row in rows.items() if row.events} == {}
    wrong = {name: (row.outcome, row.message) for name, row in rows.items() if row.outcome != "refused"}
    assert wrong == {"honest.pth": ("read", "")}
    assert not canary.exists()


def of_gsegkit_foreign():
    """Its builders of hostile files, which are not installed with it."""
    path = Path(__file__).parents[2] / "gsegkit-foreign" / "tests" / "hostile.py"
    spec = importlib.util.spec_from_file_location("resgan_foreign_hostile", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
