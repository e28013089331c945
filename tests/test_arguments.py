"""Whatever callers give to the Python API, it is used or refused in a sentence; no library's error gets out."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import gsegkit
import gsegkit.api
from gsegkit.errors import ConfigError, GsegkitError
from gsegkit.refining import made

VERBS = [getattr(gsegkit.api, name) for name in gsegkit.api.__all__ if inspect.isfunction(getattr(gsegkit.api, name))]
ODD = [
    None, 5, 1.5, True, b"x", [], [1, 2], ["a", None], {}, {1: 2}, np.zeros(3), torch.zeros(3), object(), Path, "a\0b",
]  # fmt: skip
REQUIRED = [
    (verb, name)
    for verb in VERBS
    for name, parameter in inspect.signature(verb).parameters.items()
    if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
]


def call(verb, tmp_path, **changed):
    """A verb with paths that do not exist for whatever it requires, some arguments replaced."""
    given = {name: str(tmp_path / "nothing") for owner, name in REQUIRED if owner is verb}
    return verb(**{**given, "num_samples": 3, **changed} if "num_samples" in given else {**given, **changed})


@pytest.mark.parametrize(("verb", "name"), REQUIRED, ids=lambda part: getattr(part, "__name__", part))
def test_what_is_no_path_or_name_is_one_sentence(verb, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for odd in ODD:
        with pytest.raises(GsegkitError) as caught:
            call(verb, tmp_path, **{name: odd})
        assert len(caught.value.message) < 500
        assert "\n" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "changed", "said"),
    [
        (gsegkit.load, {"kind": ["segmenter"]}, r"load\(kind=\.\.\.\) takes str, not \['segmenter'\]"),
        (gsegkit.load, {"device": None}, r"load\(device=\.\.\.\) takes str, not None"),
        (gsegkit.predict, {"formats": None}, r"predict\(formats=\.\.\.\) takes str \| Sequence\[str\]"),
        (gsegkit.predict, {"formats": [1]}, "not \\[1\\]"),
        (gsegkit.predict, {"refine": 5}, r"predict\(refine=\.\.\.\) takes"),
        (gsegkit.predict, {"refine": object()}, "not a object"),
        (gsegkit.predict, {"parts": "yes"}, r"predict\(parts=\.\.\.\) takes bool"),
        (gsegkit.evaluate, {"evaluator": 5}, r"evaluate\(evaluator=\.\.\.\) takes str, not 5"),
        (gsegkit.evaluate, {"options": ["match"]}, r"evaluate\(options=\.\.\.\) takes dict"),
        (gsegkit.evaluate, {"options": {5: 6}}, r"evaluate\(options=\.\.\.\) takes dict"),
        (gsegkit.export, {"format": 5}, r"export\(format=\.\.\.\) takes str, not 5"),
        (gsegkit.export, {"dtype": torch.uint8}, r"export\(dtype=\.\.\.\) takes str, not a dtype"),
        (gsegkit.synthesize, {"worker": 1}, r"takes tuple\[int, int\], not 1"),
        (gsegkit.synthesize, {"worker": (0, 1, 2)}, r"takes tuple\[int, int\]"),
        (gsegkit.synthesize, {"num_samples": True}, r"takes int, not True"),
        (gsegkit.train, {"seed": "0"}, r"takes int, not '0'"),
        (gsegkit.load, {"session": "mine"}, r"takes Session \| None"),
    ],
)
def test_options_are_what_the_signature_says(verb, changed, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as caught:
        call(verb, tmp_path, **changed)
    assert f"help(gsegkit.{verb.__name__})" in caught.value.hint


def test_numbers_and_texts_of_numpy_are_numbers_and_texts(tmp_path):
    with pytest.raises(GsegkitError, match="nothing"):
        call(gsegkit.synthesize, tmp_path, num_samples=np.int64(3), device=np.str_("cpu"), refine=[np.str_("holes")])


@pytest.mark.parametrize("odd", [5, b"x", {}, None, object(), ["holes", 5]])
def test_what_is_no_refiner_is_one_sentence(odd):
    with pytest.raises(ConfigError, match="is not a refiner"):
        made(odd)
