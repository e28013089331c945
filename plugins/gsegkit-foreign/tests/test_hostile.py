"""Hostile files are refused: nothing runs, nothing is written, memory stays bounded."""

from pathlib import Path

import pytest
from gsegkit_foreign.audit import audit

READER = "gsegkit_foreign:inspect"
MEMORY = 300 << 20  # bytes; the largest hostile file has 64 MB


def read_all(folder: Path, cases: dict[str, bytes], good: dict[str, bytes]):
    for name, data in {**cases, **good}.items():
        (folder / name).write_bytes(data)
    return audit(READER, [folder / name for name in good], [folder / name for name in (*cases, *good)])


@pytest.fixture(scope="module")
def audited(hostile, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    canary = tmp_path_factory.mktemp("canary") / "ran"
    groups = {
        "executing": hostile.executing(canary),
        "bombs": hostile.bombs(),
        "broken": hostile.broken(),
        "truncated": hostile.truncated(),
    }
    good = hostile.good_files()
    cases = {name: data for group in groups.values() for name, data in group.items()}
    return groups, good, read_all(folder, cases, good), canary


def test_the_payloads_are_live(hostile, tmp_path):
    """The canary proves nothing unless ordinary loading would touch it."""
    import pickle

    canary = tmp_path / "ran"
    pickle.loads(hostile.executing(canary)["system-p2.pkl"])
    assert canary.exists()


@pytest.mark.parametrize(("group", "least"), [("executing", 60), ("bombs", 40), ("broken", 85), ("truncated", 100)])
def test_every_case_is_refused(audited, group, least):
    groups, _, rows, _ = audited
    assert len(groups[group]) >= least
    missing = [name for name in groups[group] if name not in rows]
    assert not missing, "the reading process died"
    wrong = {n: (rows[n].outcome, rows[n].message) for n in groups[group] if rows[n].outcome != "refused"}
    assert wrong == {}


def test_nothing_ran(audited):
    _, _, rows, canary = audited
    assert not canary.exists()
    assert {name: row.events for name, row in rows.items() if row.events} == {}


def test_memory_and_time_stay_bounded(audited):
    rows = audited[2]
    assert {name: row.grown for name, row in rows.items() if row.grown > MEMORY} == {}
    assert {name: row.seconds for name, row in rows.items() if row.seconds > 30} == {}


def test_messages_name_file_and_remedy(audited):
    _, good, rows, _ = audited
    for name, row in rows.items():
        if name not in good:
            assert name in row.message, name
            assert row.message.endswith(")"), f"{name}: no hint in {row.message}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("html.pkl", "web page"),
        ("lfs.pkl", "git lfs pull"),
        ("empty.pt", "an empty file"),
        ("gzip.pt", "gunzip"),
        ("tar.pt", "tar archive"),
        ("json.pt", "JSON"),
        ("system-p4.pkl", "executable pickle (posix.system)"),
        ("torchscript.pt", "TorchScript"),
        ("stride-zero.pt", "does not fit its storage"),
        ("zip-deflated.pt", "compressed"),
        ("safetensors-twice.safetensors", "twice"),
    ],
)
def test_what_was_found_is_said(audited, name, words):
    assert words in audited[2][name].message


def test_messages_cannot_steer_a_terminal(audited):
    assert all(row.message.isprintable() for row in audited[2].values())


def test_honest_files_are_read(audited):
    _, good, rows, _ = audited
    assert {name: rows[name].message for name in good if rows[name].outcome != "read"} == {}
