import subprocess
import sys
from importlib import metadata

import pytest

from gsegkit import plugins
from gsegkit.errors import MissingDependencyError, PluginConflictError, PluginLoadError, UnknownPluginError
from gsegkit.plugins import Component, Registry, hookimpl


class Plugin:
    def __init__(self, *components):
        self.components = components

    @hookimpl
    def gsegkit_components(self):
        return self.components


def component(name="thing", kind="refiner", **more):
    return Component(kind=kind, name=name, target=more.pop("target", "collections:OrderedDict"), **more)


def test_find_by_name_and_by_alias(registry):
    assert registry.find("gen", "toy").dist == "gsegkit"
    assert registry.find("generator", "toy@gsegkit").component.name == "toy"


def test_a_clash_is_listed_and_is_an_error_only_when_the_name_is_used():
    registry = Registry()
    registry.add(Plugin(component(), component("other")), "one")
    registry.add(Plugin(component()), "two")
    assert list(registry.conflicts()) == [("refiner", "thing")]
    assert registry.find("refiner", "other").dist == "one"
    assert registry.find("refiner", "thing@two").dist == "two"
    with pytest.raises(PluginConflictError, match="offered by one and by two") as caught:
        registry.find("refiner", "thing")
    assert caught.value.hint == "write thing@one or thing@two"


def test_two_entry_points_of_one_distribution_both_count():
    registry = Registry()
    registry.add(Plugin(component("a")), "dist", entry_point="first")
    registry.add(Plugin(component("b")), "dist", entry_point="second")
    assert [entry.component.name for entry in registry.of_kind("refiner")] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("generator", "stylegan2", "pip install gsegkit-stylegan"),
        ("generator", "toi", "did you mean 'toy'?"),
        ("generator", "native", "'native' is of the kind extractor, not generator"),
        ("generator", "qqqqqq", "installed: mean, toy"),
    ],
)
def test_unknown_names_answer_with_the_remedy(registry, kind, name, hint):
    with pytest.raises(UnknownPluginError) as caught:
        registry.find(kind, name)
    assert caught.value.hint == hint


def test_unknown_kind(registry):
    with pytest.raises(UnknownPluginError, match="no component kind 'thing'"):
        registry.find("thing", "toy")


class Raises:
    def __init__(self, error):
        self.error = error

    @hookimpl
    def gsegkit_components(self):
        raise self.error


class MisspeltHook:
    @hookimpl
    def gsegkit_componnts(self):
        return []


@pytest.mark.parametrize(
    "plugin",
    [
        Raises(RuntimeError("operator torchvision::nms does not exist")),
        Raises(SystemExit(3)),
        Raises(RecursionError()),
        MisspeltHook(),
        Plugin(component(api=99)),
        Plugin(component(kind="painter")),
        Plugin(component(provides=("wings",))),
        Plugin("not a component"),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_live(plugin):
    registry = Registry()
    registry.add(plugin, "bad")
    registry.add(Plugin(component()), "good")
    assert [failure.dist for failure in registry.failures] == ["bad"]
    assert registry.failures[0].reason
    assert registry.find("refiner", "thing").dist == "good"


def test_missing_package_is_told_with_the_command(registry):
    registry.add(Plugin(component(modules=("no_such_package",), extra="gsegkit-x[cpu]")), "x")
    entry = registry.find("refiner", "thing")
    assert entry.missing_modules() == ["no_such_package"]
    with pytest.raises(MissingDependencyError) as caught:
        entry.build()
    assert caught.value.hint == "pip install 'gsegkit-x[cpu]'"


@pytest.mark.parametrize("target", ["no_such_module:Thing", "collections:NoSuchClass"])
def test_a_target_that_cannot_be_imported_blames_the_plugin(target):
    registry = Registry()
    registry.add(Plugin(component(target=target)), "bad")
    with pytest.raises(PluginLoadError, match="thing@bad"):
        registry.find("refiner", "thing").build()


def test_a_constructor_that_fails_blames_the_plugin():
    registry = Registry()
    registry.add(Plugin(component(target="fractions:Fraction")), "bad")
    with pytest.raises(PluginLoadError, match="could not be constructed: TypeError"):
        registry.find("refiner", "thing").build()


def fake_point(name, dist, load):
    class Point(metadata.EntryPoint):
        def load(self):
            return load()

    point = Point(name=name, value="x", group="gsegkit")
    vars(point)["dist"] = type("Dist", (), {"name": dist, "version": "1"})()
    return point


def test_discovery_isolates_failures_keeps_equal_names_apart_and_obeys_the_switch(monkeypatch):
    def broken():
        raise RuntimeError("wheel mismatch")

    def leaves():
        raise SystemExit(1)

    points = [
        fake_point("plugin", "a", lambda: Plugin(component("from-a"))),
        fake_point("plugin", "b", lambda: Plugin(component("from-b"))),
        fake_point("plugin", "broken", broken),
        fake_point("plugin", "leaves", leaves),
        fake_point("off", "c", lambda: Plugin(component("from-c"))),
    ]
    monkeypatch.setattr(plugins, "_entry_points", lambda: iter(points))
    registry = plugins.discover(disabled=["c"])
    assert [entry.component.name for entry in registry.of_kind("refiner")] == ["from-a", "from-b"]
    assert {failure.dist for failure in registry.failures} == {"broken", "leaves"}
    assert plugins.discover(disabled=["*"]).entries == []


def test_listing_imports_no_torch():
    code = (
        "import sys\nfrom gsegkit.plugins import installed\nfrom gsegkit import cli\n"
        "assert installed().find('generator', 'toy')\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
