from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks([("generator", "dcgan")])
def test_contract(check):
    check()
