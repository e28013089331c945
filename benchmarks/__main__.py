"""`python -m benchmarks run NAME ...`, `list`, `render`: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks import render
from benchmarks.protocols.common import Lab
from benchmarks.recipe import RECIPES, protocol, read_recipe, recipes
from benchmarks.result import BEFORE, RESULTS, read_result
from benchmarks.runner import run
from gsegkit.errors import GsegkitError


def main() -> int:
    """Exit code: 0, 1 for an error or stale pages, 2 when a number was not as expected."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="all recipes")
    one = verbs.add_parser("run", help="run recipes and write their results")
    one.add_argument("names", nargs="+")
    one.add_argument("--work", type=Path, help="folder that keeps finished steps: the same command continues")
    one.add_argument("--out", type=Path, help="folder of the results; default: benchmarks/results")
    one.add_argument("--device", default="cpu")
    one.add_argument("--tiny", action="store_true", help="three steps of everything, to see that it works")
    one.add_argument("--dirty", action="store_true", help="accept uncommitted code; the result says so")
    one.add_argument(
        "-o", "--option", action="append", default=[], metavar="KEY=VALUE", help="another option; wants --out"
    )
    pages = verbs.add_parser("render", help="put the results' numbers into the pages")
    pages.add_argument("--check", action="store_true", help="only say which pages are stale")
    part = verbs.add_parser("part", help=argparse.SUPPRESS)  # a protocol's own process, see Lab.process
    part.add_argument("protocol")
    part.add_argument("setting", type=json.loads)
    options = parser.parse_args()
    try:
        return {"list": _list, "run": _run, "render": _render, "part": _part}[options.verb](options)
    except GsegkitError as error:
        print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return 1


def _list(options: argparse.Namespace) -> int:
    for recipe in recipes():
        done = _state(recipe.name)
        minutes = f"{recipe.minutes:g} min" if recipe.minutes else ""
        print(f"{recipe.name:34} {done:9} {minutes:8} {recipe.what}")
    return 0


def _state(name: str) -> str:
    if not (RESULTS / f"{name}.json").exists():
        return "-"
    return "recorded" if read_result(name).origin == BEFORE else "measured"


def _run(options: argparse.Namespace) -> int:
    good = True
    for name in options.names:
        recipe = read_recipe(RECIPES / f"{name}.toml").with_options(options.option)
        if options.option and options.out is None:
            raise GsegkitError("with other options it is not the recipe's result", "give a folder with --out")
        result = run(
            recipe, work=options.work, out=options.out, device=options.device,
            tiny=options.tiny, dirty=options.dirty,
        )  # fmt: skip
        print(f"{name}: {result.verdict}, {result.seconds:g} s")
        for check in result.checks:
            mark = "ok " if check["ok"] else "NOT"
            print(
                f"  {mark} {check['path']}: {check['found']:g}, expected {check['value']:g} +- {check['tolerance']:g}"
            )
        good &= result.verdict != "not as expected"
    return 0 if good else 2


def _render(options: argparse.Namespace) -> int:
    stale = render.render_all(write=not options.check)
    for page in stale:
        print(("stale: " if options.check else "rendered: ") + page)
    return 1 if stale and options.check else 0


def _part(options: argparse.Namespace) -> int:
    setting = options.setting
    torch.set_num_threads(setting["threads"])
    lab = Lab(Path(setting["work"]), torch.device(setting["device"]), tuple(setting["seeds"]), setting["tiny"])
    print(json.dumps(protocol(options.protocol)(lab, **setting["options"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
