"""Random damage to honest files: whatever happens, only ArtifactError leaves."""

import random

import pytest
from gsegkit_foreign.limits import Limits
from gsegkit_foreign.reader import ForeignFile

from gsegkit.errors import ArtifactError

MUTANTS = 1_000


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(mutant) or 1)
        length = rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(7)
        if kind == 0 and mutant:
            mutant[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and mutant:
            mutant[at] = rng.randrange(256)
        elif kind == 2:
            mutant[at : at + length] = b""
        elif kind == 3:
            mutant[at:at] = mutant[at : at + length]
        elif kind == 4:
            mutant[at : at + length] = rng.randbytes(length)
        elif kind == 5:
            mutant[at : at + length] = rng.choice((b"\xff", b"\0", b"\x7f")) * length
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            mutant[at : at + length] = other[start : start + 4 * length]
    return bytes(mutant[: rng.randrange(len(mutant) + 1)]) if rng.random() < 0.05 else bytes(mutant)


@pytest.mark.parametrize(
    "name",
    ["good-zip.pt", "good-legacy.pt", "good-p2.pkl", "good-p4.pkl", "good-p5.pkl", "good.npy", "good.safetensors"],
)
def test_only_artifact_errors_leave(hostile, tmp_path, name):
    good = hostile.good_files()
    rng = random.Random(name)
    outcomes = {"read": 0, "refused": 0}
    without_hint = []
    for number in range(MUTANTS):
        mutant = mutate(good[name], list(good.values()), rng)
        try:
            file = ForeignFile(tmp_path / name, mutant, Limits())
            file.plain(file.root)
            outcomes["read"] += 1
        except ArtifactError as error:
            outcomes["refused"] += 1
            if not error.hint:
                without_hint.append((number, str(error)))
    assert without_hint == []
    assert outcomes["refused"] > MUTANTS // 4  # the mutants are not all harmless


def test_mutants_differ_from_the_original(hostile):
    data = hostile.good_files()["good-p4.pkl"]
    rng = random.Random(0)
    assert sum(mutate(data, [data], rng) != data for _ in range(200)) > 190
