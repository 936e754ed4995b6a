"""Has the pages of the reference written before Sphinx looks for pages."""

from pathlib import Path
from typing import Any, Dict

from sphinx.application import Sphinx

from scripts.reference.pages import write_pages


def setup(app: Sphinx) -> Dict[str, Any]:
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "reference"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
