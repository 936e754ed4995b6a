"""The README is where a reader begins, not where everything stands."""

from tests.command_server import ROOT


def test_it_is_no_longer_than_two_hundred_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
