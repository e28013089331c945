"""The formats by name, and the class that writes each. Light: the command line lists them without torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gsegkit.errors import ConfigError

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
#: Dtype of the photographs that an exported network takes -> their range.
PHOTO_DTYPES: Mapping[str, tuple[int, int]] = {"uint8": (0, 255), "float32": (0, 1)}

DEFAULT_PREDICTIONS = ("label", "overlay")


def load_writer(place: str) -> Any:
    """The class that a table names by `module:Class`; its module is imported here.

    The argument is a value of PREDICTION_FORMATS or DATASET_FORMATS.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(f"gsegkit.exports.{module}"), name)


def model_path(out: Path, format: str, name: str = "segmenter") -> Path:
    """The file of an exported network: `out`, or NAME.SUFFIX in it.

    Raises:
        ConfigError: unknown format, or a suffix of another format.
    """
    if format not in MODEL_FORMATS:
        raise ConfigError(f"no model format '{format}'", f"formats: {', '.join(MODEL_FORMATS)}")
    suffix = MODEL_FORMATS[format]
    if out.suffix == suffix and not out.is_dir():
        return out
    if out.is_dir() or not out.suffix:
        return out / f"{name}{suffix}"
    raise ConfigError(f"format '{format}' writes {suffix} files, not '{out.name}'", f"name it {out.stem}{suffix}")
