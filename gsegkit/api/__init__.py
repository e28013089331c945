"""The Python API: the command line's verbs as functions."""

from gsegkit.api.names import list_clusters, match, name, name_page
from gsegkit.api.results import evaluate, evaluate_generator, export, load, open_generator, open_labelled, predict
from gsegkit.api.runs import Result, run, run_plan, synthesize, train, train_generator
from gsegkit.api.session import Session

__all__ = [
    "Result",
    "Session",
    "evaluate",
    "evaluate_generator",
    "export",
    "list_clusters",
    "load",
    "match",
    "name",
    "name_page",
    "open_generator",
    "open_labelled",
    "predict",
    "run",
    "run_plan",
    "synthesize",
    "train",
    "train_generator",
]
