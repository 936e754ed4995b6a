"""What a reader says of a file's texts when it has read them all."""

from typing import List, Optional

from allennlp.data import Instance
from allennlp.data.fields import TextField
from allennlp.data.tokenizers import PretrainedTransformerTokenizer

from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.encoders.tokenizing import max_tokens
from sledgehammer_allennlp.encoders.unknown_pieces import UnknownPieces


class ReadTexts:
    """
    Counts the texts of a file that are cut, and the pieces of them that are unknown.

    # Parameters

    tokenizer : `PretrainedTransformerTokenizer`
    """

    def __init__(self, tokenizer: PretrainedTransformerTokenizer) -> None:
        self.cut = CutTexts(max_tokens(tokenizer.tokenizer, tokenizer._max_length))
        self._pieces = UnknownPieces(tokenizer.tokenizer)

    def add(self, instance: Instance, text: str, second_text: Optional[str]) -> None:
        """Counts the pieces of an instance, which was made of a text or two."""
        field = instance.fields.get("tokens")
        if not isinstance(field, TextField):
            return  # of a subclass of the reader
        ids = [-1 if token.text_id is None else token.text_id for token in field.tokens]
        self._pieces.add(ids, *(text for text in (text, second_text) if text is not None))

    def sentences(self) -> List[str]:
        """What is amiss with the texts, if anything."""
        return [said for said in (self.cut.sentence(), self._pieces.warning()) if said]
