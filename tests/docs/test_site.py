"""The site is whole: no dead links, all of the reference, and nothing from other servers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.reference.settings import read_settings
from scripts.site_checks import anchors, dead_links, loaded_from_elsewhere
from sledgehammer_allennlp.configs import SETTINGS_FILE

ROOT = Path(__file__).parents[2]


def build(docs: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    # Without colours, which it would also write into a pipe where FORCE_COLOR is set.
    command = [sys.executable, "-m", "sphinx", "--no-color", "--fail-on-warning"]
    return subprocess.run(
        [*command, "--keep-going", "--nitpicky", "--quiet", str(docs), str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_site_builds_and_its_faults_are_errors(tmp_path):
    pytest.importorskip("sphinx", reason="make docs installs it")
    root = tmp_path / "root"
    shutil.copytree(ROOT / "docs", root / "docs", ignore=shutil.ignore_patterns("results", "*.png"))
    for name in ("scripts", "sledgehammer_allennlp"):
        (root / name).symlink_to(ROOT / name)
    for name in ("README.md", "CONTRIBUTING.md"):
        (root / name).write_text("[there](docs/index.md) [nowhere](docs/no-page.md)\n")
    for page in (root / "docs").rglob("*.md"):
        if page.parent.name != "reference":
            page.unlink()
    (root / "docs/index.md").write_text(
        "# Pages\n\n[a](reference/index.md) [b](reference/none.md) [c](#no-anchor)\n\n"
        "![d](https://example.org/e.png)\n\n```{toctree}\nreference/index\n```\n"
    )
    found = build(root / "docs", tmp_path / "site")
    assert found.returncode == 1
    warnings = [line.rpartition("WARNING: ")[2] for line in found.stderr.splitlines()]
    assert sorted(warnings) == [  # an exact list: each of the others would be an error, too
        "'myst' cross-reference target not found: 'no-anchor' [myst.xref_missing]",
        "'myst' cross-reference target not found: 'reference/none.md' [myst.xref_missing]",
        "CONTRIBUTING.md, line 1: there is no file docs/no-page.md",
        "README.md, line 1: there is no file docs/no-page.md",
        "index.html loads https://example.org/e.png",
    ]
    settings = (tmp_path / "site/reference/settings.html").read_text()
    assert "exit_learning_rate" in settings and "2e-3" in settings
    assert "--max-accuracy-drop" in (tmp_path / "site/reference/commands.html").read_text()
    assert (tmp_path / "site/searchindex.js").exists()


def test_every_setting_has_a_description():
    groups = read_settings(SETTINGS_FILE.read_text(encoding="utf-8"))
    found = {setting.name: setting for group in groups for setting in group.settings}
    known = SETTINGS_FILE.read_text().partition("local known = std.set([")[2].partition("])")[0]
    assert set(found) == {name.strip(" '\n") for name in known.split(",") if name.strip()}
    assert found["batch_size"].default == "72"
    assert found["learning_rate"].text == "Of the transformer's layers."


@pytest.mark.parametrize(
    "text", ["  a:: 1,\n", "  // A group\n\n  a:: 1,\n", "  // Of no group.\n  a:: 1,\n"]
)
def test_a_setting_without_description_is_an_error(text):
    with pytest.raises(ValueError, match="wanted a comment above a, in a group"):
        read_settings("{\n" + text)


def test_links_lead_to_files_and_anchors(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `name`, twice!\n\n# A name twice\n\n<a id='mine'></a>\n\n"
        "[1](#a-name-twice) [2](#a-name-twice-1) [3](#mine) [4](#none) [5](other.md)\n"
        "![6](page.md#mine) [7](page.md#none) [8](https://example.org/x#y)\n"
    )
    assert dead_links(page) == [
        "page.md, line 7: page.md has no anchor none",
        "page.md, line 7: there is no file other.md",
        "page.md, line 7: page.md has no anchor none",
    ]
    assert anchors("## Köln & *so*\n") == {"köln--so"}


def test_what_other_servers_would_send_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://example.org">followed</a><script src="own.js"></script>'
        '<script src="//example.org/a.js"></script><link href="https://example.org/b.css">'
    )
    (tmp_path / "c.css").write_text('a { src: url("https://example.org/d.woff") url(own.woff) }')
    assert loaded_from_elsewhere(tmp_path) == [
        "a.html loads //example.org/a.js",
        "a.html loads https://example.org/b.css",
        "c.css loads https://example.org/d.woff",
    ]
