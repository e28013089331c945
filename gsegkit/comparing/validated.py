"""Criteria without annotations, in words, and how far each was found to agree with the truth.

The numbers are those of the result file `benchmarks/results/criteria.json` (`python -m benchmarks run criteria`): rank
correlation (Spearman) with the true foreground IoU over the methods of a set, averaged over the sets.
"""

from __future__ import annotations

from dataclasses import dataclass

RESULT = "benchmarks/results/criteria.json"


@dataclass(frozen=True)
class Criterion:
    """A criterion.

    Attributes:
        words: what it looks at.
        correlation: mean rank correlation with the true foreground IoU, over baselines and runs.
        least: the same of the worst set.
        baselines: mean rank correlation over baselines alone.
    """

    words: str
    correlation: float
    least: float
    baselines: float

    def worth(self, with_runs: bool) -> float:
        """The rank correlation that holds for a comparison with runs, or for one of baselines alone."""
        return self.correlation if with_runs else self.baselines


SETS = 7
CRITERIA = {
    "consensus": Criterion("IoU with what most of the other methods call foreground", 0.90, 0.79, 0.87),
    "agreement": Criterion("mean IoU with each of the other methods", 0.89, 0.79, 0.84),
    "separation": Criterion("how well the colours inside and outside alone give the mask back", 0.62, 0.09, 0.60),
    "edges": Criterion("how strong the photograph's edges are along the outline", 0.48, -0.06, 0.52),
    "stability": Criterion("IoU of the answers to the photograph mirrored, tinted and cropped", 0.49, -0.12, 0.43),
    "plausibility": Criterion("share of photographs with a foreground of 2 to 90 % of the area", 0.36, -0.01, 0.32),
}
SORTED_BY = "consensus"  # without annotations
