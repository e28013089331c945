import json
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from gsegkit.cli.option_table import option_table
from gsegkit.config import (
    Config,
    build_config,
    current_names,
    parse_assignments,
    parse_value,
    read_options_file,
)
from gsegkit.errors import ConfigError
from gsegkit.plugins import installed


class Sample(Config):
    k_init: int = Field(100, ge=2, description="clusters to begin with")
    space: Literal["z", "w"] = Field("w", description="latent space")
    scale: float | None = Field(None, gt=0, description="none = automatic")
    names: tuple[str, ...] = Field((), description="layers")


class WithProfile(Config):
    profiles = {"paper": {"lr": 0.1, "steps": 7}}
    profile: Literal["default", "paper"] = Field("default", description="set of constants")
    lr: float = Field(0.01, description="learning rate")
    steps: int = Field(3, description="steps")


@pytest.mark.parametrize(
    ("text", "value"),
    [("64", 64), ("1e-3", 1e-3), ("true", True), ("null", None), ('["b64.conv1"]', ["b64.conv1"]), ("w", "w")],
)
def test_values_are_json_first_text_otherwise(text, value):
    assert parse_value(text) == value


def test_assignments_are_grouped_by_part():
    parsed = parse_assignments(["extractor.k_init=64", "refine.area.max=0.5", "seg.lr=1e-3", "seg.name=a=b"])
    assert parsed == {
        "extractor": {"k_init": 64},
        "refine": {"area.max": 0.5},
        "seg": {"lr": 1e-3, "name": "a=b"},
    }


@pytest.mark.parametrize("text", ["k=1", "a.b", ".b=1", "a.=1", "=", ""])
def test_malformed_assignments_are_refused(text):
    with pytest.raises(ConfigError, match=r"does not have the form part\.option=value"):
        parse_assignments([text])


def test_the_same_option_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        parse_assignments(["a.b=1", "a.b=2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_int": 3}, "extractor.k_int: no such option; did you mean 'k_init'?"),
        ({"k_init": 1}, "extractor.k_init: input should be greater than or equal to 2 (got 1)"),
        ({"space": "wp"}, "extractor.space: input should be 'z' or 'w' (got 'wp')"),
    ],
)
def test_errors_name_the_option_and_the_remedy(options, message):
    with pytest.raises(ConfigError) as caught:
        build_config(Sample, options, "extractor")
    assert caught.value.message == message


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        build_config(Sample, {"k_init": 0, "scale": -1, "other": 2}, "x")
    assert caught.value.message.count(";") == 2


def test_config_is_frozen_and_round_trips_through_json():
    config = Sample(k_init=5, names=("a",))
    with pytest.raises(ValueError):
        config.k_init = 6
    assert Sample(**json.loads(config.model_dump_json())) == config


def test_profile_replaces_defaults_and_the_user_wins_over_both():
    assert build_config(WithProfile, {"profile": "paper"}, "x").lr == 0.1
    mixed = build_config(WithProfile, {"profile": "paper", "lr": 0.5}, "x")
    assert (mixed.lr, mixed.steps) == (0.5, 7)
    assert WithProfile(**mixed.model_dump()) == mixed


def test_option_table_shows_types_bounds_defaults_and_help():
    rows = {row.name: row for row in option_table(Sample)}
    assert rows["k_init"].type == "integer >= 2"
    assert rows["space"].type == "z | w"
    assert rows["scale"].type == "number > 0 or none"
    assert rows["k_init"].default == "100"
    assert rows["k_init"].help == "clusters to begin with"


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", "a = 1"), ("a.json", '{"a": 1}'), ("a.yaml", "a: 1"), ("a.yml", "a: 1")]
)
def test_option_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_options_file(tmp_path / name) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "a = = 1", "not valid toml"),
        ("a.json", "{", "not valid json"),
        ("a.yaml", "a: [", "not valid yaml"),
        ("a.yaml", "- 1", "holds \\[1\\], not a table"),
        ("a.ini", "a=1", "has no format that is known by its suffix '.ini'"),
        ("absent.toml", None, "cannot read"),
    ],
)
def test_bad_option_files(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_options_file(tmp_path / name)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=3))
def test_any_options_give_a_config_or_one_config_error(options):
    try:
        assert isinstance(build_config(Sample, options, "x"), Sample)
    except ConfigError as error:
        assert error.message


def test_old_names_are_read_in_stored_records_and_nowhere_else():
    class Renamed(Config):
        renamed = {"batch": "batch_size"}
        batch_size: int = Field(4, description="images per step")

    assert current_names(Renamed, {"batch": 7}) == {"batch_size": 7}
    assert build_config(Renamed, current_names(Renamed, {"batch": 7}), "x").batch_size == 7
    with pytest.raises(ConfigError, match=r"x\.batch: no such option"):
        build_config(Renamed, {"batch": 7}, "x")


def test_every_renamed_option_leads_to_one_that_exists():
    for entry in installed().entries:
        cls = entry.config_class()
        assert set(cls.renamed.values()) <= set(cls.model_fields), entry.full_name
        assert not set(cls.renamed) & set(cls.model_fields), entry.full_name
