import threading

import pytest
import torch

from gsegkit.context import RunContext, read_metrics
from gsegkit.errors import ArtifactError, DivergedError, InterruptedRunError
from gsegkit.images import read_image
from gsegkit.rundir import CHECKPOINT_FILE, METRICS_FILE
from gsegkit.testing import Listener


def train(ctx, steps=23, stop_at=None, lr=0.1, loss_of=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    loop = ctx.steps(steps, state={"model": model, "optimizer": optimizer})
    for step in loop:
        loss = (model(torch.randn(6, 4)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loop.log(loss=loss_of(step) if loss_of else loss)
        if step == stop_at:
            ctx.stop.set()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("stop_at", range(0, 22, 3))
def test_a_resumed_loop_is_bit_identical(tmp_path, stop_at):
    whole_ctx = RunContext(tmp_path / "whole", checkpoint_seconds=3600)
    whole = train(whole_ctx)
    first = RunContext(tmp_path / "parts", checkpoint_seconds=3600)
    with pytest.raises(InterruptedRunError):
        train(first, stop_at=stop_at)
    resumed = train(RunContext(tmp_path / "parts", checkpoint_seconds=0))
    assert torch.equal(whole, resumed)
    assert (tmp_path / "whole" / METRICS_FILE).read_text() == (tmp_path / "parts" / METRICS_FILE).read_text()


def test_a_loop_that_dies_goes_on_from_its_last_checkpoint(tmp_path):
    def dies(step):
        if step == 13:
            raise RuntimeError("power cut")
        return 1.0

    whole = train(RunContext(tmp_path / "whole"), loss_of=lambda step: 1.0)
    with pytest.raises(RuntimeError):
        train(RunContext(tmp_path / "parts", checkpoint_seconds=0), loss_of=dies)
    assert torch.equal(whole, train(RunContext(tmp_path / "parts"), loss_of=lambda step: 1.0))


def test_the_loop_leaves_the_global_generator_alone(ctx):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for _ in ctx.steps(3):
        torch.rand(1)
    assert torch.equal(before, torch.get_rng_state())


def test_metrics_of_lost_steps_are_dropped_and_a_torn_line_is_skipped(ctx):
    train(ctx, 20)
    path = ctx.folder / METRICS_FILE
    with open(path, "a") as file:
        file.write('{"step": 30, "loss": 0.1}\n{"step": 4')
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30]
    train(ctx, 20)
    assert [row["step"] for row in read_metrics(path)] == [10, 20]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path, bad):
    ctx = RunContext(tmp_path, checkpoint_seconds=0)
    with pytest.raises(DivergedError, match="loss is"):
        train(ctx, loss_of=lambda step: bad if step >= 7 else 1.0)
    from gsegkit.tensors import load_tree

    assert load_tree(tmp_path / CHECKPOINT_FILE)["done"] == 7


def test_weights_that_are_not_finite_never_reach_a_checkpoint(tmp_path):
    ctx = RunContext(tmp_path, checkpoint_seconds=0)
    model = torch.nn.Linear(1, 1)
    with pytest.raises(DivergedError, match=r"model\.weight became non-finite"):
        for step in ctx.steps(9, state={"model": model}):
            if step == 4:
                model.weight.data.fill_(float("nan"))
    from gsegkit.tensors import load_tree

    assert load_tree(tmp_path / CHECKPOINT_FILE)["done"] == 4


def test_a_damaged_checkpoint_is_refused_not_used(ctx):
    train(ctx, 5)
    path = ctx.folder / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError):
        train(ctx, 9)


def test_progress_tells_what_happened_and_smoke_cuts_the_loop(tmp_path):
    listener = Listener()
    ctx = RunContext(tmp_path / "segmenter", progress=listener, smoke=True)
    assert list(ctx.steps(50, name="training")) == [0, 1, 2]
    assert listener.events == [("segmenter: training", 3, 0, 50), 1, 2, 3, "end"]
    assert ctx.limit(50) == 3


def test_track_stops_cleanly(tmp_path):
    stop = threading.Event()
    ctx = RunContext(tmp_path, stop=stop)
    seen = []
    with pytest.raises(InterruptedRunError):
        for item in ctx.track([1, 2, 3], "things"):
            seen.append(item)
            stop.set()
    assert seen == [1]


def test_stages_have_their_own_folder_and_seed_and_share_sample_identities(ctx):
    a, b = ctx.stage("extractor"), ctx.stage("extractor", 1)
    assert (a.folder.name, b.folder.name) == ("extractor", "extractor-1")
    assert len({ctx.seed, a.seed, b.seed}) == 3
    assert torch.equal(a.seeds("fit", 3), b.seeds("fit", 3))
    assert [len(batch) for batch in a.batches("fit", 35)] == [16, 16, 3]


def test_a_figure_lies_where_the_report_looks_with_its_caption(tmp_path):
    ctx = RunContext(tmp_path / "extractor")
    rows = ctx.figure("rows", torch.zeros(16, 3, 4, 4, dtype=torch.uint8), "Rows: original; mask.")
    assert rows == tmp_path / "extractor" / "figures" / "rows.png"
    assert rows.with_suffix(".txt").read_text() == "Rows: original; mask.\n"
    assert read_image(rows).shape == (3, 10, 46)  # 2 rows of 8, 2 pixels between
    single = torch.full((3, 5, 7), 9, dtype=torch.uint8)
    assert torch.equal(read_image(ctx.figure("one", single)), single)


def test_a_loop_ends_when_its_time_is_over_and_goes_on_with_more(tmp_path):
    whole = train(RunContext(tmp_path / "whole"))
    seen: list[int] = []

    def timed(seconds, began=0.0):
        ctx = RunContext(tmp_path / "parts", checkpoint_seconds=3600, time_limit=seconds)
        ctx.began -= began
        seen.clear()
        return train(ctx, loss_of=lambda step: seen.append(step) or 1.0)

    timed(60.0, began=100.0)  # over before it began: the first step is taken nevertheless
    assert seen == [0]
    timed(60.0)
    assert seen == [], "the time of the first call counts"
    assert torch.equal(timed(1000.0), whole)
    assert seen == list(range(1, 23))
    assert torch.equal(train(RunContext(tmp_path / "parts")), whole), "without a limit the checkpoint is read as ever"
