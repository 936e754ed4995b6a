"""Which blocks run is said by the page; what is said of none is an error."""

from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_blocks_are_found_with_line_language_and_whether_they_run(tmp_path):
    text = """# A page

```bash
ls
```

<!-- not run: it downloads much -->
```bash
make demo
```

- In a list

  <!-- file: a/mine.py -->
  ```python
  x = 1
  ```

```text
what comes out
```

```{toctree}
other
```

    indented = "not a block"
"""
    found = [
        (block.line, block.language, block.text, block.file, block.is_run)
        for block in blocks_of(page(tmp_path, text))
    ]
    assert found == [
        (3, "bash", "ls\n", None, True),
        (8, "bash", "make demo\n", None, False),
        (15, "python", "x = 1\n", "a/mine.py", True),
    ]


@pytest.mark.parametrize(
    "text, error",
    [
        ("```\nls\n```\n", "page.md, line 1: the block's language is '': wanted one of those that"),
        ("```yaml\na: 1\n```\n", "language is 'yaml': wanted .*bash, python, json, jsonnet, or"),
        ("<!-- not run -->\n```bash\nls\n```\n", "line 1: wanted a reason in <!-- not run -->"),
        ("<!-- not run: -->\n```bash\nls\n```\n", "line 1: wanted a reason in <!-- not run: -->"),
        ("<!-- file: -->\n```bash\nls\n```\n", "line 1: wanted a name in <!-- file: -->"),
        ("<!-- not run: so -->\n\nA text.\n", "line 3: wanted a block below <!-- not run: so -->"),
        ("A text.\n\n<!-- not run: so -->\n", "page.md: wanted a block below <!-- not run: so"),
    ],
)
def test_what_is_neither_run_nor_marked_is_an_error(tmp_path, text, error):
    with pytest.raises(ValueError, match=error):
        blocks_of(page(tmp_path, text))


def test_a_comment_of_another_kind_marks_nothing(tmp_path):
    (block,) = blocks_of(page(tmp_path, "<!-- todo -->\n```bash\nls\n```\n"))
    assert block.is_run
