import subprocess
import sys
from importlib import metadata

import pytest

from gsegkit import plugins
from gsegkit.errors import MissingDependencyError, PluginConflictError, PluginLoadError, UnknownPluginError
from gsegkit.plugins import OLDEST_API, PLUGIN_API, Component, Registry, hookimpl


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
    with pytest.raises(PluginConflictError, match="provided by one and by two") as caught:
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
        Plugin(component(kind="oracle")),
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


# ---- isolation of hooks ------------------------------------------------------------------------------------------------


class HalfWay:
    """Its hook fails after a first good component."""

    @hookimpl
    def gsegkit_components(self):
        yield component("first")
        raise RuntimeError("second item")


class WrongSignature:
    @hookimpl
    def gsegkit_components(self, registry):
        return [component("first")]


@pytest.mark.parametrize("plugin", [HalfWay(), WrongSignature(), Plugin(component("first"), component(kind="oracle"))])
def test_a_plugin_that_fails_half_way_leaves_nothing(plugin):
    registry = Registry()
    registry.add(plugin, "bad")
    assert registry.entries == []
    assert [failure.dist for failure in registry.failures] == ["bad"]
    assert registry.manager.get_plugins() == set()


@pytest.mark.parametrize(("api", "remedy"), [(0, "upgrade the plugin"), (99, "upgrade gsegkit")])
def test_another_plugin_interface_is_refused_and_both_are_named(api, remedy):
    registry = Registry()
    registry.add(Plugin(component(api=api)), "x")
    error = registry.failures[0].error
    assert f"plugin interface {api}; this gsegkit supports {OLDEST_API} to {PLUGIN_API}" in str(error)
    assert remedy in error.hint


def test_every_interface_of_the_range_is_accepted(monkeypatch):
    monkeypatch.setattr(plugins, "PLUGIN_API", 3)
    registry = Registry()
    registry.add(Plugin(*(component(f"c{api}", api=api) for api in (1, 2, 3))), "x")
    assert len(registry.entries) == 3


def command_names(app):
    from typer.main import get_group

    return set(get_group(app).commands)


def commands_of(*plugins):
    """Add plugins' commands to a small application: its names afterwards, and the failures."""
    import typer

    from gsegkit.cli.extensions import add_commands

    app, registry = typer.Typer(), Registry()
    app.command("run")(lambda: None)
    app.callback()(lambda: None)
    for number, plugin in enumerate(plugins):
        registry.add(plugin, f"dist{number}")
    failures = add_commands(app, registry, ["run"])
    assert registry.failures == failures
    return command_names(app), failures


def commander(add):
    class Commander:
        @hookimpl
        def gsegkit_commands(self, app):
            return add(app)

    return Commander()


def raises(error):
    def add(app):
        app.command("half")(lambda: None)
        raise error

    return commander(add)


def a_generator(app):
    app.command("half")(lambda: None)
    yield
    raise RuntimeError("second item")


def unbuildable(app):
    @app.command("odd")
    def odd(value: complex | bytes | dict) -> None: ...


good = commander(lambda app: app.command("good")(lambda: None))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (raises(RuntimeError("boom")), "RuntimeError: boom"),
        (raises(SystemExit(3)), "SystemExit: 3"),
        (raises(KeyError("x")), "KeyError"),
        (commander(a_generator), "second item"),
        (commander(unbuildable), ""),
        (commander(lambda app: app.command("run")(lambda: None)), "the command 'run' of dist0 is one of gsegkit's"),
        (commander(lambda app: app.no_such_thing), "AttributeError"),
    ],
)
def test_commands_that_cannot_be_used_are_left_out_whole_and_the_others_live(bad, reason):
    names, failures = commands_of(bad, good)
    assert names == {"run", "good"}
    assert [failure.dist for failure in failures] == ["dist0"]
    assert reason in failures[0].reason


def test_of_two_plugins_with_one_command_the_later_is_left_out():
    names, failures = commands_of(good, commander(lambda app: app.command("good")(lambda: None)))
    assert names == {"run", "good"}
    assert len(failures) == 1


def test_groups_of_commands_are_added_and_may_not_shadow_either():
    import typer

    group = typer.Typer(name="group")
    group.command("one")(lambda: None)
    shadow = typer.Typer(name="run")
    shadow.command("one")(lambda: None)
    names, failures = commands_of(
        commander(lambda app: app.add_typer(group)), commander(lambda app: app.add_typer(shadow))
    )
    assert names == {"run", "group"}
    assert [failure.dist for failure in failures] == ["dist1"]


def test_a_commands_hook_with_a_wrong_signature_is_a_failure():
    class Wrong:
        @hookimpl
        def gsegkit_commands(self, application):
            raise AssertionError

    registry = Registry()
    registry.add(Wrong(), "bad")
    assert [failure.dist for failure in registry.failures] == ["bad"]
    assert registry.callers("gsegkit_commands") == []


@pytest.mark.parametrize("completing", [False, True])
def test_the_command_line_warns_in_one_line_and_never_while_completing(monkeypatch, capsys, completing):
    from gsegkit.cli import main

    registry = Registry()
    registry.add(raises(RuntimeError("boom")), "bad")
    monkeypatch.setattr(main, "installed", lambda: registry)
    monkeypatch.setattr("sys.argv", ["gsegkit", "--version"])
    if completing:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "gsegkit ru")
    with pytest.raises(SystemExit):
        main.main()
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines == ([] if completing else [
        "warning: the commands of plugin bad are left out (RuntimeError: boom); see gsegkit doctor"
    ])  # fmt: skip
