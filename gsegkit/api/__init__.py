"""The Python API: the command line's verbs as functions."""

from gsegkit.api.annotating import annotate
from gsegkit.api.choosing import choose, train_choice
from gsegkit.api.comparing import compare
from gsegkit.api.fitting import fit
from gsegkit.api.importing import import_checkpoint, look_at_checkpoint
from gsegkit.api.names import list_clusters, match, name, name_page
from gsegkit.api.painter_scores import evaluate_painter
from gsegkit.api.painting import open_painter, paint_page, train_painter
from gsegkit.api.pair_scores import evaluate_pairs
from gsegkit.api.reproducing import reproduce
from gsegkit.api.results import evaluate, evaluate_generator, export, load, open_generator, open_labelled, predict
from gsegkit.api.runs import Result, run, run_plan, synthesize, train, train_generator
from gsegkit.api.samples import copy_samples
from gsegkit.api.serving import paint_server
from gsegkit.api.session import Session
from gsegkit.api.starting import look, start

__all__ = [
    "Result",
    "Session",
    "annotate",
    "choose",
    "compare",
    "copy_samples",
    "evaluate",
    "evaluate_generator",
    "evaluate_painter",
    "evaluate_pairs",
    "export",
    "fit",
    "import_checkpoint",
    "list_clusters",
    "load",
    "look",
    "look_at_checkpoint",
    "match",
    "name",
    "name_page",
    "open_generator",
    "open_labelled",
    "open_painter",
    "paint_page",
    "paint_server",
    "predict",
    "reproduce",
    "run",
    "run_plan",
    "start",
    "synthesize",
    "train",
    "train_choice",
    "train_generator",
    "train_painter",
]
