"""k-means by faiss: says where it really ran, and uses all points unless told otherwise."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans, check_points
from gsegkit.errors import DataError, MissingDependencyError
from gsegkit.interfaces import KMeans
from gsegkit.seeds import child_seed
from gsegkit_faiss.config import FaissConfig

Floats = NDArray[np.float32]

REPAIR = "pip uninstall -y faiss-cpu faiss-gpu faiss-gpu-cuvs\npip install --force-reinstall --no-deps faiss-cpu"


class FaissKMeans(KMeans):
    """K-means by `faiss.Kmeans`.

    The same points, seed, options and device give the same result. An empty cluster is refilled by faiss's rule: a
    large cluster's centre is split in two.

    Attributes:
        inertia: sum of squared distances of all points to the returned centres, NaN before the first fit.
    """

    config: FaissConfig

    def __init__(self, config: FaissConfig) -> None:
        super().__init__(config)
        self.faiss = load_faiss()
        self.inertia = math.nan
        self._device = "none"

    @property
    def used_device(self) -> str:
        """Where faiss's index lay in the last fit(): `"cpu"`, `"cuda:0"` ...; `"none"` before the first."""
        return self._device

    def fit(self, points: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Cluster [M, D] float32 points into `k` clusters; see `KMeans.fit`."""
        check_points(points, k)
        array = points.detach().cpu().contiguous().numpy()
        # every value, not the sum: finite float32 values may add up to infinity
        if not bool(torch.isfinite(torch.from_numpy(array)).all()):
            raise DataError("the points to cluster hold NaN or infinity", "the features of a generator are broken")
        with self._threads():
            seeds = [child_seed(seed, "faiss", start) for start in range(self.config.num_starts)]
            found = [self._start(points, array, k, one) for one in seeds]
        self.inertia, centres, labels = min(found, key=lambda start: start[0])
        return torch.from_numpy(centres).to(points.device), torch.from_numpy(labels).long().to(points.device)

    def _start(self, points: Tensor, array: Floats, k: int, seed: int) -> tuple[float, Floats, NDArray[np.int64]]:
        """One start: its inertia, centres [k, D] and labels [M]."""
        kmeans = self.faiss.Kmeans(
            array.shape[1],
            k,
            niter=self.config.iterations,
            seed=seed % 2**31,
            min_points_per_centroid=1,  # faiss prints a warning below 39
            max_points_per_centroid=self.config.max_points_per_centroid or -(-len(array) // k),
        )
        resources = self._move(kmeans, points)
        # the core's greedy k-means++ is quicker and better than faiss's, and old versions of faiss have none
        starter = TorchKMeans(KMeansConfig.model_validate({"init": self.config.init}))
        first = starter.first_centres(points.detach(), k, seed)
        kmeans.train(array, init_centroids=first.cpu().numpy())
        distances, labels = kmeans.assign(array)
        self._device = _device_of(self.faiss, kmeans.index)
        del resources  # kept alive until faiss is done with the index that uses them
        return float(distances.sum(dtype="float64")), kmeans.centroids.copy(), labels

    def _move(self, kmeans: Any, points: Tensor) -> Any:
        """Put the index on a GPU when that is wanted and possible; return what must stay alive meanwhile."""
        count = self.faiss.get_num_gpus() if hasattr(self.faiss, "StandardGpuResources") else 0
        if self.config.device == "gpu" and count == 0:
            raise MissingDependencyError(
                f"faiss {self.faiss.__version__} ({self.faiss.get_compile_options().strip()}) cannot use a GPU here",
                "pip install 'gsegkit-faiss[gpu]' on Linux with an NVIDIA GPU, or -o kmeans.device=cpu",
            )
        if self.config.device == "cpu" or count == 0:
            return None
        number = points.device.index or 0 if points.device.type == "cuda" else 0
        resources = self.faiss.StandardGpuResources()
        kmeans.index = self.faiss.index_cpu_to_gpu(resources, number, kmeans.index)
        return resources

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        # two OpenMP runtimes with several threads each crash on macOS and spin against each other elsewhere
        default = 1 if sys.platform == "darwin" else torch.get_num_threads()
        before = self.faiss.omp_get_max_threads()
        self.faiss.omp_set_num_threads(self.config.threads or default)
        try:
            yield
        finally:
            self.faiss.omp_set_num_threads(before)


def load_faiss() -> Any:
    """Import faiss.

    Raises:
        MissingDependencyError: it is not installed, cannot be imported, or is only the empty folder that remains
            when one of the distributions which share the package name `faiss` was uninstalled.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise _unloadable(error) from error
        raise MissingDependencyError("faiss is not installed", "pip install 'gsegkit-faiss[cpu]'") from None
    except Exception as error:  # a missing CUDA library raises OSError, a NumPy mismatch ImportError ...
        raise _unloadable(error) from error
    if getattr(faiss, "__file__", None) is None or not hasattr(faiss, "Kmeans"):
        raise MissingDependencyError(
            "the package 'faiss' is installed but empty: two faiss distributions overwrote each other", REPAIR
        )
    return faiss


def _unloadable(error: Exception) -> MissingDependencyError:
    reason = (str(error).splitlines() or [""])[0]
    return MissingDependencyError(f"faiss cannot be imported: {type(error).__name__}: {reason}", REPAIR)


def _device_of(faiss: Any, index: Any) -> str:
    index = faiss.downcast_index(index)
    return f"cuda:{index.getDevice()}" if type(index).__name__.startswith("GpuIndex") else "cpu"
