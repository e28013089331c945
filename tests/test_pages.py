"""What a page tells its reader to type exists: commands, flags, components, options and their values."""

import re
import shlex
from functools import cache
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError

from gsegkit.cli import main as cli
from gsegkit.config import parse_value
from gsegkit.engine.plan import Plan, SelfTrain
from gsegkit.plugins import Entry, installed

ROOT = Path(__file__).parents[1]
PLUGINS = {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")}
PAGES = [
    page
    for page in sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/*.md")))
    if page.name != "CHANGELOG.md" and page.parent.name != "reference"  # about old names; generated
]

#: Part of a run -> flag that chooses its component, and the kinds that it may be.
PARTS = {
    "gen": ("--gen", ("generator",)),
    "extractor": ("--extractor", ("extractor",)),
    "refine": ("--refine", ("refiner",)),
    "seg": ("--seg", ("segmenter",)),
    "eval": ("--eval", ("evaluator", "generator-evaluator")),
    "data_reader": ("", ("dataset",)),
    "by": ("", ("segmenter",)),
    "kmeans": ("", ("kmeans",)),
    "painter": ("--painter", ("painter",)),
    "reader": ("--reader", ("checkpoint-reader",)),
    "launcher": ("--launcher", ("launcher",)),
}
TAKES_COMPONENT = {"train-generator": "generator", "show": "", "test-plugin": "", "directions score": "generator"}
PLACEHOLDERS = {"my-method", "my-format", "my-cluster"}  # what `new-plugin` makes
SPAN = re.compile(r"`([^`]+?)`", re.S)
ASSIGNMENT = re.compile(r"^[a-z]\w*(\.[a-z]\w*)*=\S")

pytestmark = pytest.mark.skipif(
    not {dist.name for dist in distributions()} >= PLUGINS, reason="needs every first-party plugin"
)


@cache
def commands() -> dict[str, set[str]]:
    """Command (`name`, `layered cluster`) -> its flags."""
    installed().manager.hook.gsegkit_commands(app=cli.app)
    found: dict[str, set[str]] = {}

    def visit(group: Any, path: str) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                visit(command, f"{path}{name} ")
            else:
                found[path + name] = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}

    visit(typer.main.get_command(cli.app), "")
    return found


def blocks_and_spans(text: str) -> tuple[list[str], list[str]]:
    """Lines of code blocks, continuations joined and comments cut; and the spans of inline code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.S | re.M)
    blocks += ["\n".join(line[4:] for line in rest.splitlines() if line.startswith("    "))]
    lines = [re.sub(r"\s+# .*", "", line) for each in blocks for line in re.sub(r"\\\n\s*", "", each).splitlines()]
    prose = "\n".join(line for line in rest.splitlines() if not line.startswith("    "))
    return lines, [" ".join(span.split()) for span in SPAN.findall(prose)]


def problems(text: str, dist: str = "") -> list[str]:
    """What does not exist in a page; options without a part are those of the distribution, if one is given."""
    lines, spans = blocks_and_spans(text)
    found = _of_tables(text, dist)
    for code in (*lines, *spans):
        if match := re.search(r"(?:^|\s)gsegkit ([a-z-].*)", code):
            found += _of_command(match[1])
    for span in spans:
        found += _of_span(span, dist)
    return found


def _of_command(line: str) -> list[str]:
    words = shlex.split(line)
    if words[0].startswith("-"):
        return []
    name = " ".join(words[:2]) if " ".join(words[:2]) in commands() else words[0]
    if name not in commands():
        return [f"no command: gsegkit {name}"]
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    found = [f"gsegkit {name} has no {flag}" for flag in sorted(flags - commands()[name])]
    for flag, kinds in PARTS.values():
        found += [f"no component: {flag} {value}" for value in _given(words, flag) if not _entries(kinds, value)]
    if name in TAKES_COMPONENT:
        at = 3 if name == "show" else 1 + len(name.split())
        named = words[at - 1 : at]
        found += [f"no component: gsegkit {line}" for each in named if not _entries((), each)]
    for assignment in _given(words, "-o"):
        found += _of_assignment(assignment, words)
    return found


def _of_span(code: str, dist: str) -> list[str]:
    words = [word.rstrip(",;") for word in code.split()]
    every = set().union(*commands().values())
    found = []
    if words and words[0].startswith("-"):
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        found += [f"no flag: {flag}" for flag in flags if flag not in every]
        for flag, kinds in PARTS.values():
            found += [f"no component: {flag} {value}" for value in _given(words, flag) if not _entries(kinds, value)]
    for word in words if all(ASSIGNMENT.match(word) or word in ("-o", *every) for word in words) else ():
        if ASSIGNMENT.match(word):
            found += _of_assignment(word, words) if "." in word.partition("=")[0] else _of_option(word, dist)
    return found


def _of_tables(text: str, dist: str) -> list[str]:
    """First cells of tables with a column `option`: names in code are options."""
    found, inside = [], False
    for line in text.splitlines():
        inside = line.startswith("| option ") or (inside and line.startswith("|"))
        if inside:
            cell = line.split("|")[1].rpartition(":")[2]  # `kasp`: `k0`
            found += [f"no option: {name}" for name in SPAN.findall(cell) if not _having(name, dist)]
    return found


def _given(words: list[str], flag: str) -> list[str]:
    return [value for word, value in pairwise(words) if flag and word == flag]


def _entries(kinds: tuple[str, ...], name: str = "") -> list[Entry | None]:
    """Components of these kinds (all, if none is given) and of this name; [None] for a placeholder."""
    if name.isupper() or name in PLACEHOLDERS or name == "...":
        return [None]
    chosen = [entry for entry in installed().entries if not kinds or entry.component.kind in kinds]
    return [entry for entry in chosen if name in ("", entry.component.name, entry.dist)]


def _having(option: str, dist: str) -> list[Entry]:
    chosen = [entry for entry in installed().entries if dist in ("", entry.dist)]
    return [entry for entry in chosen if option in entry.config_class().model_fields]


def _accepts(entry: Entry, option: str, value: str) -> bool:
    try:
        entry.config_class()(**{option: parse_value(value)})
    except ValidationError as error:
        return all(problem["loc"][:1] != (option,) for problem in error.errors())  # it may need others beside it
    return True


def _of_assignment(assignment: str, words: list[str]) -> list[str]:
    """PART.OPTION=VALUE, against the component that the command names for this part, or any of its kind."""
    name, _, value = assignment.partition("=")
    part, _, option = name.partition(".")
    if part == "run":
        return [] if option in Plan.model_fields else [f"no option: {assignment}"]
    if part == "selftrain":
        return [] if option.partition(".")[0] in SelfTrain.model_fields else [f"no option: {assignment}"]
    if part not in PARTS:
        return [f"no part: {part}"]
    flag, kinds = PARTS[part]
    chosen = _given(words, flag) or [""]
    if part == "refine":
        refiner, _, option = option.partition(".")
        chosen = [refiner]
    if part == "gen" and words[0] in TAKES_COMPONENT:
        chosen = [words[1]]
    entries = [entry for each in chosen for entry in _entries(kinds, each)]
    if part == "data_reader" and option == "name":
        return [] if _entries(kinds, value) else [f"no component: {assignment}"]
    return [] if any(_takes(entry, option, value) for entry in entries) else [f"no option: {assignment}"]


def _of_option(assignment: str, dist: str) -> list[str]:
    option, _, value = assignment.partition("=")
    return [] if any(_takes(entry, option, value) for entry in _having(option, dist)) else [f"no option: {assignment}"]


def _takes(entry: Entry | None, option: str, value: str) -> bool:
    if entry is None or option.isupper():
        return True
    known = option.partition(".")[0] in entry.config_class().model_fields  # a table may be given entry by entry
    return known and (value.isupper() or value == "..." or _accepts(entry, option, value))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_to_type_exists(page):
    dist = page.parent.name if page.parent.name in PLUGINS else ""
    assert problems(page.read_text(encoding="utf-8"), dist) == []


@pytest.mark.parametrize(
    ("text", "dist", "found"),
    [
        ("    gsegkit segment RUN", "", ["no command: gsegkit segment"]),
        ("Use `gsegkit run --gen toy --segmenter unet`.", "", ["gsegkit run has no --segmenter"]),
        ("    uv run gsegkit run --gen toys", "", ["no component: --gen toys"]),
        ("    gsegkit show segmenter unnet", "", ["no component: gsegkit show segmenter unnet"]),
        ("    gsegkit run --seg unet \\\n      -o seg.stepps=3  # fast", "", ["no option: seg.stepps=3"]),
        ("    gsegkit run --gen toy -o gen.kimg=3", "", ["no option: gen.kimg=3"]),
        ("```sh\ngsegkit run -o extractor.mask=lite\n```", "", ["no option: extractor.mask=lite"]),
        ("Give\n`-o\nrefine.area.most=1`.", "", ["no option: refine.area.most=1"]),
        ("`-o run.epochs=3` or `--epochs`", "", ["no option: run.epochs=3", "no flag: --epochs"]),
        ("`-o selftrain.epochs=3`", "", ["no option: selftrain.epochs=3"]),
        ("`-o selftrain.rounds=3`", "", []),
        ("With `turn=false`", "gsegkit-labels4free", ["no option: turn=false"]),
        ("With `k=5 cuts=3`", "gsegkit-klish", ["no option: cuts=3"]),
        ("| option | default |\n| --- | --- |\n| `grounds`, `psi` | |", "gsegkit-labels4free", ["no option: grounds"]),
        ("    gsegkit run --gen NAME -o gen.weights=FILE ... --extractor my-method", "", []),
    ],
)
def test_a_wrong_name_on_a_page_is_found(text, dist, found):
    assert problems(text, dist) == found
