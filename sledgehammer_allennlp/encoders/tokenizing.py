"""From texts to token ids, many at once."""

from typing import List, Optional, Sequence

from transformers import PreTrainedTokenizerBase

from sledgehammer_allennlp.encoders.token_batch import TokenBatch


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    second_texts: Optional[Sequence[str]] = None,
    max_length: Optional[int] = None,
) -> TokenBatch:
    """
    Texts, or pairs of texts, as token ids with special tokens.

    # Parameters

    texts, second_texts : `Sequence[str]`
        Of the same number.
    max_length : `int`, optional (default = what the tokenizer says its model takes)
        Longer texts are truncated; of a pair, the longer first.
    """
    if not texts:
        return TokenBatch.from_lists([])
    encoded = tokenizer(
        list(texts),
        None if second_texts is None else list(second_texts),
        add_special_tokens=True,
        truncation="longest_first",
        max_length=max_length,
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    token_ids: List[List[int]] = encoded["input_ids"]
    return TokenBatch.from_lists(token_ids, encoded["token_type_ids"])
