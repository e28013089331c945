"""What the options may be: nothing that they hold can become a command of a shell."""

import pytest
from gsegkit_slurm.config import SlurmConfig, seconds
from gsegkit_slurm.layout import Layout, lay_out

from gsegkit.config import build_config, parse_assignments
from gsegkit.errors import ConfigError


def options(*assignments):
    return build_config(
        SlurmConfig, parse_assignments(f"launcher.{text}" for text in assignments)["launcher"], "launcher"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [(90, 5400), ("90", 5400), ("1:30", 90), ("1:30:00", 5400), ("1-0", 86400), ("1-12:30", 131400), ("0-0:0:7", 7)],
)
def test_a_time_is_what_sbatch_means(text, expected):
    assert seconds(text) == expected


def test_options_are_read_as_they_are_typed():
    config = options(
        "partition=gpu", "time=1-12:00:00", "mem=64G", "setup=module load cuda", "sbatch.reservation=spring",
        "sbatch.exclusive=true", "sbatch.nice=5",
    )  # fmt: skip
    assert (config.partition, config.seconds, config.mem) == ("gpu", 129600, "64G")
    assert config.setup == ("module load cuda",)
    assert config.sbatch == {"reservation": "spring", "exclusive": True, "nice": 5}
    assert options('setup=["module purge", "module load cuda"]').setup == ("module purge", "module load cuda")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partition=gpu\n#SBATCH --uid=0", "launcher.partition: should be one line of letters"),
        ("account=a'; touch pwned; '", "launcher.account: should be one line of letters"),
        ("constraint=$(touch pwned)", "launcher.constraint: should be one line of letters"),
        ("qos=`touch pwned`", "launcher.qos: should be one line of letters"),
        ('qos="a\\"b"', "launcher.qos: should be one line of letters"),
        ("sbatch.comment=a\nb", "should be one line of letters"),
        ("sbatch.comment\n#SBATCH=a", "is no name of an option of sbatch"),
        ("sbatch.--comment=a", "is no name of an option of sbatch"),
        ("sbatch.wrap=id", "sbatch.wrap is set by the launcher itself"),
        ("sbatch.cpus-per-task=4", "give launcher.cpus_per_task"),
        ("setup=module load cuda\nid", "should be one line of shell"),
        ("setup=", "should be one line of shell"),
        ("mem=64 GB", "launcher.mem: string should match pattern"),
        ("time=soon", "should be minutes, or as sbatch writes it"),
        ("time=1:2:3:4", "should be minutes, or as sbatch writes it"),
        ("time=1", "too little for a signal_delay of 120 s"),
        ("nodes=0", "launcher.nodes: input should be greater than or equal to 1"),
        ("partitoin=gpu", "did you mean 'partition'?"),
    ],
)
def test_what_cannot_be_an_option_is_refused(text, said):
    with pytest.raises(ConfigError) as caught:
        options(text)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("given", "workers", "expected"),
    [
        ({}, None, Layout(1, 1, 0)),
        ({}, 4, Layout(1, 4, 4)),
        ({"gpus_per_node": 4}, 8, Layout(2, 4, 8)),
        ({"gpus_per_node": 4}, None, Layout(1, 4, 4)),
        ({"gpus_per_node": 4, "nodes": 2}, None, Layout(2, 4, 8)),
        ({"nodes": 4, "array": 100}, 8, Layout(4, 2, 100)),
        ({"array": 0}, 8, Layout(1, 8, 0)),
    ],
)
def test_processes_are_laid_out_evenly(given, workers, expected):
    assert lay_out(SlurmConfig(**given), workers) == expected
    assert expected.workers == (workers or expected.workers)


@pytest.mark.parametrize(
    ("given", "workers", "hint"),
    [
        ({"nodes": 2}, 3, "--workers 2"),
        ({"gpus_per_node": 4}, 7, "--workers 6"),
        ({"nodes": 1, "gpus_per_node": 2}, 4, "more -o launcher.nodes"),
        ({"cluster": "local", "nodes": 2}, 4, "omit launcher.nodes"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(given, workers, hint):
    with pytest.raises(ConfigError) as caught:
        lay_out(SlurmConfig(**given), workers)
    assert hint in caught.value.hint
