from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks(["labels4free"])
def test_contract(check):
    check()
