"""The closed vocabulary of capabilities: what a component provides, and what it requires of its partners."""

from __future__ import annotations

CAPABILITIES: dict[str, str] = {
    "latent-grad": "synthesize() is differentiable in the latents",
    "features": "synthesize() can return named inner activations",
    "feature-edit": "named activations can be replaced while the image is made (edit points)",
    "masks": "samples come with class probabilities of their own",
    "trainable": "fit() trains the generator on an image folder",
    "classes": "samples are conditioned on a class label",
    "weights": "the option `weights` takes stored parts, runs, zoo names and files of other software",
    "without-pairs": "gsegkit fit makes the segmenter, from photographs without labels or from nothing",
    "truth": "samples come with an exact ground-truth mask (the toy only)",
}


def unknown_capabilities(names: tuple[str, ...]) -> list[str]:
    """Return those of `names` that are not in the vocabulary, in order."""
    return [name for name in names if name not in CAPABILITIES]
