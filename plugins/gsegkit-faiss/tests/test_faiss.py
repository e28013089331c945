import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from gsegkit_faiss.config import FaissConfig
from gsegkit_faiss.kmeans import FaissKMeans

from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.errors import DataError, MissingDependencyError
from gsegkit.plugins import Registry


@pytest.fixture
def needs_faiss():
    faiss = pytest.importorskip("faiss")
    if not hasattr(faiss, "Kmeans"):
        pytest.skip("faiss is broken here")
    return faiss


def blobs(count=2000, dims=9, groups=6, spread=0.5):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(groups, dims, generator=generator) * 2
    return centres[torch.randint(groups, (count,), generator=generator)] + spread * torch.randn(
        count, dims, generator=generator
    )


def make(**options):
    return FaissKMeans(FaissConfig(**options))


@pytest.mark.usefixtures("needs_faiss")
def test_agrees_with_the_built_in_backend():
    points = blobs()
    kmeans, reference = make(device="cpu"), TorchKMeans(KMeansConfig())
    centres, labels = kmeans.fit(points, 6, 0)
    reference.fit(points, 6, 0)
    assert (centres.shape, centres.dtype, labels.dtype) == ((6, 9), torch.float32, torch.int64)
    assert kmeans.inertia == pytest.approx(reference.inertia, rel=1e-3)
    assert torch.equal(labels, torch.cdist(points, centres).argmin(dim=1))
    assert kmeans.used_device == "cpu"


@pytest.mark.usefixtures("needs_faiss")
def test_same_seed_same_result():
    points = blobs(spread=2)
    first, second = make(device="cpu").fit(points, 6, 3), make(device="cpu").fit(points, 6, 3)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], make(device="cpu").fit(points, 6, 4)[0])


def test_all_points_are_used_unless_told_otherwise(needs_faiss, monkeypatch):
    seen = []

    class Spy(needs_faiss.Kmeans):
        def __init__(self, d, k, **kwargs):
            seen.append(kwargs["max_points_per_centroid"])
            super().__init__(d, k, **kwargs)

    kmeans, limited = make(device="cpu"), make(device="cpu", max_points_per_centroid=300)
    monkeypatch.setattr(needs_faiss, "Kmeans", Spy)
    points = torch.cat([torch.zeros(1999, 1), torch.ones(1, 1)])
    centres, _ = kmeans.fit(points, 2, 0)
    limited.fit(points, 2, 0)
    assert sorted(centres.flatten().tolist()) == [0, 1]
    assert seen == [1000, 300]


def test_the_number_of_threads_is_put_back(needs_faiss):
    before = needs_faiss.omp_get_max_threads()
    make(threads=before + 1).fit(blobs(100), 2, 0)
    assert needs_faiss.omp_get_max_threads() == before


@pytest.mark.usefixtures("needs_faiss")
def test_bad_points():
    with pytest.raises(DataError, match="cannot make 5 clusters of 4 points"):
        make().fit(torch.zeros(4, 2), 5, 0)
    with pytest.raises(DataError, match="NaN or infinity"):
        make().fit(torch.full((4, 2), np.nan), 2, 0)


def test_a_gpu_that_is_not_there_is_said(needs_faiss):
    if needs_faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingDependencyError, match="cannot use a GPU here"):
        make(device="gpu").fit(blobs(100), 2, 0)


def test_broken_namespace_package_is_recognised(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", types.ModuleType("faiss"))
    with pytest.raises(MissingDependencyError, match="installed but empty") as caught:
        make()
    assert [line.split()[:2] for line in caught.value.hint.splitlines()] == [["pip", "uninstall"], ["pip", "install"]]


def test_missing_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match="faiss is not installed"):
        make()


def test_an_import_that_fails_is_named(monkeypatch, tmp_path):
    (tmp_path / "faiss.py").write_text("raise OSError('libcublas.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"OSError: libcublas\.so\.12"):
        make()


def test_the_plugin_is_light_and_registered():
    code = "import sys, gsegkit_faiss, gsegkit_faiss.config; print({'torch', 'faiss'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    import gsegkit_faiss

    registry = Registry()
    registry.add(gsegkit_faiss, "gsegkit-faiss")
    assert not registry.failures
    assert registry.find("kmeans", "faiss").component.extra == "gsegkit-faiss[cpu]"


@pytest.mark.gpu
def test_gpu(needs_faiss):
    if not needs_faiss.get_num_gpus():
        pytest.skip("this faiss has no GPU support")
    points = blobs()
    kmeans, reference = make(), make(device="cpu")
    centres, _ = kmeans.fit(points.cuda(), 6, 0)
    reference.fit(points, 6, 0)
    assert kmeans.used_device.startswith("cuda")
    assert centres.device.type == "cuda"
    assert kmeans.inertia == pytest.approx(reference.inertia, rel=1e-2)
