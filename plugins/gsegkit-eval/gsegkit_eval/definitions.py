"""What every metric is, in one sentence; printed in reports. Pixels of truth 255 count nowhere."""

from __future__ import annotations

FOREGROUND = "foreground = any class but 0"
PER_IMAGE = "per image, then the mean over the images"
OVER_SET = "from counts added over the whole data set"
EMPTY = {
    "zero": "0 where truth and prediction are both empty",
    "one": "1 where truth and prediction are both empty",
    "skip": "images where truth and prediction are both empty are left out",
}


MACRO = f"of each class {OVER_SET}, then the mean over the classes that occur, background included"
PARTS = "then the mean over the classes without the background; classes that occur nowhere are left out"
VOID = "pixels of the true background count nowhere, so painting on it costs nothing"


def mask_definitions(beta2: float, first: int, empty: str) -> dict[str, str]:
    """Definitions of the metrics of `masks`."""
    f_beta = f"(1 + {beta2:g}) P R / ({beta2:g} P + R) of the {FOREGROUND}, beta^2 = {beta2:g}; 0 when P = R = 0"
    curve = f"F_beta of the foreground probability p > k/255, k = {first} .. 254"
    probability = "p = 1 - sum of the probabilities of the predicted classes matched to class 0"
    return {
        "accuracy": f"share of pixels whose class is right, {PER_IMAGE}",
        "accuracy_dataset": f"share of pixels whose class is right, {OVER_SET}",
        "iou_foreground": f"intersection over union of the {FOREGROUND}, {PER_IMAGE}; {EMPTY[empty]}",
        "iou_foreground_dataset": f"intersection over union of the {FOREGROUND}, {OVER_SET}",
        "miou": "IoU of each class averaged over the images that have it in truth or prediction, then the mean over "
        "the classes, background included; classes that occur nowhere are left out",
        "miou_dataset": f"IoU of each class {OVER_SET}, then the mean over the classes, background included; classes "
        "that occur nowhere are left out",
        "precision": f"true / predicted foreground, {PER_IMAGE}; 1 where nothing was predicted",
        "precision_dataset": f"true / predicted foreground, {OVER_SET}",
        "recall": f"found / true foreground, {PER_IMAGE}; 1 where there is nothing to find",
        "recall_dataset": f"found / true foreground, {OVER_SET}",
        "f1": f"2 P R / (P + R) of the {FOREGROUND}, {PER_IMAGE}; 0 when P = R = 0",
        "f1_dataset": f"2 P R / (P + R) of the {FOREGROUND}, {OVER_SET}",
        "f_beta": f"{f_beta}; {PER_IMAGE}",
        "f_beta_dataset": f"{f_beta}; {OVER_SET}",
        "max_f_beta": f"{curve}; averaged over the images at each threshold, then the maximum; {probability}",
        "max_f_beta_dataset": f"{curve}; {OVER_SET} at each threshold, then the maximum; {probability}",
        "ari": f"adjusted Rand index of background and foreground over all scored pixels, {PER_IMAGE}",
        "msc": "segmentation covering: mean over the true segments (background and foreground, those that occur) of "
        f"the best IoU with a predicted one, {PER_IMAGE}",
        "precision_macro_dataset": f"true / predicted pixels {MACRO}; 0 for a class that is never predicted",
        "recall_macro_dataset": f"found / true pixels {MACRO}; 0 for a class that is never true",
        "f1_macro_dataset": f"2 P R / (P + R) {MACRO}",
        "num_images": "images that were scored; those without a scored pixel are left out",
    }


PART_DEFINITIONS = {
    "miou_parts": "IoU of each class averaged over the images that have it in truth or prediction, " + PARTS,
    "miou_parts_dataset": f"IoU of each class {OVER_SET}, {PARTS}",
    "miou_parts_void": f"as miou_parts, but {VOID}",
    "miou_parts_void_dataset": f"as miou_parts_dataset, but {VOID}",
}
BASELINES = {
    "baseline_centre_prior_iou": "foreground IoU, per image, then the mean, of one constant mask: where more than half "
    "of the true masks, averaged on a 64 x 64 grid with 255 as background, have foreground (it uses the labels)",
    "baseline_otsu_iou": "foreground IoU, per image, then the mean, of Otsu's threshold on the luma; the side that is "
    "rarer on the image's border is the foreground",
}

_SCORES = ("iou_foreground", "accuracy", "miou", "f_beta", "max_f_beta", "precision", "recall", "f1")
_MACRO = ("precision_macro_dataset", "recall_macro_dataset", "f1_macro_dataset")
#: The metrics of `masks` as reports print them: what is compared first stands first.
ORDER = (
    *_SCORES,
    *PART_DEFINITIONS,
    "ari",
    "msc",
    *BASELINES,
    *(f"{name}_dataset" for name in _SCORES),
    *_MACRO,
    "num_images",
)

CLUSTERS = {
    "ami": "adjusted mutual information (arithmetic mean) of true and predicted classes over the sampled pixels",
    "ari": "adjusted Rand index of true and predicted classes over the sampled pixels",
    "nmi": "normalised mutual information (arithmetic mean) of true and predicted classes over the sampled pixels",
    "miou_greedy": "KLiSH's maximum matching: every predicted class joins the true class that raises mIoU most, until "
    "all are used; IoU averaged over the images that have the class in truth or prediction, then the plain mean over "
    "all true classes, background included, 0 for a class that occurs nowhere",
    "miou_hungarian": "one predicted class for each true one, chosen to maximise it; IoU from counts added over the "
    "whole data set, then the mean over the true classes that occur, background included; a true class without a "
    "partner counts 0",
    "accuracy_greedy": "share of all scored pixels whose class is right after the greedy matching",
    "num_pixels": "pixels that ami, ari and nmi were computed from",
    "num_images": "images that were scored; those without a scored pixel are left out",
}
