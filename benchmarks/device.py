"""The check on one GPU, in any checkout: `python benchmarks/device.py [--out FILE]`; at most eight minutes.

Prints a result (the schema of result.py) as JSON on standard output, and what it does on standard error. Needs every
plugin and pytest (`uv sync --all-packages`). `--device cpu --tiny` runs all of it at the smallest size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.recipe import RECIPES, read_recipe
from benchmarks.runner import run
from gsegkit.errors import GsegkitError


def main() -> int:
    """Exit code: 0, or 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="python benchmarks/device.py", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that it works")
    parser.add_argument("--seconds", type=float, help="that all of it may take; default: the recipe's")
    parser.add_argument("--items", help="names of items, joined by commas; default: all")
    parser.add_argument("--tests", help="further words for pytest, such as tests/gpu; default: all tests marked gpu")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    options = parser.parse_args()
    recipe = read_recipe(RECIPES / "device.toml")
    given = {"seconds": options.seconds, "tests": options.tests, "items": options.items and options.items.split(",")}
    recipe = recipe.model_copy(
        update={"options": {**recipe.options, **{k: v for k, v in given.items() if v is not None}}}
    )
    with tempfile.TemporaryDirectory(prefix="gsegkit-device-") as folder:
        try:
            run(recipe, out=Path(folder), device=options.device, tiny=options.tiny, dirty=True)
        except GsegkitError as error:
            print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
            return 1
        text = (Path(folder) / "device.json").read_text(encoding="utf-8")
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
