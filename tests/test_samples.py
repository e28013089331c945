"""Photographs that ship with a plugin: copied on request, never over something else, and shown in the report."""

import json

import pytest

import gsegkit
from gsegkit.cli.main import main
from gsegkit.errors import ConfigError, UnknownPluginError


def test_they_are_copied_with_their_attribution(tmp_path):
    copied = gsegkit.copy_samples("blood-cells", tmp_path / "photos")
    assert len(copied) == 24
    assert all(path.parent == tmp_path / "photos" for path in copied)
    assert "CC BY 4.0" in (tmp_path / "photos" / "ATTRIBUTION.txt").read_text()


def test_copying_again_changes_nothing(tmp_path):
    first = {path: path.stat().st_mtime_ns for path in gsegkit.copy_samples("portraits", tmp_path)}
    assert {path: path.stat().st_mtime_ns for path in gsegkit.copy_samples("portraits", tmp_path)} == first


def test_a_file_of_the_user_is_never_replaced(tmp_path):
    mine = tmp_path / "ATTRIBUTION.txt"
    mine.write_text("my own notes")
    with pytest.raises(ConfigError, match="exists with other content"):
        gsegkit.copy_samples("blood-cells", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ATTRIBUTION.txt"]
    assert mine.read_text() == "my own notes"


def test_an_unknown_name_is_told_with_the_known_ones(tmp_path):
    with pytest.raises(UnknownPluginError, match="blood-cell"):
        gsegkit.copy_samples("blood-cell", tmp_path)


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["gsegkit", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_copies_and_says_what_comes_next(tmp_path, monkeypatch, capsys):
    assert run_command(monkeypatch, "samples", "blood-cells", "--out", tmp_path / "photos") == 0
    assert "next: gsegkit predict RUN" in capsys.readouterr().err
    assert len(list((tmp_path / "photos").glob("*.jpg"))) == 24


def test_the_command_lists_them_without_a_name(monkeypatch, capsys):
    assert run_command(monkeypatch, "samples", "--json") == 0
    listed = {item["name"] for item in json.loads(capsys.readouterr().out)["components"]}
    assert listed >= {"blood-cells", "portraits"}


def test_the_command_asks_for_a_folder(monkeypatch, capsys):
    assert run_command(monkeypatch, "samples", "blood-cells") == 2
    assert "--out" in capsys.readouterr().err


def test_the_report_shows_the_samples_of_the_generators_weights(tmp_path):
    result = gsegkit.run(
        "stylegan2", "kmeans", "unet", out=tmp_path / "run", smoke=True,
        options=["gen.weights=blood-cells-64"],
    )  # fmt: skip
    index = json.loads((tmp_path / "run" / "report" / "predictions" / "index.json").read_text())
    photographs = {path.stem for path in gsegkit.copy_samples("blood-cells", tmp_path / "photos")}
    assert index
    assert set(index.values()) <= photographs
    assert result.report is None
