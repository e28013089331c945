"""Numbers on pages, rendered from result files.

A table or a paragraph from a template of benchmarks/tables (Jinja; `v` below is its function):

    <!-- table: directions-masks -->
    ...
    <!-- /table -->

A number in a sentence, as RESULT; PATH; FORMAT, see `shown`:

    IoU is <!-- result: directions-toy; mean/both, level otsu; .3f -->0.987<!-- /result --> here.

What was not measured by us (a paper's numbers, or a count) is marked, so that it is not taken for a forgotten one:

    <!-- not measured: the paper's Table 5 -->
    ...
    <!-- /not measured -->
"""

from __future__ import annotations

import functools
import re
import statistics
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.paths import look_up
from benchmarks.recipe import ROOT
from benchmarks.result import read_result
from gsegkit.errors import GsegkitError

TABLES = ROOT / "benchmarks" / "tables"
_BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_NUMBER = re.compile(r"(<!-- result: (?P<what>[^>]+?) -->).*?(<!-- /result -->)", re.DOTALL)
_WAIVED = re.compile(r"<!-- not measured: .*? -->.*?<!-- /not measured -->", re.DOTALL)
_CODE = re.compile(r"^(?: {4,}|\t)[^\n]*$|```.*?```|`[^`]*`", re.DOTALL | re.MULTILINE)
#: Numbers that look measured: a decimal, one with a unit, a ratio or a spread, and a duration in words.
_MEASURED = re.compile(
    r"(?<![\w.:/-])[-+]?\d*\.\d+(?!\.?\w)"
    r"|\d\s(?:%|ms|s|min|minutes?|seconds?|hours?|[kMG]i?B|images (?:a|per) second)(?!\w)"
    r"|\d times (?:as|more|less|faster|slower|larger|smaller|longer)|factor of \d|\d of \d|\d ± \d"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|twenty|thirty)(?: and a half)? (?:minutes|seconds|hours)\b"
)
#: Numbers that are none, by kind. A setting in a sentence is in code font, which is left out as well.
_OTHER = (
    re.compile(r"\]\([^)]*\)|arXiv:\S+"),  # links
    re.compile(r"\b(?:Python|torch|CC BY(?:-SA)?|GPL|Apache)[ -]\d+(?:\.\d+)*"),  # versions and licences
    re.compile(r"\b(?:Sec\.|Section|Eq\.|Table|Algorithm|Figure) [A-Z]?\.?\d+(?:\.\d+)*"),  # places in a paper
)
_OPTION = re.compile(r"\| `")  # begins a row of a table of options: its decimals are defaults and limits
_DECIMAL = re.compile(r"(?<![\w.:/-])[-+]?\d*\.\d+(?!\.?\w)(?! *%)")
_WAYS = {"mean": statistics.mean, "median": statistics.median, "min": min, "max": max, "std": statistics.stdev,
         "sum": sum, "count": len}  # fmt: skip


def pages() -> list[Path]:
    """Every page that may show a measured number."""
    found = [ROOT / "README.md", *(ROOT / "plugins").glob("*/README.md")]
    docs = (
        path for folder in ("", "tutorial", "how-to", "explanation") for path in (ROOT / "docs" / folder).glob("*.md")
    )
    return sorted([*found, *docs])


@functools.cache
def _values(name: str) -> dict[str, Any]:
    return read_result(name).values


def shown(name: str, path: str, form: str = ".3f") -> str:
    """A number of a result as text.

    Args:
        name: of the result.
        path: see `look_up`; several numbers are joined by ", ".
        form: a format of Python; before it `*N` or `/N` (scales), after it one of mean, median, min, max, std, sum,
            count, or range ("0.96 to 0.98").
    """
    words = form.split()
    scale = words.pop(0) if words and words[0][0] in "*/" else "*1"
    spec = words.pop(0) if words and words[0] not in _WAYS and words[0] != "range" else ".3f"
    factor = float(scale[1:]) if scale[0] == "*" else 1 / float(scale[1:])
    found = look_up(_values(name), path)
    numbers = [value * factor if not isinstance(value, str) else value for value in _flat(found)]
    if words == ["range"]:
        low, high = format(min(numbers), spec), format(max(numbers), spec)
        return low if low == high else f"{low} to {high}"
    if words:
        numbers = [_WAYS[words[0]](numbers)]
    return ", ".join(value if isinstance(value, str) else format(value, spec) for value in numbers)


def _flat(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list) else [found]


def rendered(text: str) -> str:
    """A page with every marked number renewed.

    Raises:
        GsegkitError: a marker names a result, path or template that does not exist.
    """
    text = _BLOCK.sub(lambda m: m[1] + _table(m["name"]) + m[3], text)
    return _NUMBER.sub(lambda m: m[1] + shown(*(part.strip() for part in m["what"].split(";"))) + m[3], text)


def _table(name: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TABLES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"v": shown, "values": _values, "path": look_up}
    try:
        text = environment.get_template(f"{name}.md").render()
    except jinja2.TemplateError as error:
        raise GsegkitError(f"the table '{name}' cannot be rendered: {error}", f"see {TABLES / name}.md") from error
    return text.strip("\n") + "\n"


def unmarked(text: str) -> list[str]:
    """Tables and lines of a page that look measured and have no marker.

    A table counts when a column is aligned to the right; a line when `_MEASURED` finds something outside code that
    is not of a kind in `_OTHER` and no decimal in a table of options.
    """
    for pattern in (_BLOCK, _NUMBER, _WAIVED):
        text = pattern.sub("", text)
    text = "\n".join(_DECIMAL.sub("", line) if _OPTION.match(line) else line for line in text.split("\n"))
    for pattern in (_CODE, *_OTHER):
        text = pattern.sub("", text)
    lines = [line.strip() for line in text.splitlines()]
    tables = [line for line in lines if line.startswith("|") and re.search(r"\|\s*-+:\s*(?=\|)", line)]
    return tables + [line for line in lines if _MEASURED.search(line)]


def render_all(write: bool = True) -> list[str]:
    """Render every page; those that changed (or would change), as paths below the root."""
    stale = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = rendered(before)
        if after != before:
            stale.append(str(page.relative_to(ROOT)))
            if write:
                page.write_text(after, encoding="utf-8")
    return stale
