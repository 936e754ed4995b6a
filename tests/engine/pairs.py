"""Pairs, as a tokenizer makes tokens of them, and models with an alignment in their exits."""

import torch
from hypothesis import strategies as st

from sledgehammer_allennlp.exits.pair_texts import SpecialTokens
from tests.engine.plain_computation import Case, make_case

SIZE = 6
FIRST, SEPARATOR = 1, 2
BY_TYPE_IDS = SpecialTokens(FIRST, SEPARATOR, 1, True)
BY_ONE_SEPARATOR = SpecialTokens(FIRST, SEPARATOR, 1, False)
BY_TWO_SEPARATORS = SpecialTokens(FIRST, SEPARATOR, 2, False)

# Words, among them what a user may type that looks like a special token.
words = st.lists(
    st.one_of(st.integers(5, 119), st.sampled_from([FIRST, SEPARATOR])), min_size=0, max_size=9
)
# A text and its second text; None for a single text.
pairs = st.tuples(words, st.one_of(st.none(), words))
pair_lists = st.lists(pairs, min_size=1, max_size=7)


def inputs_of(pairs, special_tokens):
    """Padded token ids, mask and type ids, as a tokenizer makes them of pairs."""
    ids, types = [], []
    for text, second in pairs:
        ids.append([FIRST, *text, SEPARATOR])
        types.append([0] * len(ids[-1]))
        if second is not None:
            between = [SEPARATOR] * (special_tokens.num_between - 1)
            ids[-1] += [*between, *second, SEPARATOR]
            added = len(ids[-1]) - len(types[-1])
            types[-1] += [int(special_tokens.has_type_ids)] * added
    length = max(map(len, ids))
    mask = torch.tensor([[i < len(one) for i in range(length)] for one in ids])
    padded = [torch.tensor([one + [0] * (length - len(one)) for one in x]) for x in (ids, types)]
    return padded[0], mask, padded[1]


def make_pair_case(
    family="bert", pooling="mean", exit_layers=(-1, 0, 2, 3), special_tokens=BY_TYPE_IDS, **settings
) -> Case:
    return make_case(
        family,
        pooling,
        list(exit_layers),
        alignment=SIZE,
        special_tokens=special_tokens,
        **settings,
    )


PAIRS = [
    ([10, 11, 12], [13, 14]),
    ([20, SEPARATOR, 21], [22, 23, 24, 25]),
    ([30, 31], None),
    ([], [40]),
    ([50], []),
    ([], []),
]
