"""Foregrounds that are found in each photograph by itself: Otsu, two-means, GrabCut."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from gsegkit.training import off_the_border, otsu_foreground
from gsegkit_baselines.base import EachPhotograph, Mask, lab
from gsegkit_baselines.config import GrabCutConfig, TwoMeansConfig


class Otsu(EachPhotograph):
    """Otsu's threshold on the grey values; what is rarer on the border is foreground."""

    def foreground(self, pixels: Tensor) -> Mask:
        """See `EachPhotograph.foreground`; empty for a photograph of one grey level."""
        return otsu_foreground(pixels)


class TwoMeans(EachPhotograph):
    """Two clusters of a photograph's colours in Lab; what is rarer on the border is foreground."""

    config: TwoMeansConfig

    def foreground(self, pixels: Tensor) -> Mask:
        """See `EachPhotograph.foreground`; empty for a photograph of one colour."""
        points = lab(pixels).flatten(1).T.numpy()
        some = points
        if len(points) > self.config.pixels:
            draw = np.random.default_rng(self.config.seed)
            some = points[draw.choice(len(points), self.config.pixels, replace=False)]
        clusters = KMeans(min(2, len(some)), n_init=1, random_state=self.config.seed)
        with warnings.catch_warnings():  # of one colour there is one cluster: then nothing is foreground
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = clusters.fit(some).predict(points).astype(bool)
        return off_the_border(found.reshape(pixels.shape[1:]))


class GrabCut(EachPhotograph):
    """GrabCut (Rother et al. 2004) from a rectangle a little inside the border."""

    config: GrabCutConfig

    def foreground(self, pixels: Tensor) -> Mask:
        """See `EachPhotograph.foreground`; empty for a photograph of one colour, or of a few pixels."""
        from gsegkit_baselines.cut import from_rectangle  # wants OpenCV

        return from_rectangle(pixels, self.config)
