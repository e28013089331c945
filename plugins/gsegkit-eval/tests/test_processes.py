"""Scores of several processes are those of one, to the last digit."""

import pytest
import torch
from gsegkit_eval.clusters import Clusters
from gsegkit_eval.config import ClustersConfig, MasksConfig
from gsegkit_eval.masks import Masks

from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.testing.processes import together


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data():
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (11, 3, 12, 10), generator=draw, dtype=torch.uint8)
    masks = (pixels[:, 0] // 86).clone()
    masks[2, :5] = 255
    masks[4] = 255  # nothing to score
    return MemoryDataset(pixels, masks, ("ground", "grey", "bright"))


class Guess:
    def __init__(self, classes):
        self.classes = tuple(f"cluster-{i}" for i in range(classes))

    def __call__(self, pixels):
        return (
            (pixels[:, :1].float() / 90 - torch.arange(len(self.classes)).reshape(1, -1, 1, 1)).abs().neg().softmax(1)
        )


@pytest.mark.parametrize(
    ("evaluator", "classes"),
    [
        (Masks(MasksConfig(num_match_images=3)), 4),
        (Masks(MasksConfig(num_match_images=0, match="hungarian")), 4),
        (Masks(MasksConfig()), 2),
        (Clusters(ClustersConfig(max_pixels=1000)), 4),
    ],
)
def test_scores_do_not_depend_on_the_number_of_processes(evaluator, classes, tmp_path):
    assert evaluator.divided
    dataset, read = data(), []
    get = dataset.__class__.__getitem__

    class Counted(MemoryDataset):
        def __getitem__(self, index):
            read.append(index)
            return get(self, index)

    dataset.__class__ = Counted

    def work(team):
        read.clear()
        report = evaluator.evaluate(Guess(classes), dataset, RunContext(tmp_path, team=team))
        return report.to_json(), len(read)

    ((alone, reads),) = together(1, work)
    assert alone["num_images"] in (7, 10, 10)
    for mine, own in together(3, work):
        assert mine == alone
        assert own < reads / 2, "each process reads its share"
