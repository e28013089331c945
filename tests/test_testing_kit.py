"""The conformance kit: options and records, capabilities, settings, and how results are told.

The defects of each kind are in tests/kit.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ConfigDict, Field

from gsegkit.builtin.native import Native
from gsegkit.builtin.toy import Toy, ToyConfig
from gsegkit.config import Config
from gsegkit.errors import ConfigError, UnknownPluginError
from gsegkit.interfaces import KMeans, MaskExtractor, Refiner
from gsegkit.plugins import Component, Entry, Registry, hookimpl, installed
from gsegkit.testing import (
    CheckFailedError,
    CheckSkippedError,
    KitSettings,
    Subject,
    check_generator,
    check_kmeans,
    checks_for,
    run_checks,
)

TOY = ("latent-grad", "features", "feature-edit", "masks", "classes", "truth")


class Keep(Refiner):
    """A good one."""

    def refine(self, batch):
        return batch


class NotFinite(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images / 0)


# ---- options -------------------------------------------------------------------------------------------------------


class Bare(Config):
    size: int = 3


class Lax(Config):
    model_config = ConfigDict(extra="ignore")


class OneWay(Config):
    size: int = Field(3, ge=3, description="size", exclude=True)


class Nested(Config):
    one: OneWay = Field(OneWay(size=4), description="lost by JSON")


class LosesOptions(Keep):
    def __init__(self, config):
        super().__init__(Bare(size=config.size + 1))


@pytest.mark.parametrize(
    ("cls", "config", "check", "message"),
    [
        (Keep, Bare(), "default-options", "config.*: option 'size' has no description"),
        (Keep, Lax(), "unknown-option", "config.*: an unknown option must raise ConfigError, but nothing"),
        (Keep, Nested(), "options-through-json", "config.*: comes back from JSON as"),
        (LosesOptions, Bare(), "default-construction", "__init__.*: did not keep its options"),
    ],
)
def test_wrong_options_are_caught(cls, config, check: str, message: str) -> None:
    subject = Subject.of_part("refiner", lambda: cls(config))
    with pytest.raises(CheckFailedError, match=f"refiner '{cls.__name__}', {message}"):
        dict(checks_for(subject))[check]()


@pytest.mark.parametrize(
    ("error", "outcome"), [(UnknownPluginError, CheckSkippedError), (ConfigError, CheckFailedError)]
)
def test_defaults_that_name_what_is_not_installed_are_skipped(error, outcome) -> None:
    """Such as weights of another distribution; any other refusal of its own defaults is a fault."""

    def construct(config):
        raise error("no weights 'faces'", "pip install gsegkit-faces")

    subject = replace(Subject.of_part("refiner", lambda: Keep(Bare())), construct=construct)
    with pytest.raises(outcome, match="no weights 'faces'"):
        dict(checks_for(subject))["default-construction"]()


# ---- the kit -------------------------------------------------------------------------------------------------------


def test_one_function_a_kind() -> None:
    with pytest.raises(CheckFailedError, match=r"images: generator 'NotFinite', sample\(\): images hold NaN"):
        check_generator(lambda: NotFinite(ToyConfig(size=20)), provides=TOY)
    check_kmeans(installed().find("kmeans", "torch@gsegkit"))


def test_capabilities_select_the_checks() -> None:
    toy = Subject.of_part("generator", lambda: Toy(ToyConfig(size=20)))
    assert not {"latent-gradients", "features", "edits", "masks", "training"} & dict(checks_for(toy)).keys()
    full = Subject.of_part("generator", lambda: Toy(ToyConfig(size=20)), provides=TOY)
    assert {"latent-gradients", "features", "edits", "masks"} <= dict(checks_for(full)).keys()


def test_settings_give_options_and_expected_failures() -> None:
    entry = installed().find("generator", "toy@gsegkit")
    settings = KitSettings(options={"size": 17}, expected_failures={"truth": "no reason", "images": "a reason"})
    results = {result.check: result for result in run_checks(entry, settings)}
    assert results["images"].status == results["truth"].status == "unexpected"
    assert "a reason" in results["images"].message
    subject = Subject.of_entry(entry, settings)
    assert subject.make().info.height == 17

    broken = Subject.of_part("generator", lambda: NotFinite(ToyConfig(size=20)), settings=settings, provides=TOY)
    results = {result.check: result for result in run_checks(broken)}
    assert results["images"].status == "expected"
    assert results["images"].message.startswith("a reason: generator 'NotFinite'")


def test_settings_that_name_no_check_are_caught() -> None:
    settings = KitSettings(expected_failures={"smell": "it does"}, slow=("images", "taste"))
    check = dict(checks_for(installed().find("generator", "toy@gsegkit"), settings))["settings"]
    with pytest.raises(CheckFailedError, match=r"no check \['smell', 'taste'\]"):
        check()


def test_a_plugin_that_cannot_be_imported_is_a_result_not_a_crash() -> None:
    class Plugin:
        @hookimpl
        def gsegkit_components(self):
            return [Component("extractor", "lost", "no_such_module:X", config="no_such_module.config:Y")]

    registry = Registry()
    registry.add(Plugin(), "gsegkit-lost", "1.0")
    (result,) = run_checks(registry.find("extractor", "lost"))
    assert (result.check, result.status) == ("import", "failed")
    assert "no_such_module" in result.message


def test_a_missing_package_skips_what_needs_it() -> None:
    component = Component("extractor", "faraway", "x:Y", summary="needs much", modules=("no_such_module",))
    results = {result.check: result.status for result in run_checks(Entry(component, "gsegkit-faraway", "1"))}
    assert results["default-construction"] == "skipped"
    assert results["record"] == "skipped"
    assert "failed" not in results.values()


def test_a_heavy_config_module_is_caught(tmp_path, monkeypatch) -> None:
    text = 'import scipy\nfrom gsegkit.config import Config\nclass Heavy(Config):\n    """Options."""\n'
    (tmp_path / "gsegkit_heavy_options.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    component = Component(
        "extractor", "heavy", "gsegkit.builtin.native:Native", "gsegkit_heavy_options:Heavy", summary="x"
    )
    check = dict(checks_for(Entry(component, "gsegkit-heavy", "1")))["light-import"]
    with pytest.raises(CheckFailedError, match="importing gsegkit_heavy_options imports scipy"):
        check()


def test_a_wrong_record_is_caught() -> None:
    component = Component("refiner", "Not_Good", "gsegkit.builtin.native:Native", summary="x")
    results = {result.check: result.message for result in run_checks(Entry(component, "d", "1"))}
    assert "name 'Not_Good' is not like-this" in results["record"]
    component = Component("refiner", "native", "gsegkit.builtin.native:Native", summary="x")
    results = {result.check: result.message for result in run_checks(Entry(component, "d", "1"))}
    assert "not a subclass of gsegkit.interfaces.Refiner" in results["record"]


def test_abstract_parts_name_what_is_missing() -> None:
    class Half(Native):
        extract = MaskExtractor.extract

    class HalfKMeans(KMeans):
        def fit(self, points, k, seed):
            return points[:k], torch.zeros(len(points), dtype=torch.int64)

    Half.__abstractmethods__ = frozenset({"extract"})
    for cls, name in ((Half, "extract"), (HalfKMeans, "used_device")):
        with pytest.raises(TypeError, match=name):
            cls(Config())
