"""Settings of exits that are refused when they are built."""

import pytest

from sledgehammer_allennlp.exits.building import check_size_for_tokens


@pytest.mark.parametrize("setting", ["alignment", "token_features"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "128", True, 4097, 10**12, [128]])
def test_sizes_that_cannot_be_are_refused(setting, wrong):
    with pytest.raises(ValueError, match=f"^{setting} is .*: wanted an integer from 1 to 4096"):
        check_size_for_tokens(setting, wrong)


@pytest.mark.parametrize("possible", [None, 1, 128, 4096])
def test_others_are_not(possible):
    check_size_for_tokens("token_features", possible)
