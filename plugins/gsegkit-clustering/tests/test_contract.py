from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks([("extractor", "kmeans"), ("extractor", "ahc"), ("extractor", "kasp")])
def test_contract(check):
    check()
