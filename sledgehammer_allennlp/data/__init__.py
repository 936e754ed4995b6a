"""The dataset reader and its tokenizer."""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)

from sledgehammer_allennlp.data import stock_tokenizers as stock_tokenizers
from sledgehammer_allennlp.data.labeled_table import LabeledTableReader as LabeledTableReader
from sledgehammer_allennlp.data.labeled_tsv import LabeledTsvReader as LabeledTsvReader
from sledgehammer_allennlp.data.pretrained_transformer import (
    ArchivedTransformerIndexer as ArchivedTransformerIndexer,
)
from sledgehammer_allennlp.data.pretrained_transformer import (
    ArchivedTransformerTokenizer as ArchivedTransformerTokenizer,
)
