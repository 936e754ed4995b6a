import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sledgehammer_allennlp.configs.choices import (
    choose_alignment,
    choose_data,
    choose_exits,
    choose_max_length,
    choose_training,
)
from sledgehammer_allennlp.exits.building import check_exit_layers


@pytest.mark.parametrize("num_layers", range(1, 49))
def test_exits_are_some_ascending_layers_and_the_last_is_one(num_layers):
    chosen, _ = choose_exits(num_layers)
    layers = check_exit_layers(chosen, num_layers, "model")
    assert layers == sorted(set(layers))
    assert layers[0] == 0 and layers[-1] == num_layers - 1
    assert len(layers) <= 6


def test_twelve_layers_have_the_papers_exits_and_few_have_all():
    assert choose_exits(12)[0] == [0, 3, 5, 11]
    assert choose_exits(6)[0] == "all"
    assert choose_exits(24)[0] == [0, 6, 12, 17, 23]


def test_pairs_get_an_alignment_and_single_texts_are_not_asked():
    (chosen,) = choose_alignment(is_pairs=True)
    assert (chosen.name, chosen.value) == ("alignment", 128)
    assert choose_alignment(is_pairs=False) == []


@given(
    st.lists(st.integers(2, 600), min_size=1, max_size=300).map(np.array),
    st.sampled_from([64, 512, 514]),
)
def test_max_length_is_the_smallest_that_truncates_one_percent(lengths, max_tokens):
    lengths = lengths.clip(max=max_tokens + 1)
    chosen, reason = choose_max_length(lengths, max_tokens, len(lengths))
    truncated = (lengths > chosen).mean()
    assert min(128, max_tokens) <= chosen <= max_tokens
    assert chosen == max_tokens or (chosen % 16 == 0 and truncated <= 0.01)
    assert chosen == min(128, max_tokens) or (lengths > 16 * ((chosen - 1) // 16)).mean() > 0.01
    assert f"Truncates {(lengths > chosen).sum()} " in reason


def test_a_sample_and_the_models_limit_are_named():
    chosen, reason = choose_max_length(np.full(50, 65), 64, 1000)
    assert chosen == 64
    assert "Truncates 50 (100.0 %) of 50 texts, drawn from 1,000" in reason
    assert "the longest more than 64" in reason and "no more than 64" in reason


@pytest.mark.parametrize(
    "num_texts, batch_size, num_epochs",
    [
        (1, 32, 20),
        (300, 32, 20),
        (1467, 32, 9),
        (3100, 32, 5),
        (10_000, 32, 2),
        (14_400, 72, 2),
        (10**6, 72, 2),
    ],
)
def test_small_data_are_trained_for_more_epochs(num_texts, batch_size, num_epochs):
    assert choose_training(num_texts)[:2] == (batch_size, num_epochs)


@given(st.integers(1, 10**7))
def test_there_are_enough_steps_unless_epochs_are_the_most(num_texts):
    batch_size, num_epochs, _ = choose_training(num_texts)
    assert 2 <= num_epochs <= 20
    assert num_epochs == 20 or num_epochs * -(-num_texts // batch_size) >= 400


@pytest.mark.parametrize(
    "train, dev, names",
    [
        ("data/it's/train.tsv", "data/it's/dev.tsv", ["dataset"]),
        ("data/a/train.tsv", "data/b/dev.tsv", ["train_data_path", "validation_data_path"]),
        ("./data/a/train.tsv", "./data/a/dev.tsv", ["train_data_path", "validation_data_path"]),
        ("data/a/b/train.tsv", "data/a/b/dev.tsv", ["train_data_path", "validation_data_path"]),
    ],
)
def test_data_have_the_setting_that_reads_them(train, dev, names):
    assert [choice.name for choice in choose_data(train, dev, None)] == names
