"""The boundary through which JSON, YAML and TOML enter: bounds, plain types, and messages that end."""

import json
import time

import pytest

from gsegkit.config import Config, build_config, parse_value, read_options_file
from gsegkit.errors import ArtifactError, ConfigError, ContractError
from gsegkit.records.files import MAX_BYTES, Record, read_json, read_metrics, read_value
from gsegkit.records.text import UnreadableError, json_value, non_finite, printable, shown, toml_value, yaml_value
from gsegkit.storage import atomic_write_json, file_hash
from gsegkit.tensors import read_safetensors

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
CHAIN = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else ''}]\n" for i in range(5000))

HOSTILE = {
    "an alias bomb": (yaml_value, BOMB, "more than 2,000,000 values"),
    "a bomb by merging": (yaml_value, BOMB.replace("[", "{<<: [").replace("]", "]}"), "more than 2,000,000 values"),
    "a chain of aliases": (yaml_value, CHAIN, "more than 100 deep"),
    "an alias to itself": (yaml_value, "a: &a [*a]", "lies in what it stands for"),
    "deep yaml": (yaml_value, "[" * 50_000, "more than 100 deep"),
    "deep yaml in lines": (yaml_value, "- " * 50_000, "more than 100 deep"),
    "a python object": (yaml_value, "!!python/object/apply:os.system [ls]", "not valid yaml"),
    "bytes": (yaml_value, "!!binary aGk=", "type bytes"),
    "a key twice": (yaml_value, "a: 1\na: 2", "'a' twice"),
    "two documents": (yaml_value, "a\n--- b", "not valid yaml"),
    "not a number": (yaml_value, "a: .nan", "not finite"),
    "a yaml number of 5000 digits": (yaml_value, "a: " + "1" * 5000, "not valid yaml"),
    "deep json": (json_value, "[" * 50_000, "more than 100 deep"),
    "deep json objects": (json_value, '{"a":' * 50_000, "more than 100 deep"),
    "just too deep": (json_value, "[" * 101 + "]" * 101, "more than 100 deep"),
    "NaN": (json_value, '{"a": NaN}', "not finite"),
    "infinity by its exponent": (json_value, "[1e999]", "not finite"),
    "a number of 5000 digits": (json_value, "1" * 5000, "not valid json"),
    "a number of 50 digits": (json_value, "1" * 50, "50 digits"),
    "a name twice": (json_value, '{"a": 1, "a": 2}', "'a' twice"),
    "millions of values": (json_value, "[" + "[]," * 2_500_000 + "[]]", "more than 2,000,000 values"),
    "other bytes": (json_value, b"\xff\xfe", "not UTF-8"),
    "deep toml": (toml_value, "a = " + "[" * 5000, "more than 100 deep"),
    "a key of many parts": (toml_value, "a." * 20_000 + "b = 1", "more than 100 deep"),
    "a date": (toml_value, "a = 2024-05-01", "type date"),
    "toml infinity": (toml_value, "a = inf", "not finite"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused_at_once_in_one_short_sentence(name):
    read, text, message = HOSTILE[name]
    began = time.monotonic()
    with pytest.raises(UnreadableError, match=message) as caught:
        read(text)
    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_an_ordinary_text_is_read():
    assert json_value('\ufeff{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}
    assert json_value(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert json_value("[" * 99 + "1" + "]" * 99)
    assert toml_value("\ufeffa.b.c = 1.5\n") == {"a": {"b": {"c": 1.5}}}
    assert yaml_value("x: &x {a: 1}\ny: {<<: *x, b: 2}\nz: [*x, *x]")["y"] == {"a": 1, "b": 2}
    assert yaml_value("") is None


def test_words_of_yaml_stay_words():
    assert yaml_value("[no, yes, on, off, 2024-05-01, true, False]") == [
        "no",
        "yes",
        "on",
        "off",
        "2024-05-01",
        True,
        False,
    ]


@pytest.mark.parametrize("suffix", [".json", ".toml", ".yaml"])
def test_a_file_that_is_too_large_or_no_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.mkdir()
    with pytest.raises(ConfigError):
        read_options_file(path)
    large = tmp_path / f"b{suffix}"
    with open(large, "wb") as file:
        file.truncate((64 << 20) + 1)  # sparse: no byte of it is on the disk
    with pytest.raises(ConfigError, match="bytes; at most"):
        read_options_file(large)
    assert MAX_BYTES < 1 << 20


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "p.json")
    with pytest.raises(ArtifactError, match="not a regular file"):
        read_json(tmp_path / "p.json")
    with pytest.raises(OSError, match="not a regular file"):
        read_value(tmp_path / "p.json")
    with pytest.raises(ArtifactError, match="not a regular file"):
        read_safetensors(tmp_path / "p.json")
    with pytest.raises(OSError, match="not a regular file"):
        file_hash(tmp_path / "p.json")
    assert read_metrics(tmp_path / "p.json") == []


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    for value in ({"a": [1, {"b": float("nan")}]}, {"a": float("inf")}):
        with pytest.raises(ContractError, match=r"'.*r\.json' would hold a number that is not finite: a"):
            atomic_write_json(tmp_path / "r.json", value)
    assert not list(tmp_path.iterdir())
    assert non_finite({"per_class": {"leaf": {"iou": [0.5, float("nan")]}}}) == "per_class.leaf.iou.1"


def test_a_value_in_a_message_is_short_whatever_it_is():
    value: list = []
    for _ in range(40):
        value = [value] * 40
    began = time.monotonic()
    assert len(shown(value)) <= 200
    assert len(shown("x" * 10**7)) <= 200
    assert len(shown({f"k{i}": "x" * 1000 for i in range(1000)})) <= 200
    assert time.monotonic() - began < 2


def test_messages_about_options_are_short_whatever_was_given():
    class Options(Config):
        size: int = 1

    value: list = ["x"]
    for _ in range(30):
        value = [value] * 30
    for options in ({"size": value}, {"y" * 10**6: 1}, {f"o{i}": 1 for i in range(10_000)}):
        with pytest.raises(ConfigError) as caught:
            build_config(Options, options, "gen")
        assert len(caught.value.message) < 30 * 700
    with pytest.raises(ConfigError, match="finite number"):
        build_config(type("F", (Config,), {"__annotations__": {"lr": float}, "lr": 1.0}), {"lr": float("nan")}, "seg")


@pytest.mark.parametrize("text", ["[" * 50_000, "1" * 5000, "NaN", "1e999", "{"])
def test_a_command_line_value_that_is_no_bounded_json_is_text(text):
    assert parse_value(text) == text


def test_names_that_are_not_utf8_survive_in_json(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    atomic_write_json(tmp_path / "a.json", {name: "é"})
    assert read_json(tmp_path / "a.json") == {name: "é"}
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {name: "é"}


def test_what_would_steer_a_terminal_is_escaped_and_words_of_all_scripts_stay():
    assert printable("a\x1b[31m\r\x07\u202e\udce9") == "a\\x1b[31m\\r\\x07\\u202e\\udce9"
    words = "葉 🍃 naïve नमस्ते \u0928\u200d 👩\u200d🔬 a\u3000b"
    assert printable(words) == words


def test_a_record_of_another_shape_is_one_error(tmp_path):
    class Kept(Record):
        rows: int

    for text in ("[]", "3", "null", "{}", '{"rows": "a"}', '{"rows": [[[]]]}', "[" * 9999):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(ArtifactError) as caught:
            Kept.read(tmp_path / "r.json")
        assert "r.json" in caught.value.message
        assert caught.value.hint
    (tmp_path / "r.json").write_text('{"rows": 3, "later": 1}')
    assert Kept.read(tmp_path / "r.json").rows == 3
