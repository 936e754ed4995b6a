import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sledgehammer_allennlp.tradeoff.oracle import cheapest_right_exit, oracle_curve

CORRECT = np.array(
    [
        [True, False, False, False, True],
        [False, True, False, False, True],
        [True, True, False, True, False],
    ]
)


def test_the_oracle_takes_the_first_exit_that_is_right_or_the_first_of_all():
    assert cheapest_right_exit(CORRECT).tolist() == [0, 1, 0, 2, 0]


def test_with_more_exits_the_oracle_is_right_more_often_at_a_higher_cost():
    points = oracle_curve(CORRECT, [0.0, 1.0, 4.0])
    assert [point.accuracy for point in points] == [0.4, 0.6, 0.8]
    assert [point.layer_equivalents for point in points] == [0.0, 0.2, 1.0]
    assert [point.accuracy_of_exit for point in points] == [0.4, 0.4, 0.6]
    assert [point.layer_equivalents_of_exit for point in points] == [0.0, 1.0, 4.0]


@given(
    st.integers(1, 4).flatmap(
        lambda exits: st.lists(
            st.lists(st.booleans(), min_size=exits, max_size=exits), min_size=1, max_size=8
        )
    )
)
def test_no_exit_rule_is_better_than_the_oracle(rows):
    correct = np.array(rows).T
    costs = [float(2**k) for k in range(len(correct))]
    last = oracle_curve(correct, costs)[-1]
    for k in range(len(correct)):
        assert correct[k].mean() <= last.accuracy
    # By hand, row by row.
    wanted = [next((k for k, right in enumerate(row) if right), 0) for row in rows]
    assert cheapest_right_exit(correct).tolist() == wanted
    assert last.layer_equivalents == np.mean([costs[k] for k in wanted])
