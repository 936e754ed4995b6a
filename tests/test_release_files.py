"""The files around the code: that machines can read them, and that they are of this version."""

import re
from pathlib import Path

import pytest

from sledgehammer_allennlp import __version__

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == __version__
    assert all(set(author) == {"name"} for author in citation["authors"])
    (paper,) = citation["references"]
    assert paper["doi"] == "10.18653/v1/2020.acl-main.593" and paper["year"] == 2020
    assert paper["type"] == "conference-paper" and len(paper["authors"]) == 5


def test_there_are_the_forms_for_issues():
    assert [path.name for path in FORMS] == ["bug.yml", "config.yml", "question.yml"]
    assert read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml") == {
        "blank_issues_enabled": False
    }


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_github_asks_for(path):
    form = read(path)
    if path.name == "config.yml":
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    for part in form["body"]:
        assert part["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert part["attributes"]["label"]
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_the_form_for_bugs_asks_for_what_is_needed():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    assert "python -m sledgehammer_allennlp check-archive" in text
    assert "smallest data" in text and "Versions" in text


def test_contributing_is_a_screen():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 70


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_names_of_files_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    folders = "docs|tests|benchmarks|fuzz|scripts"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", text) if name == "CONTRIBUTING.md" else []
    assert links
    for path in (*links, *named):
        assert (ROOT / path).exists(), path
