"""Every command and snippet of README.md and of the pages below `docs/` runs as it stands there."""

from pathlib import Path
from typing import Callable

import pytest

from tests.command_server import ROOT
from tests.docs.blocks import blocks_of
from tests.docs.reader import Reader

MADE_FROM_THE_CODE = ROOT / "docs" / "reference"
PAGES = [
    ROOT / "README.md",
    *(
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if MADE_FROM_THE_CODE not in path.parents
    ),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_runs(page: Path, make_reader: Callable[[], Reader]) -> None:
    blocks = blocks_of(page)
    if any(block.is_run or block.file for block in blocks):
        make_reader().run(blocks)
