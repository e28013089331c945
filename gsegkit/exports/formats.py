"""The formats by name, and the class that writes each. Light: the command line lists them without torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

#: Format of predictions -> module of this folder and its PredictionWriter.
PREDICTION_FORMATS: Mapping[str, str] = {
    "label": "png:LabelPredictions",
    "overlay": "png:OverlayPredictions",
    "voc": "voc:VocPredictions",
    "yolo": "yolo:YoloPredictions",
    "coco": "coco:CocoPredictions",
}
#: Format of data sets -> module of this folder and its DatasetWriter.
DATASET_FORMATS: Mapping[str, str] = {
    "png": "png:PngDataset",
    "coco": "coco:CocoDataset",
    "yolo": "yolo:YoloDataset",
    "voc": "voc:VocDataset",
    "webdataset": "webdataset:TarDataset",
    "huggingface": "huggingface:HuggingFaceDataset",
}
#: Format of a network -> suffix of its file.
MODEL_FORMATS: Mapping[str, str] = {"onnx": ".onnx", "torch": ".pt2"}

DEFAULT_PREDICTIONS = ("label", "overlay")


def load_writer(place: str) -> Any:
    """The class that a table names by `module:Class`; its module is imported here.

    The argument is a value of PREDICTION_FORMATS or DATASET_FORMATS.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(f"gsegkit.exports.{module}"), name)
