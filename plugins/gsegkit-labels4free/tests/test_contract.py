from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks(["gsegkit-labels4free"])
def test_contract(check):
    check()
