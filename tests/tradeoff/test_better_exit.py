import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from sledgehammer_allennlp.tradeoff.better_exit import LEVEL, find_better_exit, mcnemar_p_value


def answers(*counts):
    """
    `(num_exits, num_instances)`: 100 that all exits answer rightly; then, of each exit but the
    last, so many that it alone and so many that all but it answer rightly.
    """
    num_exits = len(counts) + 1
    blocks = [np.ones((num_exits, 100), dtype=bool)]
    for number, (gained, lost) in enumerate(counts):
        alone = np.arange(num_exits) == number
        blocks += [np.repeat(alone[:, None], gained, axis=1)]
        blocks += [np.repeat(~alone[:, None], lost, axis=1)]
    return np.concatenate(blocks, axis=1)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_p_value_is_the_binomial_tests(gained, lost):
    wanted = 1.0
    if gained + lost > 0:
        wanted = binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue
    assert mcnemar_p_value(gained, lost) == pytest.approx(wanted, rel=1e-9)


def test_an_exit_that_is_better_by_chance_is_not_found():
    # Of two tested exits: 8 to 1 has the corrected p-value 0.0391, 7 to 1 0.0703.
    assert find_better_exit(answers((7, 1), (0, 0)), [-1, 0, 5]) is None
    found = find_better_exit(answers((8, 1), (0, 0)), [-1, 0, 5])
    assert found.p_value == pytest.approx(2 * 10 / 2**9)
    assert (found.exit_layer, found.num_gained, found.num_lost) == (-1, 8, 1)


def test_the_most_accurate_of_several_is_found_and_of_equal_ones_the_earliest():
    correct = answers((20, 0), (40, 0), (30, 0))
    assert find_better_exit(correct, [-1, 0, 2, 5]).exit_layer == 0
    equal = find_better_exit(answers((20, 0), (20, 0)), [-1, 0, 5])
    assert equal.exit_layer == -1


@given(st.data())
def test_numbers_are_those_of_the_answers(data):
    num_exits, num_instances = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 60))
    seed = data.draw(st.integers(0, 2**32 - 1))
    correct = (
        np.random.default_rng(seed).uniform(size=(num_exits, num_instances))
        < (np.linspace(0.9, 0.4, num_exits)[:, None])
    )
    found = find_better_exit(correct, range(num_exits))
    if found is None:
        return
    assert found.exit_layer < num_exits - 1
    assert found.accuracy == correct[found.exit_layer].mean()
    assert found.last_accuracy == correct[-1].mean()
    assert found.accuracy - found.last_accuracy == pytest.approx(
        (found.num_gained - found.num_lost) / num_instances
    )
    assert found.p_value <= LEVEL


def test_a_model_of_one_exit_or_of_a_best_last_exit_has_no_better_exit():
    assert find_better_exit(np.zeros((1, 50), dtype=bool), [3]) is None
    assert find_better_exit(answers((0, 50), (2, 40)), [-1, 0, 5]) is None


def test_where_no_exit_is_better_one_is_found_in_few_draws():
    rng = np.random.default_rng(0)
    num_draws = 600
    found = sum(
        find_better_exit(rng.uniform(size=(5, 400)) < 0.8, range(5)) is not None
        for _ in range(num_draws)
    )
    # Not more often than it may be, by more than chance explains in one of ten thousand tests.
    assert found <= binom.isf(1e-4, num_draws, LEVEL)


@pytest.mark.parametrize("shape, num_layers", [((2, 0), 2), ((5,), 1), ((2, 5), 3)])
def test_shapes_that_do_not_fit_are_refused(shape, num_layers):
    with pytest.raises(ValueError, match="wanted \\(num_exits, num_instances\\)"):
        find_better_exit(np.ones(shape, dtype=bool), range(num_layers))


def test_the_warning_says_what_was_found_and_what_to_do():
    first = find_better_exit(answers((30, 0), (0, 0)), [-1, 0, 5])
    assert first.warning("Train for 9 epochs") == (
        "The exit before layer 0 is clearly more accurate than the last one: 1.0000 against 0.7692 "
        "of 130 instances, p = 1.9e-09. More computation makes answers worse. Train for 9 epochs, "
        "take a stronger pretrained model, or use threshold 0, which is this exit alone."
    )
    later = find_better_exit(answers((0, 0), (30, 0)), [-1, 3, 5]).warning()
    assert later.startswith("The exit after layer 3 is clearly more accurate")
    assert later.endswith(
        "Train longer, take a stronger pretrained model, or let 3 be the last of exit_layers."
    )
