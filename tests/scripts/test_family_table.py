"""The table of families is what the code says, and what the code says is so."""

import pytest

from scripts.family_table import family_table
from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.families import FAMILIES
from sledgehammer_allennlp.encoders.family import IN_EMBEDDINGS
from tests.tiny import needs_onnx, tiny_transformer


def test_the_table_has_a_line_for_each_family():
    assert len(family_table().splitlines()) == 2 + len(FAMILIES)


@needs_onnx
def test_what_it_says_of_onnx_runtime_is_so(family):
    encoder = LayeredEncoder(tiny_transformer(family), runtime="onnxruntime")
    if FAMILIES[family].positions == IN_EMBEDDINGS:
        encoder.check_inference()
        return
    with pytest.raises(ValueError, match="it has no graph"):
        encoder.check_inference()
