from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks(["gsegkit-slurm"])
def test_contract(check):
    check()
