"""Honest files of kinds that are not read: what they are is said, and not that they attack."""

import types
import warnings
import zipfile

import pytest
import torch
from gsegkit_foreign import read_foreign

from gsegkit.errors import ArtifactError


def refused(path, *words):
    with pytest.raises(ArtifactError) as caught:
        file = read_foreign(path)
        file.tensors(file.root)
    for word in words:
        assert word in caught.value.message, caught.value.message
    text = f"{caught.value.message} {caught.value.hint}"
    assert "executable" not in text
    assert "trust" not in text
    assert str(path) in caught.value.message
    return caught.value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["script", "trace"])
def test_torchscript(tmp_path, way):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    program = torch.jit.script(module) if way == "script" else torch.jit.trace(module, torch.zeros(1, 2))
    torch.jit.save(program, tmp_path / "net.pt")
    assert "state_dict" in refused(tmp_path / "net.pt", "a TorchScript program").hint


def unusual():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "sparse": torch.eye(4).to_sparse(),
            "sparse csr": torch.eye(4).to_sparse_csr(),
            "sparse bsr": torch.eye(4).to_sparse_bsr((2, 2)),
            "quantised": torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8),
            "without data": torch.zeros(2, device="meta"),
            "unusual number type": torch.ones(2).to(torch.float8_e4m3fn),
        }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize(
    "kind", ["sparse", "sparse csr", "sparse bsr", "quantised", "without data", "unusual number type"]
)
def test_tensors_of_other_kinds(tmp_path, kind, zip_format):
    path = tmp_path / "net.pt"
    torch.save({"layer.weight": unusual()[kind]}, path, _use_new_zipfile_serialization=zip_format)
    if kind == "quantised" and not zip_format:  # the older format names the storage first
        refused(path, "QInt8Storage")
    else:
        refused(path, "'layer.weight' is a", "sparse" if kind.startswith("sparse") else kind)


@pytest.mark.filterwarnings("ignore")
def test_a_sparse_tensor_beside_the_network_does_not_matter(tmp_path):
    torch.save({"net": {"w": torch.ones(3)}, "graph": torch.eye(3).to_sparse()}, tmp_path / "net.pt")
    file = read_foreign(tmp_path / "net.pt")
    assert torch.equal(file.tensors(file.mapping(file.root, "file")["net"])["w"], torch.ones(3))


def test_tensors_with_attributes_of_their_own(tmp_path):
    buffer = torch.nn.Buffer(torch.arange(6.0).view(2, 3))
    named = torch.ones(3)
    named.label = "mine"
    torch.save({"buffer": buffer, "named": named}, tmp_path / "net.pt")
    file = read_foreign(tmp_path / "net.pt")
    read = file.tensors(file.root)
    assert torch.equal(read["buffer"], torch.arange(6.0).view(2, 3))
    assert torch.equal(read["named"], torch.ones(3))


class Turned(torch.Tensor):
    """A class of its own, which may mean anything."""


def test_tensors_of_a_class_of_their_own(tmp_path):
    torch.save({"w": torch.ones(2).as_subclass(Turned)}, tmp_path / "net.pt")
    refused(tmp_path / "net.pt", "'w' is a tensor of a class of its own")


def test_options_in_a_simple_namespace(tmp_path):
    torch.save({"w": torch.ones(2), "options": types.SimpleNamespace(size=4)}, tmp_path / "net.pt")
    file = read_foreign(tmp_path / "net.pt")
    assert file.plain(file.mapping(file.root, "file")["options"]) == {"size": 4}
    (tmp_path / "other.pkl").write_bytes(b"\x80\x02ctypes\nFunctionType\n.")
    with pytest.raises(ArtifactError, match="executable pickle"):
        read_foreign(tmp_path / "other.pkl")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("net/archive_format", "a program of torch.export"),
        ("net/.data/extern_modules", "a torch.package archive"),
        ("model.weights.h5", "a Keras model"),
        ("w.npy", "a NumPy archive (.npz)"),
    ],
)
def test_archives_of_other_kinds(tmp_path, entry, words):
    with zipfile.ZipFile(tmp_path / "net.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, b"x" * 100)
    refused(tmp_path / "net.zip", words)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("joblib.numpy_pickle", "a joblib file"),
        ("torch.distributed.tensor", "spread over several devices"),
        ("torch.distributed._shard.sharded_tensor.api", "spread over several devices"),
        ("__torch__.net", "a TorchScript program"),
    ],
)
def test_pickles_of_other_kinds(tmp_path, module, words):
    (tmp_path / "net.pkl").write_bytes(b"\x80\x02c" + module.encode() + b"\nThing\n.")
    refused(tmp_path / "net.pkl", words)


@pytest.mark.parametrize(
    "module", ["torch.distributed.run", "torch.distributed.elastic.multiprocessing", "joblib.parallel"]
)
def test_their_neighbours_that_run_code_are_still_attacks(tmp_path, module):
    (tmp_path / "net.pkl").write_bytes(b"\x80\x02c" + module.encode() + b"\nmain\n.")
    with pytest.raises(ArtifactError, match="executable pickle"):
        read_foreign(tmp_path / "net.pkl")


def test_onnx(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.1")
    refused(tmp_path / "net.onnx", "an ONNX model")
