"""What a pretrained model is like, and how long texts are in its tokens. No weights are read."""

import random
from dataclasses import dataclass
from typing import Iterator, List, Tuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from sledgehammer_allennlp.configs.data_summary import DataSummary, chosen_rows
from sledgehammer_allennlp.encoders.families import family_of, max_positions_of
from sledgehammer_allennlp.encoders.loading import load_config
from sledgehammer_allennlp.encoders.tokenizing import load_tokenizer, tokenize
from sledgehammer_allennlp.encoders.unknown_pieces import UnknownPieces
from sledgehammer_allennlp.labeled_lines import Row

MAX_SAMPLE = 20_000
"""At most so many texts are tokenised: enough for a share of 1 % to be right within 0.15 points."""
_BATCH_SIZE = 256


@dataclass(frozen=True)
class PretrainedModel:
    """What choices depend on."""

    name: str
    family: str
    num_layers: int
    max_tokens: int
    """The longest text that it takes, in tokens, special ones included."""
    tokenizer: PreTrainedTokenizerBase

    def warnings(self) -> List[str]:
        """What to know of it. A sentence each."""
        if self.tokenizer.is_fast:
            return []
        return [
            f"{self.name}: it has no fast tokenizer (tokenizer.json), and tokenising takes many "
            "times as long."
        ]


def read_model(name: str) -> PretrainedModel:
    """
    # Parameters

    name : `str`
        A Hugging Face name or a local folder.

    # Raises

    ValueError
        If there is no such model, its architecture is not supported, or it has no tokenizer.
    """
    config = load_config(name)
    family_of(config)  # or raises
    tokenizer = load_tokenizer(name)
    max_tokens = min(max_positions_of(config), tokenizer.model_max_length)
    return PretrainedModel(name, config.model_type, config.num_hidden_layers, max_tokens, tokenizer)


def tokenize_sample(data: DataSummary, model: PretrainedModel) -> Tuple[np.ndarray, UnknownPieces]:
    """
    The lengths of texts in tokens, special tokens included; of a pair, of both texts together. And
    how many of the word pieces are unknown.

    Of at most `MAX_SAMPLE` texts, which depend on the number of texts alone. Texts that are longer
    than the model takes count one token more than it takes. Lengths are of shape `(num_sampled,)`,
    in the order of the file.
    """
    lines = data.numbers
    if data.num_texts > MAX_SAMPLE:
        chosen = random.Random(0).sample(range(data.num_texts), MAX_SAMPLE)
        lines = lines[sorted(chosen)]
    rows = chosen_rows(data.file, lines, f"Tokenising texts of {data.path}")
    found: List[int] = []
    pieces = UnknownPieces(model.tokenizer)
    for batch in _batches(rows):
        seconds = [row.second_text for row in batch if row.second_text is not None]
        tokens = tokenize(
            model.tokenizer, [row.text for row in batch], seconds or None, model.max_tokens + 1
        )
        lengths = tokens.lengths.tolist()
        found += lengths
        for row, ids in zip(batch, tokens.token_ids.split(lengths)):
            pieces.add(ids.tolist(), *filter(None, (row.text, row.second_text)))
    return np.array(found), pieces


def _batches(rows: Iterator[Row]) -> Iterator[List[Row]]:
    batch: List[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch
