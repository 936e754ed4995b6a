"""Has a build warn of dead links beside `docs/`, and of what other servers would send."""

from pathlib import Path
from typing import Any, Dict, Optional

from sphinx.application import Sphinx
from sphinx.util import logging

from scripts.site_checks import dead_links, loaded_from_elsewhere

logger = logging.getLogger(__name__)

PAGES = ("README.md", "CONTRIBUTING.md")


def _check(app: Sphinx, error: Optional[Exception]) -> None:
    root = Path(app.confdir).parent
    for page in PAGES:
        for dead in dead_links(root / page):
            logger.warning(dead)
    for loaded in loaded_from_elsewhere(Path(app.outdir)):
        logger.warning(loaded)


def setup(app: Sphinx) -> Dict[str, Any]:
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
