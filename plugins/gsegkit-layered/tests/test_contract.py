from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks([("generator", "layered"), ("generator", "perturbgan")])
def test_contract(check):
    check()
