"""Put the named extractor of a run beside the generator weights that it was fitted to, as names that ship with them.

    gsegkit run --gen stylegan2 --extractor klish --seg unet --out RUN
    gsegkit name RUN ...                      # makes classes.yaml
    python benchmarks/zoo/names.py RUN classes.yaml WEIGHTS_FOLDER "how the names were given"

The run must have default options and the weights as they ship: names are refused for any other fit.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from gsegkit import api
from gsegkit.classes.class_map import FILE_NAME, class_map_yaml, read_class_map
from gsegkit.classes.named import check_fits
from gsegkit.classes.shipped import CARD_FILE, FOLDER
from gsegkit.engine.plan import Plan
from gsegkit.parts import save_part
from gsegkit.plugins import installed
from gsegkit.storage import atomic_write, atomic_write_json
from gsegkit.tensors import state_hash


def main(run: Path, names: Path, weights: Path, given: str) -> None:
    registry = installed()
    plan, extractor = Plan.of_run(run, registry), api.load(run, "extractor")
    chosen = read_class_map(names)
    check_fits(chosen, extractor)
    generator = registry.build("generator", plan.gen.name, plan.gen.options)
    folder = weights / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    save_part(extractor, folder, "extractor", plan.extractor.name)
    atomic_write(folder / FILE_NAME, class_map_yaml(chosen).encode())
    atomic_write_json(folder / CARD_FILE, {"generator": state_hash(generator), "given": given})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
