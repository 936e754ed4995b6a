"""The table of families is what the code says."""

from scripts.family_table import family_table
from sledgehammer_allennlp.encoders.families import FAMILIES


def test_the_table_has_a_line_for_each_family():
    assert len(family_table().splitlines()) == 2 + len(FAMILIES)
