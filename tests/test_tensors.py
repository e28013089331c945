"""Safetensors files: written piece by piece, the same bytes as the library's; and what a part's hash depends on."""

import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

from gsegkit.records.tensors import DTYPES, write_tensors
from gsegkit.storage import atomic_file
from gsegkit.tensors import load_tree, read_safetensors, save_tree, state_hash


def written(path, tensors, metadata=None):
    with atomic_file(path) as file:
        write_tensors(file, tensors, metadata)
    return path.read_bytes()


def test_the_bytes_are_the_librarys(tmp_path):
    numbers = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4)
    tensors = {f"b{i}": numbers.to(dtype) for i, dtype in enumerate(DTYPES)}
    tensors |= {"a scalar": torch.tensor(3.0), 'empty "ü"': torch.empty(0, 4), "half": torch.ones(3).half()}
    assert written(tmp_path / "x", tensors) == safetensors.torch.save(tensors)
    assert written(tmp_path / "y", {"n": numbers}, {"a": "ü"}) == safetensors.torch.save({"n": numbers}, {"a": "ü"})
    assert written(tmp_path / "z", {}) == safetensors.torch.save({})


def test_any_layout_and_shared_memory(tmp_path):
    base = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    tensors = {
        "last": base.to(memory_format=torch.channels_last),
        "turned": base.transpose(0, 1),
        "part": base[:, 1:3],
        "same": base,
        "again": nn.Parameter(base),
    }
    written(tmp_path / "x", tensors)
    found, _ = read_safetensors(tmp_path / "x")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    save_tree(tmp_path / "tree", {"one": [base[0], base], "two": base.t() if base.ndim == 2 else base.mT})
    tree = load_tree(tmp_path / "tree")
    assert torch.equal(tree["one"][0], base[0])
    assert torch.equal(tree["two"], base.mT)


def test_numbers_that_the_format_has_not_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(TypeError, match=r"z is torch\.complex128"):
        written(tmp_path / "x", {"z": torch.zeros(2, dtype=torch.complex128)})
    assert not list(tmp_path.iterdir())


PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from gsegkit.parts import save_state
from gsegkit.tensors import save_tree
state = {f"w{i}": torch.ones(1 << 22) for i in range(8)}  # 128 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
save_state(state, Path(sys.argv[1]), "generator", "toy", {}, {})
save_tree(Path(sys.argv[1]) / "tree", state)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_writing_costs_no_copy_of_everything(tmp_path):
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64, "MiB more than the tensors themselves"


def test_a_hash_is_of_the_tensors_and_of_what_else_decides():
    part = nn.Linear(2, 2)
    alone = state_hash(part)
    part.hashed_too = ""
    assert state_hash(part) == alone
    part.hashed_too = "[0.5, 0.5]"
    assert state_hash(part) != alone
