import pytest
from transformers import AutoTokenizer

from sledgehammer_allennlp.encoders.tokenizing import tokenize
from tests.threads import in_threads


def test_threads_that_truncate_differently_share_a_tokenizer(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    lengths = [*range(1, 60), 400]
    texts = ["good " * num_words for num_words in lengths]

    def work(thread: int) -> list:
        return [tokenize(tokenizer, texts, max_length=10 + thread).lengths for _ in range(10)]

    for thread, found in enumerate(in_threads(work)):
        wanted = [min(num_words + 2, 10 + thread) for num_words in lengths]
        assert [of_call.tolist() for of_call in found] == [wanted] * 10


def test_threads_with_stock_readers_share_a_tokenizer(tiny_bert):
    pytest.importorskip("allennlp")
    from sledgehammer_allennlp.data.pretrained_transformer import ArchivedTransformerTokenizer

    text = "good " * 60

    def work(thread: int) -> list:
        found = []
        for _ in range(10):  # AllenNLP has one tokenizer of a name, however often it is asked for
            tokenizer = ArchivedTransformerTokenizer(str(tiny_bert), max_length=10 + thread)
            found += [len(tokenizer.tokenize(text)) for _ in range(10)]
        return found

    for thread, found in enumerate(in_threads(work)):
        assert found == [10 + thread] * 100
