import pytest
from transformers import AutoTokenizer


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_roberta"])
def tokenizer(request):
    return AutoTokenizer.from_pretrained(request.getfixturevalue(request.param))
