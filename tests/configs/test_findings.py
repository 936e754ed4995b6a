import re

import pytest

from sledgehammer_allennlp.configs.data_summary import read_summary
from sledgehammer_allennlp.configs.findings import check, warnings
from tests.configs.test_data_summary import write

GOOD = [("pos" if i % 2 else "neg", f"text {i}") for i in range(400)]
GOOD_DEV = [("pos" if i % 2 else "neg", f"dev text {i}") for i in range(200)]


def summaries(folder, train, dev):
    return [
        read_summary(write(folder / f"{name}.tsv", rows))
        for name, rows in (("train", train), ("dev", dev))
    ]


def test_good_data_give_no_warning(tmp_path):
    train, dev = summaries(tmp_path, GOOD, GOOD_DEV)
    check(train, dev)
    assert warnings(train, dev) == []


@pytest.mark.parametrize(
    "train, dev, message",
    [
        (
            [("a", "x"), ("a", "y")],
            [("a", "z")],
            "train.tsv: found one label only, 'a', in 2 texts",
        ),
        (
            GOOD,
            [("pos", "x"), ("so", "y"), ("la", "z")],
            r"dev.tsv, line 2: the label 'so' \(and 1 other labels of it\) does not stand in "
            ".*train.tsv: wanted one of 'neg', 'pos'",
        ),
        (
            GOOD,
            [("pos", "x", "y")],
            "dev.tsv, line 1: found pairs, but single texts in .*train.tsv",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(tmp_path, train, dev, message):
    with pytest.raises(ValueError, match=message):
        check(*summaries(tmp_path, train, dev))


@pytest.mark.parametrize(
    "train, dev, message",
    [
        ([*GOOD, ("neg", "text 1")], GOOD_DEV, "1 text has different labels .* lines 2 and 401."),
        (GOOD, [*GOOD_DEV, ("neg", "text 2")], "dev.tsv: 1 of 201 texts stands in .*in line 201"),
        ([*GOOD, ("rare", "x")], GOOD_DEV, "train.tsv: fewer than 10 texts of 1 label: 'rare'"),
        ([*GOOD, ("rare", "x")], GOOD_DEV, "dev.tsv: no text of 1 label of .*: 'rare'"),
        (
            [*GOOD, ("rare", "x")],
            GOOD_DEV,
            "200 times as many texts of 'neg' .*accuracies with 0.500",
        ),
        (GOOD, GOOD_DEV[:199], "dev.tsv: 199 texts are few to calibrate .* 200 at least"),
    ],
)
def test_what_may_be_a_mistake_is_named(tmp_path, train, dev, message):
    data = summaries(tmp_path, train, dev)
    check(*data)
    assert any(re.search(message, warning) for warning in warnings(*data)), warnings(*data)
