"""The reader of MATLAB lists, against what SciPy writes, and against damage."""

import random
import zlib

import numpy as np
import pytest
from gsegkit_datasets.sets import mat
from gsegkit_datasets.sets.mat import mat_values
from scipy.io import savemat
from scipy.sparse import csc_array

from gsegkit.records.text import UnreadableError


def written(folder, **values):
    savemat(folder / "a.mat", values)
    return (folder / "a.mat").read_bytes()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_is_read(tmp_path, compressed):
    structs = np.empty((1, 2), [("name", object), ("box", object)])
    structs[0, 0], structs[0, 1] = ("a.jpg", np.array([[1.5]])), ("bé.jpg", np.array([[2, 3]]))
    table = {
        "doubles": np.arange(1.0, 300.0), "bytes": np.array([[1, 2], [3, 4]], np.uint8), "long": np.array([-(2**40)]),
        "text": "Größe", "cell": np.array([["one"], ["two"]], object), "structs": structs, "none": np.zeros((0, 0)),
    }  # fmt: skip
    savemat(tmp_path / "a.mat", table, do_compression=compressed)
    found = mat_values((tmp_path / "a.mat").read_bytes())
    assert list(found) == list(table)
    assert np.array_equal(found["doubles"], table["doubles"])
    assert found["bytes"].tolist() == [1, 3, 2, 4]  # columns first
    assert found["long"].tolist() == [-(2**40)]
    assert found["text"] == "Größe"
    assert found["cell"] == ["one", "two"]
    assert [row["name"] for row in found["structs"]] == ["a.jpg", "bé.jpg"]
    assert found["structs"][1]["box"].tolist() == [2, 3]
    assert found["none"].size == 0


def test_other_byte_order():
    def element(kind, body):
        return kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body + b"\0" * (-len(body) % 8)

    numbers = np.array([3, 4], ">f8").tobytes()
    parts = (6, (6).to_bytes(4, "big") * 2), (5, np.array([1, 2], ">i4").tobytes()), (1, b"trnid"), (9, numbers)
    data = b"MATLAB 5.0".ljust(126) + b"MI" + element(14, b"".join(element(*part) for part in parts))
    assert mat_values(data)["trnid"].tolist() == [3, 4]


def test_other_types_than_lists_have_are_refused(tmp_path):
    with pytest.raises(UnreadableError, match="no list needs"):
        mat_values(written(tmp_path, a=csc_array(np.eye(3))))
    for data in (b"", b"\x89HDF", b"MATLAB 7.3 MAT-file".ljust(512), b"x" * 200):
        with pytest.raises(UnreadableError, match="not a MATLAB 5 file"):
            mat_values(data)


def test_depth_and_size_have_bounds(tmp_path, monkeypatch):
    nest = np.array([[1.0]])
    for _ in range(20):
        cell = np.empty((1, 1), object)
        cell[0, 0] = nest
        nest = cell
    with pytest.raises(UnreadableError, match="more arrays"):
        mat_values(written(tmp_path, a=nest))
    monkeypatch.setattr(mat, "MAX_BYTES", 1 << 20)
    good = written(tmp_path, a=np.arange(3.0))
    huge = zlib.compress(b"\0" * (2 << 20))
    with pytest.raises(UnreadableError, match="unpacks to more"):
        mat_values(good[:128] + (15).to_bytes(4, "little") + len(huge).to_bytes(4, "little") + huge)
    cell = written(tmp_path, a=np.array([["a"]], object))
    at = cell.index((5).to_bytes(4, "little") + (8).to_bytes(4, "little")) + 8
    with pytest.raises(UnreadableError, match="damaged"):  # a cell that claims 2**62 texts
        mat_values(cell[:at] + b"\xff\xff\xff\x7f" * 2 + cell[at + 8 :])


def test_damage_is_an_error_and_nothing_worse(tmp_path):
    structs = np.empty((1, 3), [("fname", object), ("x", object)])
    for index in range(3):
        structs[0, index] = (f"{index}.jpg", np.array([[index]]))
    good = written(tmp_path, a=np.arange(9.0), structs=structs, cell=np.array([["one"], ["two"]], object))
    damage, read = random.Random(0), 0
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(damage.choice((1, 2, 5))):
            data[damage.randrange(128, len(data))] = damage.choice((0, 1, 127, 255, damage.randrange(256)))
        try:
            mat_values(bytes(data[: damage.choice((len(data), damage.randrange(len(data))))]))
            read += 1
        except UnreadableError:
            continue
    assert 0 < read < 1500
