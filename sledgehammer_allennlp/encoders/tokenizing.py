"""From texts to token ids, many at once."""

import os
import threading
from typing import List, Optional, Sequence

from transformers import PreTrainedTokenizerBase

from sledgehammer_allennlp.encoders.token_batch import TokenBatch

# A tokenizer keeps the settings of truncation from call to call, and several readers of a process
# may have the same one: another thread's would raise "Already borrowed", or be taken for ours.
TOKENIZER_LOCK = threading.RLock()
"""Held by whoever uses a tokenizer in a way that may change its settings."""

if hasattr(os, "register_at_fork"):
    # A worker that is forked while another thread holds the lock would wait for it forever.
    os.register_at_fork(
        before=TOKENIZER_LOCK.acquire,
        after_in_parent=TOKENIZER_LOCK.release,
        after_in_child=TOKENIZER_LOCK.release,
    )


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    second_texts: Optional[Sequence[str]] = None,
    max_length: Optional[int] = None,
) -> TokenBatch:
    """
    Texts, or pairs of texts, as token ids with special tokens. Can be called by several threads.

    # Parameters

    texts, second_texts : `Sequence[str]`
        Of the same number.
    max_length : `int`, optional (default = what the tokenizer says its model takes)
        Longer texts are truncated; of a pair, the longer first.
    """
    if not texts:
        return TokenBatch.from_lists([])
    with TOKENIZER_LOCK:
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
