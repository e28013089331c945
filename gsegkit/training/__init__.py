"""What every training needs once. A wing that is open to plugins: import from here.

Averaged weights, data order, photographs in memory, steps as CUDA graphs, R1, alarms of a GAN, one step of several
processes; foregrounds without training.
"""

from gsegkit.training.average import WeightAverage, rising_decay
from gsegkit.training.photographs import MEMORY_LIMIT, EpochOrder, ImageBank, flip_where, upload
from gsegkit.training.priors import CentrePrior, off_the_border, otsu_foreground
from gsegkit.training.recorded import RecordedSteps
from gsegkit.training.steps import descend, r1_penalties, r1_penalty, random_photographs, tuned_convolutions
from gsegkit.training.together import (
    add_gradients,
    check_divides,
    common_statistics,
    rows_of,
    summed,
    whole_batches,
    whole_mean,
    whole_rows,
)
from gsegkit.training.watch import WARM_UP, GanWatch

__all__ = [
    "MEMORY_LIMIT",
    "WARM_UP",
    "CentrePrior",
    "EpochOrder",
    "GanWatch",
    "ImageBank",
    "RecordedSteps",
    "WeightAverage",
    "add_gradients",
    "check_divides",
    "common_statistics",
    "descend",
    "flip_where",
    "off_the_border",
    "otsu_foreground",
    "r1_penalties",
    "r1_penalty",
    "random_photographs",
    "rising_decay",
    "rows_of",
    "summed",
    "tuned_convolutions",
    "upload",
    "whole_batches",
    "whole_mean",
    "whole_rows",
]
