"""The house rules: layers, closed wings, no circles (import-linter's contracts), and what must not import torch."""

import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/gsegkit_*/__init__.py"))
LIBRARIES = {"gsegkit_foreign"}  # no plugins: they may be heavy


def packages():
    return ["gsegkit", *(name for name in PLUGINS if importlib.util.find_spec(name) is not None)]


@pytest.fixture(scope="module")
def graph():
    grimp = pytest.importorskip("grimp")
    return grimp.build_graph(*packages(), exclude_type_checking_imports=False, cache_dir=None)


def circles(graph):
    """Groups of modules that import each other in a circle (strongly connected components, by Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph.find_modules_directly_imported_by(module)):
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            cut = stack.index(module)
            found.append(stack[cut:])
            del stack[cut:]

    for module in sorted(graph.modules):
        if module not in index:
            visit(module)
    return [group for group in found if len(group) > 1]


def test_no_module_imports_itself_by_a_detour(graph):
    """Circles = 0, imports for type checking included."""
    assert circles(graph) == []


def test_a_circle_would_be_found():
    grimp = pytest.importorskip("grimp")
    small = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        small.add_import(importer=importer, imported=imported)
    assert [sorted(group) for group in circles(small)] == [["a", "b", "c"]]


def test_the_contracts_are_kept():
    pytest.importorskip("importlinter")
    if len(packages()) <= len(PLUGINS):
        pytest.skip("needs all plugins")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def light_modules():
    import gsegkit.cli

    cli = [f"gsegkit.cli.{module.name}" for module in pkgutil.iter_modules(gsegkit.cli.__path__)]
    floor = ["gsegkit.engine.plan", "gsegkit.engine.choices", "gsegkit.engine.preflight", "gsegkit.classes.class_map"]
    found = [*cli, *floor]
    for name in packages()[1:]:
        if name not in LIBRARIES:
            folder = Path(importlib.util.find_spec(name).origin).parent
            found += [name, *(f"{name}.{part}" for part in ("config", "kit") if (folder / f"{part}.py").exists())]
    return found


def test_listing_and_checking_import_no_torch():
    """Each module alone would take seconds; together they must stay light, and the message names the guilty one."""
    code = (
        "import importlib, sys\n"
        f"for name in {light_modules()!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
