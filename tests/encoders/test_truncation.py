from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.encoders.truncation import longest_first, truncate_to_positions

TEXT = "good bad film day book very good indeed the film was long and bad"


@given(first=st.integers(0, 60), second=st.integers(0, 60), room=st.integers(0, 60))
def test_longest_first_takes_tokens_one_at_a_time_from_the_longer(first, second, room):
    a, b = first, second
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    found = longest_first(first, second, min(room, first + second))
    assert sum(found) == a + b
    # When both are cut to within one token of each other, either may be the longer.
    assert sorted(found) == sorted((a, b))
    assert found[0] <= first and found[1] <= second


@pytest.mark.parametrize("tokenizer_name", ["tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize(
    "texts", [(TEXT,), (TEXT, "a day"), ("a day", TEXT), (TEXT, TEXT), ("good", "bad")]
)
def test_a_text_keeps_the_tokens_that_the_tokenizer_would_keep(tokenizer_name, texts, request):
    folder: Path = request.getfixturevalue(tokenizer_name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    whole = tokenizer(*texts)["input_ids"]
    wanted = tokenizer(*texts, truncation="longest_first", max_length=12)["input_ids"]
    types = tokenizer(*texts, return_token_type_ids=True)["token_type_ids"]
    cut = truncate_to_positions(TokenBatch.from_lists([whole], [types]), 12)
    wanted_types = tokenizer(
        *texts, truncation="longest_first", max_length=12, return_token_type_ids=True
    )["token_type_ids"]
    found, found_types = cut.token_ids.tolist(), cut.type_ids.tolist()
    assert cut.lengths.tolist() == [len(found)]
    assert len(found) == len(wanted)
    if len(texts) == 2 and texts[0] == texts[1]:
        # Of two equal lengths, libraries differ in which keeps one more.
        assert found[:5] == wanted[:5] and found[-1] == wanted[-1]
    else:
        assert found == wanted
        assert found_types == wanted_types


def test_long_texts_are_cut_to_the_positions_and_short_texts_stay_whole():
    ids = [[2, 7, 3], [2, 7, 8, 9, 10, 11, 3], [2, 3]]
    cut = truncate_to_positions(TokenBatch.from_lists(ids, ids), 5)
    assert cut.lengths.tolist() == [3, 5, 2]
    assert cut.token_ids.tolist() == [2, 7, 3, 2, 7, 8, 9, 3, 2, 3]
    assert cut.type_ids.tolist() == cut.token_ids.tolist()


def test_a_batch_that_fits_is_not_touched():
    texts = TokenBatch.from_lists([[2, 7, 3]])
    assert truncate_to_positions(texts, 3) is texts
