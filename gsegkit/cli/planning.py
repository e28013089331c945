"""The command `plan`: what a run will cost, in one process or in several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import make_table, show_message, size
from gsegkit.errors import plural
from gsegkit.plugins import installed
from gsegkit.progress import duration

if TYPE_CHECKING:
    from gsegkit.engine.estimate import Estimate
    from gsegkit.engine.workers import Together


def plan(
    gen: c.Gen = None,
    extractor: c.Extractor = None,
    seg: c.Seg = None,
    refine: c.RefinePairs = None,
    no_refine: c.NoRefinePairs = False,
    classes: c.ClassesOrName = None,
    target: c.Target = None,
    images: c.Images = None,
    photos: c.Photos = None,
    data: c.Data = None,
    out: c.Out = None,
    samples: c.Samples = None,
    format: c.PairFormat = None,
    rounds: c.Rounds = None,
    train_generator: c.TrainGenerator = None,
    seed: c.Seed = None,
    device: c.Device = None,
    workers: c.PlannedWorkers = None,
    per_machine: c.PerMachine = None,
    bandwidth: c.Bandwidth = None,
    latency: c.Latency = None,
    speed: c.Speed = None,
    option: c.Options = None,
    config: c.ConfigFile = None,
    as_json: c.AsJson = False,
) -> None:
    """Predict time, memory and disk of a run on this machine, by running a few steps of everything.

    With --workers N of the same run in N processes, as `torchrun` starts them.
    """
    chosen = c.read_plan(
        config, option, gen=gen, extractor=extractor, seg=seg, refine=refine, no_refine=no_refine, classes=classes,
        target=target, images=images, photos=photos, data=data, num_samples=samples, rounds=rounds,
        train_generator=train_generator, format=format, seed=seed, device=device,
    )  # fmt: skip
    early.check_plan(chosen, out)
    from gsegkit.engine.estimate import estimate
    from gsegkit.engine.workers import measured_here, predicted, started, threads_of_workers

    folder = out or chosen.default_folder()
    if workers is None:
        found, together = estimate(chosen, installed(), folder), None
    else:
        who = started(workers, chosen.device, per_machine, gigabytes=bandwidth, microseconds=latency, speed=speed)
        with threads_of_workers(chosen.device):
            found = estimate(measured_here(chosen), installed(), folder)
        together = predicted(found, who)
    if as_json:
        print_json({**found.record(), **({"workers": together.record()} if together else {})})
        return
    _show(found)
    if together is not None:
        _show_together(together, speed)


def _show(found: Estimate) -> None:
    console.print("predicted on this machine")
    table = make_table("", "stage", "time")
    for name, seconds in found.seconds.items():
        table.add_row(name, duration(seconds))
    table.add_row("together", duration(found.total_seconds))
    console.print(table)
    console.print(f"memory  {size(found.ram_bytes)}, available {size(found.free_ram_bytes)}")
    if found.vram_bytes:
        console.print(f"gpu memory  {size(found.vram_bytes)}")
    disk = f"{size(found.disk_bytes)} in the end, {size(found.disk_peak_bytes)} while it works"
    console.print(f"disk  {disk}, {found.files:,} files, free {size(found.free_disk_bytes)}")
    if found.disk_peak_bytes > found.free_disk_bytes:
        show_message(console, "the disk is too small for this run", "warning")


def _show_together(found: Together, speed: float | None) -> None:
    who = found.workers
    where = f" on {plural(who.machines, 'machine')}" if who.machines > 1 else ""
    console.print(f"\npredicted for {plural(who.size, 'process')}{where}")
    table = make_table("", "stage", "time", "one process alone", "divided", "messages", "sent", "limited by")
    for name, stage in found.stages.items():
        table.add_row(
            name, duration(stage.seconds), duration(stage.alone), duration(stage.compute), duration(stage.messages),
            size(round(stage.sent_bytes)), stage.limit,
        )  # fmt: skip
    one = sum(stage.one for stage in found.stages.values())
    table.add_row("together", duration(found.seconds), f"one: {duration(one)}")
    console.print(table)
    slowest = found.stages[found.bottleneck]
    console.print(
        f"bottleneck  {found.bottleneck}, limited by {slowest.limit}; {one / found.seconds:.1f} times as fast"
    )
    console.print(f"memory  {size(found.ram_bytes)} a process, {size(found.machine_ram_bytes)} a machine")
    console.print(f"disk  {size(found.disk_peak_bytes)} while it works, shared by all")
    link = f"{who.link.bandwidth / 1e9:g} GB/s and {who.link.latency * 1e6:g} µs between two processes"
    each = f", each process {speed:g} times as fast as one here" if speed is not None else ""
    console.print(f"assumed  {link}{each}", soft_wrap=True)
