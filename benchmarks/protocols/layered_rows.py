"""Rows of the tables on layered GANs: what is varied in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of a table: what is varied, and in how many rounds."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    generator: str = "layered"
    rounds: int = 1


NO_INFORMATION = {"gamma": 0.0, "gamma_mask": 0.0}
#: What the paper has no word of is left out; with networks, rates and crops as ours.
PAPER = {"centre": 0.0, "smooth_weight": 0.0, "max_coverage": 1.0, "binary_start": 0, "binary_end": 0}
ABLATION = (
    Row("all ingredients"),
    Row("no information terms", NO_INFORMATION),
    Row("no information in the mask", {"gamma_mask": 0.0}),
    Row("binarisation from the start", {"binary_start": 0, "binary_end": 0}),
    Row("no perturbation of the object", {"scale": 0.0, "shift": 0.0}),
    Row("no contrast jitter", {"contrast": 0.0}),
    Row("no bound on the coverage", {"max_coverage": 1.0}),
    Row("masks begin flat", {"centre": 0.0}),
    Row("outlines cost nothing", {"smooth_weight": 0.0}),
    Row("dead codes kept", {"drop_codes": False}),
    Row("perturbgan", generator="perturbgan"),
    Row("perturbgan, our start and outline", {"centre": 4.0, "smooth_weight": 0.5}, generator="perturbgan"),
)
HARD = (
    Row("all ingredients"),
    Row("no information terms", NO_INFORMATION),
    Row("binarisation from the start", {"binary_start": 0, "binary_end": 0}),
    Row("binarisation from the start, no information terms", {"binary_start": 0, "binary_end": 0, **NO_INFORMATION}),
    Row("masks begin flat", {"centre": 0.0}),
    Row("masks begin flat, no information terms", {"centre": 0.0, **NO_INFORMATION}),
    Row("the paper's terms alone, gamma 1", {**PAPER, "gamma": 1.0, "gamma_mask": 1.0}),
    Row("the paper's terms alone, no information", {**PAPER, **NO_INFORMATION}),
    Row("perturbgan", generator="perturbgan"),
)
GAMMA = (
    Row("mask size instead", {**NO_INFORMATION, "min_area": 0.25}),
    *(
        Row(f"gamma {gamma}", {"gamma": gamma, "gamma_mask": round(0.3 * gamma, 4)})
        for gamma in (0.0, 0.03, 0.1, 0.3, 1.0)
    ),
)
PRIOR = (
    Row("normal, 4", {"prior": "normal", "num_codes": 4}),
    Row("normal, 8", {"prior": "normal", "num_codes": 8}),
    Row("categorical, 10", {"num_codes": 10}),
    Row("categorical, 20", {}),
    Row("categorical, 40", {"num_codes": 40}),
)
ROUNDS = (Row("three rounds", rounds=3),)
#: Name of a table -> its rows.
TABLES = {"toy": ABLATION[:1], "ablation": ABLATION, "gamma": GAMMA, "prior": PRIOR, "rounds": ROUNDS, "hard": HARD}
