from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks(["gsegkit-studiogan"])
def test_contract(check):
    check()
