"""The page of answers has the keys that an answer can have."""

import re

from sledgehammer_allennlp.bulk.kept_names import ANSWER_NAMES
from tests.docs.reader import ROOT


def test_each_key_is_explained_once():
    page = (ROOT / "docs" / "reference" / "answers.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(`.+`)\n: ", page, flags=re.MULTILINE)
    keys = [key for term in terms for key in re.findall(r"`(\w+)`", term)]
    assert sorted(keys) == sorted(ANSWER_NAMES)


def test_the_readme_is_no_longer_than_a_page_or_two():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
