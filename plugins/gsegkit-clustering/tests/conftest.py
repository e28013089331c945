import gsegkit_clustering
import pytest
import torch

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.clustering.config import FeatureConfig
from gsegkit.clustering.points import Points, collect_points, upsample
from gsegkit.context import RunContext
from gsegkit.plugins import Registry

REGISTRY = Registry()
REGISTRY.add(gsegkit_clustering, "gsegkit-clustering")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy():
    return Toy(ToyConfig(size=32))


@pytest.fixture
def make():
    """name, options -> extractor"""
    return lambda name, **options: REGISTRY.build("extractor", name, options)


@pytest.fixture
def fit(make, toy, tmp_path):
    """name, options -> extractor fitted on the toy"""

    def fitted(name, seed=0, **options):
        part = make(name, **options)
        part.fit(toy, RunContext(tmp_path / f"{name}-{seed}", seed=seed))
        return part

    return fitted


@pytest.fixture
def collect(toy, tmp_path):
    """images, pixels of each -> the points that a fit with seed 0 sees"""
    return lambda images, pixels: collect_points(
        toy, FeatureConfig(num_images=images, pixels_per_image=pixels), RunContext(tmp_path, seed=0)
    )


@pytest.fixture
def pixels(toy):
    """extractor -> (batch of the toy, features of all its pixels [N, D])"""

    def features_of(part):
        batch = toy.sample(torch.arange(3), features=part.features(toy.info))
        maps = [upsample(batch.features[name], (32, 32)) for name in part.layers]
        return batch, torch.cat(maps, dim=1).permute(0, 2, 3, 1).flatten(0, 2)

    return features_of


@pytest.fixture
def points_of():
    """[N, D] -> Points"""

    def made(x):
        zeros = torch.zeros(len(x), dtype=torch.int64)
        return Points(x=x, image=zeros, pixel=zeros, size=(1, 1), layers=("full",))

    return made
