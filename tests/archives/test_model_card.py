"""What a card says, and that no name of a label or a file can change how it reads."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.archives.model_card import (
    MOST_LABELS,
    CardData,
    CardFacts,
    as_code,
    base_model_line,
    last_parts,
    model_card,
)
from sledgehammer_allennlp.calibration import CombinedExit, ExitCalibration
from sledgehammer_allennlp.tradeoff import tradeoff_curve


def exit_at(layer: int, **settings) -> ExitCalibration:
    numbers = dict(temperature_before=1.0, temperature=1.5, accuracy=0.75, nll_before=1.0)
    numbers.update(nll_after=0.5, ece_before=0.2, ece_after=0.125)
    return ExitCalibration(
        exit_layer=layer,
        **{**numbers, "is_determined": True, "why_undetermined": None, **settings},
    )


def made_facts(**settings) -> CardFacts:
    """Of four texts and two exits, of which the first is sure of half the texts, and right."""
    confidences = np.array([[0.95, 0.95, 0.55, 0.55], [0.9, 0.9, 0.9, 0.9]])
    correct = np.array([[True, True, False, False], [True, True, True, False]])
    facts = CardFacts(
        labels=["good", "bad"],
        pretrained_model="bert-base-uncased",
        is_on_hub=True,
        family="BERT",
        confidence="max_probability",
        trained_on=CardData("somewhere/data/mine/train.tsv", [3, 1_000]),
        calibrated_on=CardData("dev.tsv", [1, 3]),
        exits=[exit_at(0), exit_at(1)],
        curve=tradeoff_curve(confidences, correct, [0.5, 2.0]),
        threshold=0.9,
        why_threshold="set in the config",
        max_tokens=128,
        window=None,
        are_pairs=False,
        min_seen_share=None,
        versions={"torch": "2.0"},
    )
    return replace(facts, **settings)


def rows_of(card: str) -> "list[list[str]]":
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def front_matter(card: str):
    yaml = pytest.importorskip("yaml")
    opening, head, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(head)


def test_the_head_is_that_of_the_hubs_cards():
    found = front_matter(model_card(made_facts()))
    assert found["pipeline_tag"] == "text-classification"
    assert found["library_name"] == "sledgehammer_allennlp"
    assert "early-exit" in found["tags"]
    assert found["base_model"] == "bert-base-uncased"
    assert "base_model" not in front_matter(model_card(made_facts(is_on_hub=False)))


@pytest.mark.parametrize("name", ['a"\nb: 1', "---", "é: {", "x" * 300])
def test_no_name_of_a_model_breaks_the_head(name):
    facts = made_facts(pretrained_model=name)
    assert front_matter(model_card(facts))["base_model"] == name
    assert base_model_line(name) in model_card(facts).splitlines()


def test_it_says_of_each_threshold_what_it_gives():
    rows = rows_of(model_card(made_facts()))
    assert ["0", "0.5000", "0.50", "4x"] in rows
    assert ["0.9 (default)", "0.7500", "1.25", "1.6x"] in rows
    assert ["1", "0.7500", "2.00", "1x"] in rows


def test_a_default_that_is_no_round_number_has_a_row_too():
    rows = rows_of(model_card(made_facts(threshold=0.937)))
    assert ["0.937 (default)", "0.7500", "1.25", "1.6x"] in rows


def test_it_says_which_data_and_how_many_texts_of_each_label():
    rows = rows_of(model_card(made_facts()))
    assert ["file", "`mine/train.tsv`", "`dev.tsv`"] in rows
    assert ["texts", "1,003", "4"] in rows
    assert ["label `bad`", "1,000", "3"] in rows
    rows = rows_of(model_card(made_facts(trained_on=CardData("train.tsv"))))
    assert ["texts", "not known", "4"] in rows and ["label `bad`", "not known", "3"] in rows


def test_of_many_labels_the_first_are_shown():
    number = MOST_LABELS + 7
    counts = CardData("x.tsv", [1] * number)
    labels = [f"label{i}" for i in range(number)]
    card = model_card(made_facts(labels=labels, trained_on=counts, calibrated_on=counts))
    assert f"`label{MOST_LABELS - 1}`" in card and f"`label{MOST_LABELS}`" not in card
    assert "And 7 more labels." in card and f"one of {number} labels" in card


def test_exits_have_their_temperatures_or_their_weights():
    assert ["0", "0.50", "0.7500", "0.1250", "1.500"] in rows_of(model_card(made_facts()))
    combined = [
        exit_at(layer, combination=CombinedExit(weights, 0.875, 0.4, 0.0625, None))
        for layer, weights in ((0, [0.7, 0.0]), (1, [0.25, 1.125]))
    ]
    rows = rows_of(model_card(made_facts(exits=combined)))
    assert ["1", "2.00", "0.8750", "0.0625", "0: 0.25, 1: 1.12"] in rows
    assert ["0", "0.50", "0.8750", "0.0625", "0: 0.7"] in rows


def test_it_says_which_exits_are_not_determined():
    assert "do not determine" not in model_card(made_facts())
    exits = [exit_at(0, is_determined=False, why_undetermined="none is right"), exit_at(1)]
    assert "do not determine the calibration of the exit after layer 0," in model_card(
        made_facts(exits=exits)
    )


def test_its_limits_are_the_models():
    card = model_card(made_facts())
    assert "no more than 128 word pieces" in card and "pairs of texts mean nothing" in card
    assert "min_seen_share" not in card and "in windows" not in card
    card = model_card(made_facts(are_pairs=True, min_seen_share=0.25, window=62))
    assert "less than 25 % do not exit before" in card and "in windows of 62 word" in card
    assert "single texts mean nothing" in card and '[("a text", "another")]' in card
    assert "single texts or pairs" in model_card(made_facts(are_pairs=None))


def test_overrides_of_the_calibration_are_said():
    assert "overrides" not in model_card(made_facts())
    overrides = json.dumps({"model.confidence": "margin"})
    assert as_code(overrides) in model_card(made_facts(overrides=overrides))


@pytest.mark.parametrize(
    "path, wanted",
    [
        ("/home/someone/data/mine/train.tsv", "mine/train.tsv"),
        ("train.tsv", "train.tsv"),
        ("C:\\Users\\someone\\mine\\train.tsv", "mine/train.tsv"),
        ("https://token@host/mine/train.tsv", "mine/train.tsv"),
        ("", ""),
    ],
)
def test_only_the_last_parts_of_a_path_are_shown(path, wanted):
    assert last_parts(path) == wanted


HOSTILE = [
    "a | b",
    "``` x",
    "`",
    "\\",
    "</td><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "two\nlines\n\n# Title",
    "\u202eright to left",
    "",
    "---",
]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=150))
@example(HOSTILE[0])
def test_a_label_is_one_cell_of_code_whatever_it_is(label):
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")

    def kinds(card):
        tokens = parser.parse(card)
        return [(t.type, [child.type for child in t.children or []]) for t in tokens]

    plain = model_card(made_facts(labels=["good", "x"]))
    card = model_card(made_facts(labels=["good", label]))
    assert kinds(card) == kinds(plain)


@pytest.mark.parametrize("label", HOSTILE)
def test_what_a_name_looks_like_is_kept(label):
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = parser.parse(f"| a |\n|---|\n| {as_code(label)} |\n")
    (code,) = [c for t in tokens for c in t.children or [] if c.type == "code_inline"]
    wanted = " ".join(label.replace("\u202e", "\ufffd").split())
    assert code.content.strip() == wanted
