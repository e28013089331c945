"""What honest files give: the same tensors as their own libraries, whatever the container."""

import argparse
import collections
import os
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from gsegkit_foreign import Limits, Opaque, Record, all_finite, inspect, read_foreign

from gsegkit.errors import ArtifactError

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip


def tensors():
    base = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict({str(dtype): torch.ones(2, 3).to(dtype) for dtype in DTYPES})
    state["view"] = base[4:16].view(3, 4)
    state["turned"] = base.view(4, 6).t()
    state["strided"] = base.view(4, 6)[::2, 1::2]
    state["expanded"] = base[:1].expand(4)[:1]
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 3)
    state["parameter"] = torch.nn.Parameter(base[:3].clone())
    state["tied"] = state["view"]
    return state


def save(path, value, zip_format=True):
    torch.save(value, path, _use_new_zipfile_serialization=zip_format)
    return read_foreign(path)


@pytest.mark.parametrize("zip_format", [True, False])
def test_torch_files(tmp_path, zip_format):
    state = tensors()
    file = save(tmp_path / "a.pt", state, zip_format)
    assert file.container == ("torch-zip" if zip_format else "torch-legacy")
    read = file.tensors(file.root)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name
        assert read[name].is_contiguous()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_pickles_with_tensors(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G": tensors(), "step": 3}, protocol))
    file = read_foreign(tmp_path / "a.pkl")
    table = file.mapping(file.root, "file")
    assert table["step"] == 3
    for name, tensor in file.tensors(table["G"]).items():
        assert torch.equal(tensor, tensors()[name].detach()), name


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_with_arrays(tmp_path, protocol):
    codes = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1", ">f4", ">i2")
    arrays = {code: np.arange(6).reshape(2, 3).astype(code) for code in codes}
    arrays["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    arrays["large"] = np.random.RandomState(0).standard_normal(400_000).astype("f4")  # more than a mebibyte of text
    arrays["u2"] = np.array([1, 65535], dtype="u2")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
    file = read_foreign(tmp_path / "a.pkl")
    for name, tensor in file.tensors(file.root).items():
        assert np.array_equal(tensor.numpy(), arrays[name]), name


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values(tmp_path, protocol):
    shared = ["x"]
    value = {
        "none": None, "yes": True, "no": False, "small": 7, "negative": -3, "large": 2**70, "float": 0.1,
        "text": "naïve ☂ 𝄞", "lines": "a\nb\\n'", "bytes": b"\0\xff", "list": [1, [2, (3,)]], "tuple": (1, 2, 3, 4),
        "set": {1}, "ordered": collections.OrderedDict(a=1), "shared": [shared, shared], 5: "five",
        "scalar": np.float32(0.5), "path": pathlib.PurePosixPath("/a/b"), "many": list(range(1200)),
    }  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    read = inspect(tmp_path / "a.pkl")["content"]
    for name in ("none", "yes", "no", "small", "negative", "large", "float", "text", "lines", "shared", "many"):
        assert read[name] == value[name], name
    assert read["list"] == [1, [2, [3]]]
    assert read["tuple"] == [1, 2, 3, 4]
    assert read["set"] == [1]
    assert read["ordered"] == {"a": 1}
    assert read["5"] == "five"
    assert read["scalar"] == 0.5


def test_big_arrays_as_text_are_bounded_by_the_file_alone(tmp_path):
    """Protocol 2 stores bytes as text; the limit on text does not apply to arrays."""
    array = np.random.RandomState(0).bytes(3 << 20)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.frombuffer(array, "u1"), 2))
    file = read_foreign(tmp_path / "a.pkl", Limits(text_bytes=1 << 16))
    assert bytes(file.tensor(file.root, "array").numpy()) == array


def test_python_2_pickles(tmp_path):
    """Text and arrays as Python 2 wrote them: byte strings."""
    array = np.arange(3, dtype="<f4")
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    body = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x03t" + dtype + b"\x89U\x0c"
    )
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}U\x01w" + body + array.tobytes() + b"tbs.")
    file = read_foreign(tmp_path / "a.pkl")
    assert torch.equal(file.tensor(file.mapping(file.root, "file")["w"], "w"), torch.tensor([0.0, 1.0, 2.0]))


def test_npy_and_safetensors(tmp_path):
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_foreign(tmp_path / "a.npy").root.numpy(), array)
    np.save(tmp_path / "scalar.npy", np.float64(3))
    assert read_foreign(tmp_path / "scalar.npy").root.item() == 3
    state = {name: t.detach().contiguous().clone() for name, t in tensors().items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors", {"about": "me"})
    file = read_foreign(tmp_path / "a.safetensors")
    assert file.metadata == {"about": "me"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in file.tensors(file.root).items())


class Custom(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 3)
        self.width = 3


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_whole_modules_become_records(tmp_path, monkeypatch, zip_format):
    elsewhere = types.ModuleType("somebodys_models")
    elsewhere.Custom = Custom
    monkeypatch.setattr(Custom, "__module__", elsewhere.__name__)
    monkeypatch.setitem(sys.modules, elsewhere.__name__, elsewhere)
    module = Custom()
    file = save(tmp_path / "a.pt", module, zip_format)
    record = file.shallow(file.root)
    assert isinstance(record, Record)
    assert record.class_name == "somebodys_models.Custom"
    assert file.plain(record.state["width"]) == 3
    inner = file.shallow(file.mapping(record.state["_modules"], "modules")["inner"])
    weight = file.mapping(inner.state["_parameters"], "parameters")["weight"]
    assert torch.equal(file.tensor(weight, "weight"), module.inner.weight.detach())


def test_unknown_calls_stay_opaque_and_cannot_become_tensors(tmp_path):
    class Strange:
        def __reduce__(self):
            return os.path.join, ("a", "b")

    data = pickle.dumps({"w": Strange()}, 2).replace(b"posixpath", b"mymodules")
    (tmp_path / "a.pkl").write_bytes(data)
    file = read_foreign(tmp_path / "a.pkl")
    raw = file.mapping(file.root, "file")["w"]
    assert isinstance(file.shallow(raw), Opaque)
    with pytest.raises(ArtifactError, match=r"'w' should be a tensor but is the result of 'mymodules.join'"):
        file.tensor(raw, "w")


def test_namespaces_and_optimisers_do_not_matter(tmp_path):
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    file = save(tmp_path / "a.pt", {"args": argparse.Namespace(lr=0.1), "optim": optimiser.state_dict()})
    content = file.plain(file.root)
    assert content["args"] == {"lr": 0.1}
    assert content["optim"]["param_groups"][0]["lr"] == 0.001


def test_the_hash_is_of_the_bytes_that_were_parsed(tmp_path):
    import hashlib

    path = tmp_path / "a.pt"
    torch.save(tensors(), path)
    data = path.read_bytes()
    file = read_foreign(path)
    path.write_bytes(b"replaced")  # between check and use
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert torch.equal(file.tensors(file.root)["view"], tensors()["view"])


def test_places_that_are_no_files(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        read_foreign(tmp_path / "absent.pt")
    with pytest.raises(ArtifactError, match="a folder"):
        read_foreign(tmp_path)
    with pytest.raises(ArtifactError, match="a device or a pipe"):
        read_foreign("/dev/zero")
    (tmp_path / "large.pt").write_bytes(b"x" * 100)
    with pytest.raises(ArtifactError, match="more than the limit of 99"):
        read_foreign(tmp_path / "large.pt", Limits(file_bytes=99))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 517, 999])
def test_one_number_that_is_not_finite_is_found(dtype, bad, place):
    numbers = torch.linspace(-3, 3, 1000).to(dtype)
    assert all_finite(numbers)
    assert all_finite(numbers[:0])
    numbers[place] = bad
    assert not all_finite(numbers)
    assert not all_finite(numbers.reshape(10, 100).t())
