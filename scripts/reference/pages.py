"""Which pages there are, and writing them."""

from importlib import import_module
from pathlib import Path
from typing import Dict

from scripts.family_table import family_table
from scripts.reference.commands import commands_page
from scripts.reference.entries import entry, name_links
from scripts.reference.http_paths import http_page
from scripts.reference.public_names import PACKAGE, modules, public_names
from scripts.reference.registered import (
    PAGES,
    confidences_page,
    metrics_page,
    registered_page,
)
from scripts.reference.settings import settings_page
from sledgehammer_allennlp.files import write_text_whole

PYTHON_INDEX = """# Python

What the folders of the package export, by folder. `sledgehammer_allennlp.load_archived_classifier`
is also that of `sledgehammer_allennlp.archives`.

```{toctree}
:glob:
*
```
"""

ABOUT_FAMILIES = """All of them compute first tokens first, in every precision, and run in ONNX
Runtime. Where there is no pretrained pooler, or the checkpoint has none, pooling `first` adds one,
which is trained. The exits of ModernBERT, whose layers have their norms before them, see hidden
states through the norm after its last layer.

A model of another family is refused, and so are relative positions of BERT, decoders, ALBERT with
inner groups, DeBERTa with a convolution, and rotary positions that are scaled.
"""


def reference_pages() -> Dict[str, str]:
    """The text of each page, by its path in `docs/reference`."""
    links = name_links()
    pages = {
        "commands.md": commands_page(),
        "confidences.md": confidences_page(links),
        "families.md": families_page(),
        "http.md": http_page(),
        "metrics.md": metrics_page(links),
        "settings.md": settings_page(),
        "python/index.md": PYTHON_INDEX,
    }
    for name, page in PAGES.items():
        pages[f"{name}.md"] = registered_page(page, links)
    for module in modules():
        if module != PACKAGE and public_names(module):
            pages[f"python/{module.rpartition('.')[2]}.md"] = module_page(module, links)
    return pages


def families_page() -> str:
    """The table that `scripts/family_table.py` prints."""
    return f"# Families of models\n\n{family_table()}\n\n{ABOUT_FAMILIES}"


def module_page(module: str, links: Dict[str, str]) -> str:
    """The entries of a module's names."""
    doc = (import_module(module).__doc__ or "").strip()
    title = module.rpartition(".")[2]
    head = f"# {title}\n\n`{module}`: {doc}\n\n:::{{py:module}} {module}\n:::\n"
    return "\n\n".join([head, *(entry(name, links) for name in public_names(module))]) + "\n"


def write_pages(folder: Path) -> None:
    """Writes those that are not there or have changed, so that the others are not built anew."""
    for name, text in reference_pages().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(path, text)
