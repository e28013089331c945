import errno
import os

import pytest
import torch

from gsegkit import storage
from gsegkit.errors import ArtifactError, StorageError
from gsegkit.parts import load_part, save_part
from gsegkit.storage import atomic_write
from gsegkit.tensors import load_tree, read_safetensors, save_tree


def test_a_tree_round_trips_with_its_types(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tree = {
        "optimizer": optimizer.state_dict(),
        "numbers": [1, 2.5, True, None, "text", float("inf")],
        "tuple": (1, (2,)),
        3: torch.tensor([1, 2], dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    save_tree(tmp_path / "t.safetensors", tree)
    back = load_tree(tmp_path / "t.safetensors")
    assert back["numbers"] == tree["numbers"]
    assert back["tuple"] == (1, (2,))
    assert torch.equal(back[3], tree[3])
    assert back["empty"].shape == (0, 4)
    assert back["half"].dtype == torch.bfloat16
    other = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters())
    other.load_state_dict(back["optimizer"])
    assert torch.equal(other.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_tree_refuses_what_would_need_pickle(tmp_path):
    with pytest.raises(TypeError, match="not function"):
        save_tree(tmp_path / "t.safetensors", {"f": lambda: 0})
    assert not list(tmp_path.iterdir())


def test_damage_anywhere_in_a_tree_is_found(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tree(path, {"a": torch.arange(50.0), "n": 3})
    data = path.read_bytes()
    for offset in range(8, len(data), 7):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        with pytest.raises(ArtifactError):
            load_tree(path)
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        with pytest.raises(ArtifactError):
            load_tree(path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        read_safetensors(tmp_path / "absent")
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ArtifactError, match="not a state file"):
        load_tree(tmp_path / "plain.safetensors")


class Faults:
    """Fails the n-th call of open-for-write, write, fsync and rename."""

    def __init__(self, monkeypatch, n, code):
        self.left, self.code = n, code
        for name in ("fsync", "replace"):
            monkeypatch.setattr(storage.os, name, self.wrap(getattr(os, name)))
        real_open = open
        monkeypatch.setattr("builtins.open", self.wrap(real_open, only_write=True))

    def wrap(self, function, only_write=False):
        def call(*args, **kwargs):
            if not only_write or "w" in str(args[1:2]):
                self.left -= 1
                if self.left == 0:
                    raise OSError(self.code, os.strerror(self.code))
            return function(*args, **kwargs)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_fault_at_any_point_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, code):
    path = tmp_path / "f.json"
    atomic_write(path, b"old")
    for n in range(1, 7):
        with monkeypatch.context() as patch:
            faults = Faults(patch, n, code)
            try:
                atomic_write(path, b"new")
                failed = False
            except StorageError as error:
                failed = True
                assert str(path) in error.message
                assert ("space" in error.message) == (code == errno.ENOSPC)
        content = path.read_bytes()
        assert [p.name for p in tmp_path.iterdir()] == ["f.json"]
        if failed and n <= 3:
            assert content == b"old"
        if faults.left > 0:
            assert content == b"new"
            break
    else:
        pytest.fail("no call of atomic_write went through without a fault")


def test_a_full_disk_is_told_as_such(tmp_path):
    """A real limit on file size, the way a quota acts."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(StorageError, match="no space left"):
            atomic_write(tmp_path / "big", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_parts_round_trip_and_say_what_does_not_fit(tmp_path, registry, parts):
    segmenter = registry.build("segmenter", "tiny", {"width": 4})
    segmenter.restore({"classes": ["a", "b"], "train_size": [8, 8], "fit_rule": "crop"})
    save_part(segmenter, tmp_path, "segmenter", "tiny")
    again = registry.build("segmenter", "tiny", {"width": 4})
    load_part(again, tmp_path)
    assert again.classes == ("a", "b")
    assert again.fit_rule == "crop"
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), segmenter.parameters(), strict=True))
    with pytest.raises(ArtifactError, match=r"net\.0\.weight is \[4, 3, 5, 5\], expected \[5, 3, 5, 5\]"):
        load_part(registry.build("segmenter", "tiny", {"width": 5}), tmp_path)
    state = tmp_path / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    with pytest.raises(ArtifactError, match="does not match"):
        load_part(registry.build("segmenter", "tiny", {"width": 4}), tmp_path)
