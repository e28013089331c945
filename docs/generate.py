"""Write docs/reference/ from the installed parts: `uv run python docs/generate.py`; `--check` only compares."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import typer

import gsegkit
from gsegkit.capabilities import CAPABILITIES
from gsegkit.cli import main as cli
from gsegkit.cli.option_table import option_table
from gsegkit.engine.plan import Plan
from gsegkit.plugins import KINDS, Entry, HookSpec, installed

FOLDER = Path(__file__).parent / "reference"
HEADER = "<!-- Written by docs/generate.py; do not edit. -->\n\n"


def components() -> str:
    """Every component of every kind with its options."""
    registry = installed()
    text = HEADER + "# Components\n"
    for kind, meaning in KINDS.items():
        entries = registry.of_kind(kind)
        if entries:
            text += f"\n## {kind}: {meaning}\n"
        for entry in entries:
            text += _component(entry)
    return text


def _component(entry: Entry) -> str:
    component = entry.component
    text = f"\n### {component.name}\n\n{component.summary[:1].upper()}{component.summary[1:]}. From `{entry.dist}`.\n"
    facts = {
        "Paper": component.paper,
        "Licence": component.licence if component.licence != "Apache-2.0" else "",
        "Provides": ", ".join(f"`{name}`" for name in component.provides),
        "Needs": ", ".join(f"`{name}`" for name in (*component.requires, *component.inputs)),
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value]
    text += ("\n" + "\n".join(lines) + "\n") if lines else ""
    return text + _options(entry.config_class())


def _options(config: type) -> str:
    rows = option_table(config)
    if not rows:
        return ""
    text = "\n| option | type | default | meaning |\n| --- | --- | --- | --- |\n"
    for row in rows:
        cells = (f"`{row.name}`", row.type, f"`{row.default}`", row.help)
        text += "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
    return text


def commands() -> str:
    """Every command with its arguments and options, those of plugins at the end."""
    installed().manager.hook.gsegkit_commands(app=cli.app)
    group = typer.main.get_command(cli.app)
    text = HEADER + "# Command line\n\nUser errors end with exit code 2, a stop by Ctrl-C with 130.\n"
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        text += _command(f"gsegkit {name}", command)
    return text


def _command(path: str, command: Any) -> str:
    inner = getattr(command, "commands", {})
    if inner:
        return "".join(_command(f"{path} {name}", each) for name, each in inner.items())
    text = f"\n## {path}\n\n{command.help}\n\n| argument | meaning |\n| --- | --- |\n"
    for parameter in command.params:
        named = parameter.param_type_name == "option"
        shown = ", ".join(parameter.opts) if named else str(parameter.metavar or parameter.name).upper()
        if shown != "--help":
            text += f"| `{shown}` | {getattr(parameter, 'help', '') or ''} |\n"
    return text


def python() -> str:
    """Every verb of the Python API: signature, then its docstring with sections as Markdown."""
    text = HEADER + "# Python API\n\nEvery name is an attribute of `gsegkit`, loaded when it is first used.\n"
    for name in gsegkit.__all__:
        thing = getattr(gsegkit, name)
        if callable(thing):
            text += f"\n## {name}\n\n```python\n{_signature(name, thing)}\n```\n\n{_docstring(thing)}\n"
    return text


def _signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing):
        return f"class gsegkit.{name}"
    signature = inspect.signature(thing)
    rows = [re.sub(r"""^(\**\w+): (['"])(.*?)\2""", r"\1: \3", str(each)) for each in signature.parameters.values()]
    kinds = [each.kind for each in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        rows.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returns = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    flat = f"gsegkit.{name}({', '.join(rows)}){returns}"
    return flat if len(flat) <= 100 else f"gsegkit.{name}(\n" + "".join(f"    {row},\n" for row in rows) + f"){returns}"


def _docstring(thing: Any) -> str:
    """Google sections as Markdown: a list for arguments and errors, a code block for an example."""
    lines, section = [], ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        if re.fullmatch(r"(Args|Raises|Returns|Attributes|Example|Examples):", line):
            section = line[:-1]
            lines += [f"**{section}**", ""] + (["```python"] if section.startswith("Example") else [])
        elif section.startswith("Example"):
            lines.append(line.removeprefix("    ").replace("  # doctest: +SKIP", ""))
        elif section and (entry := re.fullmatch(r"    (\S[^:]*): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.startswith("        "):
            lines.append("  " + line.strip())
        else:
            lines.append(line.strip() if section else line)
    while section.startswith("Example") and not lines[-1]:
        lines.pop()
    return "\n".join(lines + (["```"] if section.startswith("Example") else []))


def modules() -> str:
    """The tree of the core: one line a module, from its docstring."""
    root = Path(gsegkit.__file__).parent
    text = HEADER + "# Modules of the core\n"
    open_wings = ("annotation", "clustering", "painting", "reading", "records", "scaffold", "testing", "training")
    wings = sorted(path.parent for path in root.rglob("__init__.py") if "templates" not in path.parts)
    for folder in wings:
        name = ".".join(("gsegkit", *folder.relative_to(root).parts))
        public = (
            "public floor"
            if folder == root
            else "open to plugins"
            if folder.name in open_wings
            else "closed to plugins"
        )
        text += f"\n## {name} ({public})\n\n{_first_line(folder / '__init__.py')}\n\n"
        paths = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("__")]
        text += "".join(f"- `{path.name}`: {_first_line(path)}\n" for path in paths)
    return text.replace("\n\n\n", "\n\n").rstrip() + "\n"


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")


def plan() -> str:
    """The plan of a run, the capabilities, and the hooks."""
    text = HEADER + "# Plan, capabilities, hooks\n\n## Plan\n\n"
    text += "Fields of a run's config.json; on the command line `-o run.FIELD=VALUE`.\n" + _options(Plan)
    text += "\n## Capabilities\n\n| name | meaning |\n| --- | --- |\n"
    text += "".join(f"| `{name}` | {meaning} |\n" for name, meaning in CAPABILITIES.items())
    text += "\n## Hooks\n"
    for name, function in vars(HookSpec).items():
        if name.startswith("gsegkit_"):
            arguments = ", ".join(function.__code__.co_varnames[1 : function.__code__.co_argcount])
            text += f"\n### {name}({arguments})\n\n{function.__doc__}\n"
    return text


PAGES = {
    "components.md": components,
    "commands.md": commands,
    "python.md": python,
    "modules.md": modules,
    "plan.md": plan,
}


def main() -> int:
    """Write the pages, or with --check say which are out of date."""
    stale = []
    for name, make in PAGES.items():
        path = FOLDER / name
        text = make()
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python docs/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
