import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from gsegkit_clustering.kmeans import cluster_sums, concentration, on_sphere, precision
from gsegkit_clustering.points import as_float32

from gsegkit.errors import ConfigError, DataError

SMALL = {"num_images": 16, "pixels_per_image": 100, "kmeans": "torch"}


def test_the_plugin_is_light_and_registered():
    code = "import sys, gsegkit_clustering, gsegkit_clustering.config; print({'torch', 'sklearn', 'numpy'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_winner_is_the_nearest_centre(fit, pixels):
    part = fit("kmeans", k=7, **SMALL)
    batch, x = pixels(part)
    nearest = torch.cdist(x.double(), part.weight.double()).argmin(dim=1)
    ids = [int(name.removeprefix("cluster-")) for name in part.classes]
    found = torch.tensor(ids)[part.scores(batch.features, (32, 32)).argmax(dim=1).flatten()]
    assert (found == nearest).float().mean() > 0.9995  # a tie may fall otherwise in float32
    assert len(nearest.unique()) == 7
    assert part.levels == (7,)


def test_by_angle_the_winner_has_the_largest_cosine(fit, pixels):
    part = fit("kmeans", k=7, metric="arccos", **SMALL)
    assert torch.allclose(part.weight.norm(dim=1), torch.ones(7), atol=1e-5)
    batch, x = pixels(part)
    angles = (F.normalize(x.double(), dim=1) @ part.weight.double().T).clamp(-1, 1).arccos()
    ids = [int(name.removeprefix("cluster-")) for name in part.classes]
    found = torch.tensor(ids)[part.scores(batch.features, (32, 32)).argmax(dim=1).flatten()]
    assert (found == angles.argmin(dim=1)).float().mean() > 0.9995


def test_probabilities_are_those_of_round_gaussians(fit, pixels):
    part = fit("kmeans", k=4, **SMALL)
    batch, x = pixels(part)
    variance = part.fit_facts["mean_squared_distance"] / x.shape[1]
    rows = part.entry(4)["rows"]
    expected = (-torch.cdist(x.double(), part.weight[rows].double()).square() / (2 * variance)).softmax(dim=1)
    found = part.extract(batch, None).probs.permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.allclose(found.double(), expected, atol=5e-3)
    assert precision(0.0, x) == 1.0


def test_concentration_on_the_sphere_in_three_dimensions():
    for kappa in (5.0, 20.0, 100.0):  # mean cosine coth(kappa) - 1 / kappa
        cosine = 1 / math.tanh(kappa) - 1 / kappa
        assert concentration(2 - 2 * cosine, 3) == pytest.approx(kappa, rel=0.06)
    assert concentration(3.0, 3) == 0.0
    assert math.isfinite(concentration(0.0, 3))


def test_the_sphere_is_left_at_a_fixed_point(collect):
    x = F.normalize(collect(16, 100).x, dim=1)
    centres, labels = on_sphere(x, x[:5].clone())
    assert torch.equal(labels, (x @ centres.T).argmax(dim=1))
    assert torch.allclose(centres, F.normalize(cluster_sums(x, labels, 5), dim=1).float(), atol=2e-3)
    # a cluster without points keeps its centre
    far = torch.cat([x[:2], -F.normalize(x.mean(dim=0, keepdim=True), dim=1)])
    x = x[(x @ far.T).argmax(dim=1) < 2]
    kept, labels = on_sphere(x, far)
    assert not (labels == 2).any()
    assert torch.allclose(kept[2], far[2])


def test_the_option_kmeans_chooses_the_backend(fit, monkeypatch):
    from gsegkit.clustering.kmeans import TorchKMeans

    seen = []
    whole = TorchKMeans.fit
    monkeypatch.setattr(
        TorchKMeans, "fit", lambda self, x, k, seed: (seen.append((k, seed)), whole(self, x, k, seed))[1]
    )
    fit("kmeans", k=3, seed=5, **SMALL)
    assert seen == [(3, 5)]


def test_more_clusters_than_points(fit):
    with pytest.raises(DataError, match="16 pixels cannot make 20 clusters"):
        fit("kmeans", k=20, num_images=4, pixels_per_image=4)
    with pytest.raises(DataError, match="16 pixels cannot make 100 clusters"):
        fit("kasp", num_images=4, pixels_per_image=4)
    with pytest.raises(DataError, match="4 pixels cannot make 10 clusters"):
        fit("ahc", num_images=2, pixels_per_image=2)


def test_a_copy_that_does_not_fit_is_refused(points_of):
    points = points_of(torch.ones(1 << 16, 4, dtype=torch.float16))
    assert as_float32(points, False, 1).dtype == torch.float32
    with pytest.raises(ConfigError, match="as float32, 2 MiB; memory_mib is 1") as caught:
        as_float32(points_of(torch.ones(1 << 16, 8, dtype=torch.float16)), False, 1)
    assert "dtype=float32 with storage=disk" in caught.value.hint
    x = torch.ones(10, 4)
    assert as_float32(points_of(x), False, 1) is x


def test_a_point_without_direction(points_of):
    x = torch.eye(4)
    x[2] = 0
    with pytest.raises(DataError, match="has no direction"):
        as_float32(points_of(x), True, 1)


def test_half_precision_and_files(fit, pixels):
    whole, half = fit("kmeans", k=4, **SMALL), fit("kmeans", k=4, dtype="float16", storage="disk", **SMALL)
    batch, _ = pixels(whole)
    one, two = (part.scores(batch.features, (32, 32)).argmax(dim=1) for part in (whole, half))
    assert (one == two).float().mean() > 0.99
