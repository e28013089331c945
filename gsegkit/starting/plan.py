"""The plan: which steps, how long each, and with which settings, so that all ends in time."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsegkit.config import Config, build_config
from gsegkit.errors import ConfigError
from gsegkit.exports.places import safe_part
from gsegkit.looking.look import Look
from gsegkit.plugins import Registry
from gsegkit.starting.experience import ENOUGH, SETTINGS, enough_photographs, expectation, growth
from gsegkit.starting.record import Planned, Step
from gsegkit.starting.wanted import COMPARE, GENERATOR, RUN, Wanted, assignments

COMPARE_SHARE, COMPARE_MOST = 0.1, 600.0  # of the time; seconds
FIT_SHARE, FIT_MOST = 0.03, 600.0  # for each baseline that learns from photographs
FIT_LEAST = 10.0  # seconds; those that learn nothing take less
RUN_SHARE = 0.4  # of what is left; less where the whole run needs less
MARGIN = 1.3  # a run takes longer than a smoke run says: caches, memory, other work on the machine
NUM_SAMPLES, NUM_PHOTOS = 2000, 1000  # of a whole run, as its defaults
LEAST_SAMPLES, LEAST_PHOTOS, LEAST_STEPS = 128, 64, 40
GROWS = ("dataset", "segmenter", "segmenter-1", "selftrain-1")  # stages whose time goes with these numbers
COMPARE_BUDGET = 0.85  # of its time: it also draws a page


def config_of(registry: Registry, kind: str, name: str, options: Mapping[str, Any], where: str) -> Config:
    """The options of a component, defaults included."""
    return build_config(registry.find(kind, name).config_class(), options, where)


def generator_options(wanted: Wanted, found: Look, registry: Registry, gpu: bool) -> dict[str, Any]:
    """Options of the generator's training: those of our own trainings, then the user's.

    Raises:
        ConfigError: the generator does not take trained weights back.
    """
    fields = registry.find("generator", wanted.gen).config_class().model_fields
    if "weights" not in fields:
        raise ConfigError(
            f"generator '{wanted.gen}' has no option `weights`, so a run cannot use what it learned", "--gen stylegan2"
        )
    ours = dict(SETTINGS.get(wanted.gen, ({}, {}))[gpu])
    ours |= {"weights": "none", "mirror": "x" if found.mirrored else "none"}
    return {name: value for name, value in ours.items() if name in fields} | wanted.of("gen")


def make_plan(
    wanted: Wanted,
    found: Look,
    registry: Registry,
    baselines: Mapping[str, bool],
    training: Mapping[str, Any],
    speed: float | None,
    stages: Mapping[str, float],
    spent: float,
) -> Planned:
    """Divide the time.

    Args:
        wanted: what is asked.
        found: what the folder holds.
        registry: where the parts come from.
        baselines: name -> whether it learns from photographs.
        training: options of the generator's training.
        speed: its images per second; None = no generator is trained.
        stages: seconds of each stage of a whole run, as `estimate` says; {} = unknown.
        spent: seconds that looking and measuring took.
    """
    _, said = enough_photographs(found.usable, wanted.fewest)
    fits = [
        Step(verb="fit", part=name, folder=safe_part(name), seconds=_fit_seconds(wanted) if learns else FIT_LEAST)
        for name, learns in baselines.items()
    ]
    compare = Step(verb="compare", part="", folder=COMPARE, seconds=min(COMPARE_SHARE * wanted.seconds, COMPARE_MOST))
    if speed is None:
        return Planned(steps=(*fits, compare), sentences=(said,))
    left = max(wanted.seconds - spent - compare.seconds - sum(step.seconds for step in fits), 0.2 * wanted.seconds)
    run_seconds = min(RUN_SHARE * left, MARGIN * sum(stages.values())) if stages else RUN_SHARE * left
    config = config_of(registry, "generator", wanted.gen, training, "gen")
    most = getattr(config, "kimg", ENOUGH / 1000) * 1000
    training_seconds = min(left - run_seconds, 1.05 * most / speed)
    run_seconds = left - training_seconds  # what the training does not need
    shown = round(min(most, training_seconds * speed))
    growing = "grow_kimg" in type(config).model_fields and "grow_kimg" not in wanted.of("gen")
    trained = {**training, **({"grow_kimg": growth(shown)} if growing else {})}
    learned = assignments("gen", trained)
    sized = _run_options(wanted, registry, stages, run_seconds)
    train = Step(verb="train-generator", part=wanted.gen, folder=GENERATOR, seconds=training_seconds, options=learned)
    run = Step(verb="run", part=wanted.gen, folder=RUN, seconds=run_seconds, options=sized)
    return Planned(
        steps=(*fits, train, run, compare),
        sentences=(said, expectation(shown, speed, training_seconds / wanted.seconds)),
        images_per_second=speed,
        images_shown=shown,
    )


def _fit_seconds(wanted: Wanted) -> float:
    return max(FIT_LEAST, min(FIT_SHARE * wanted.seconds, FIT_MOST))


def _run_options(wanted: Wanted, registry: Registry, stages: Mapping[str, float], seconds: float) -> tuple[str, ...]:
    """Fewer pairs, photographs and steps where a whole run would take too long; then the user's own options."""
    growing = sum(stages.get(name, 0.0) for name in GROWS)
    fixed = sum(stages.values()) - growing
    share = min(1.0, max((seconds / MARGIN - fixed) / growing, 0.0)) if growing else 1.0
    if share == 1.0:
        return wanted.of_run
    chosen = {
        ("run", "num_samples"): max(LEAST_SAMPLES, round(NUM_SAMPLES * share)),
        ("selftrain", "num_photos"): max(LEAST_PHOTOS, round(NUM_PHOTOS * share)),
    }
    steps = getattr(config_of(registry, "segmenter", wanted.seg, wanted.of("seg"), "seg"), "steps", None)
    if isinstance(steps, int):
        chosen["seg", "steps"] = max(LEAST_STEPS, round(steps * share))
    ours = [assignments(part, {name: n})[0] for (part, name), n in chosen.items() if name not in wanted.of(part)]
    return (*ours, *wanted.of_run)


# ---- as commands ---------------------------------------------------------------------------------------------------


def budget(seconds: float) -> str:
    """What `compare` is given of its time."""
    return f"{max(1, round(COMPARE_BUDGET * seconds))}s"


def command(step: Step, wanted: Wanted, photos: Path, out: Path, seconds: float) -> str:
    """The ordinary command that does the same as a step.

    Args:
        step: of the plan.
        wanted: what is asked.
        photos: folder of photographs.
        out: folder of `start`.
        seconds: that the step has.
    """
    common = ["--seed", str(wanted.seed), "--device", wanted.device]
    options = [word for text in step.options for word in ("-o", text)]
    folder = ["--out", str(out / step.folder)]
    data = ["--data", str(photos)]
    words = {
        "train-generator": [step.part, *data, *folder, "--hours", f"{seconds / 3600:.4g}"],
        "run": ["--gen", step.part, "-o", f"gen.weights={out / GENERATOR}", "--extractor", wanted.extractor,
                "--seg", wanted.seg, "--photos", str(photos), "--target", wanted.target, *folder],
        "fit": [step.part, *data, *folder],
        "compare": [*data, *folder, "--budget", budget(seconds)],
    }  # fmt: skip
    return shlex.join(["gsegkit", step.verb, *words[step.verb], *common, *options])
