"""How the pages below `docs/` become a site: `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

project = "Sledgehammer for AllenNLP"
extensions = ["myst_parser", "reference", "checks"]
source_suffix = {".md": "markdown"}
smartquotes = False  # quotes are part of what is typed

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

# What Markdown has besides: anchors of headings as GitHub makes them, lists of terms.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Entries of Python names stand on the page of their module, which names it.
add_module_names = False
python_maximum_signature_line_length = 80
