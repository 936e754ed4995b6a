"""Would a tokenizer, read from the files of an archive, take bounded time and memory?

The library that reads `tokenizer.json` takes minutes for a token of 100,000 characters, hours for a
word of as many, and ends in a panic where a regular expression goes back and forth for too long. So
only what tokenizers of the supported families are made of is read, and only in the sizes that they
have.
"""

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from sledgehammer_allennlp.archives.contents import read_json
from sledgehammer_allennlp.values import short_repr

MAX_TOKEN = 500
"""Characters. The library's time grows with the third power for added tokens."""
MAX_ADDED = 10_000
"""Tokens beside those of the vocabulary."""
MAX_WORD = 200
"""Characters of a word that is looked up piece by piece, in time of the third power; mostly 100."""
MAX_COMPONENTS = 20
"""Normalizers and so on, together."""

MAX_BYTES = {
    "tokenizer.json": 200 << 20,
    "tokenizer_config.json": 8 << 20,
    "special_tokens_map.json": 8 << 20,
    "added_tokens.json": 8 << 20,
    "config.json": 8 << 20,
}
MAX_OTHER_BYTES = 64 << 20
"""Of vocabularies and merges."""

COMPONENTS = {
    "normalizer": {
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Replace",
        "Sequence",
        "Strip",
        "StripAccents",
    },
    "pre_tokenizer": {
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "Metaspace",
        "Punctuation",
        "Sequence",
        "Split",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    },
    "post_processor": {
        "BertProcessing",
        "ByteLevel",
        "RobertaProcessing",
        "Sequence",
        "TemplateProcessing",
    },
    "model": {"BPE", "Unigram", "WordLevel", "WordPiece"},
}
"""What each part of `tokenizer.json` may be; a decoder is not used."""

_PARTS = ("normalizers", "pretokenizers", "processors")

_ATOM = r"(?:[^\\()\[\]{}*+?|^$]|\\[sSdDwWnrt.\\-]|\\p\{\w{1,20}\}|\[[^\[\]\\]{1,40}\])"
_SIMPLE_PATTERN = re.compile(_ATOM + r"{1,20}(?:[*+?]|\{\d{1,3},?\d{0,3}\})?")
"""Regular expressions that never go back: only what stands at the end is repeated."""


class _Wrong(ValueError):
    """What a tokenizer may not have."""


def check_tokenizer_sizes(files: Path, vocab_size: Optional[int]) -> List[str]:
    """
    What is wrong with the sizes and shapes of a tokenizer's files.

    # Parameters

    files : `Path`
        Their folder.
    vocab_size : `int`, optional
        How many embeddings the model has, if that is known.
    """
    problems = []
    for file in sorted(files.iterdir()):
        if not file.is_file():
            problems.append(f"its {file.name} of the pretrained model is no file: wanted files")
        most = MAX_BYTES.get(file.name, MAX_OTHER_BYTES)
        if file.stat().st_size > most:
            size = file.stat().st_size
            problems.append(f"its {file.name} has {size:,} bytes: wanted at most {most:,}")
    if problems:
        return problems
    for name, check in (
        ("tokenizer.json", _check_tokenizer),
        ("tokenizer_config.json", _check_config),
        ("special_tokens_map.json", _check_config),
        ("added_tokens.json", _check_vocabulary_of_added),
        ("vocab.json", _check_vocabulary),
    ):
        if (files / name).exists():
            try:
                check(read_json(files / name), vocab_size)
            except _Wrong as error:
                problems.append(f"the pretrained model's {name} has {error}")
            except ValueError as error:
                problems.append(str(error))
            except (AttributeError, KeyError, TypeError, RecursionError) as error:
                problems.append(
                    f"the pretrained model's {name} is not as its library writes it: wanted a "
                    f"tokenizer. ({type(error).__name__}: {str(error)[:200]})"
                )
    if (files / "vocab.txt").exists():
        with open(files / "vocab.txt", "rb") as lines:
            num_lines = sum(1 for _ in lines)
        if vocab_size is not None and num_lines > vocab_size:
            problems.append(_beyond("vocab.txt", num_lines - 1, vocab_size))
    has_fast = (files / "tokenizer.json").exists()
    if not has_fast and any(file.suffix == ".model" for file in files.iterdir()):
        problems.append(
            "its tokenizer is a sentencepiece model alone, which is not checked: wanted a "
            "tokenizer.json"
        )
    return problems


def _beyond(file: str, token_id: Any, vocab_size: int) -> str:
    return (
        f"the pretrained model's {file} has the token id {short_repr(token_id)}, and the model "
        f"{vocab_size:,} embeddings: wanted ids below that"
    )


def _check_id(token_id: Any, vocab_size: Optional[int]) -> None:
    if not isinstance(token_id, int) or token_id < 0:
        raise _Wrong(f"the token id {short_repr(token_id)}: wanted a number from 0")
    if vocab_size is not None and token_id >= vocab_size:
        raise _Wrong(
            f"the token id {short_repr(token_id)}, and the model {vocab_size:,} embeddings: wanted "
            "ids below that"
        )


def _check_token(token: Any) -> None:
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        raise _Wrong(f"the token {short_repr(token)}: wanted a text")
    if not 0 < len(content) <= MAX_TOKEN:
        raise _Wrong(
            f"a token of {len(content):,} characters, {short_repr(content)}: wanted 1 to "
            f"{MAX_TOKEN}"
        )


def _check_number(tokens: Any, name: str) -> None:
    if len(tokens) > MAX_ADDED:
        raise _Wrong(f"{len(tokens):,} {name}: wanted at most {MAX_ADDED:,}")


def _check_config(settings: Dict[str, Any], vocab_size: Optional[int]) -> None:
    """`tokenizer_config.json`, or the map of special tokens."""
    added = settings.get("added_tokens_decoder") or {}
    _check_number(added, "added tokens")
    for token_id, token in added.items():
        if not token_id.isdigit() or len(token_id) > 10:
            raise _Wrong(f"the token id {short_repr(token_id)}: wanted a number from 0")
        _check_id(int(token_id), vocab_size)
        _check_token(token)
    for name, value in settings.items():
        if name.endswith("_token") and value is not None and not isinstance(value, bool):
            _check_token(value)
    for name in ("additional_special_tokens", "extra_special_tokens", "never_split"):
        tokens = settings.get(name) or []
        _check_number(tokens, name)
        for token in tokens.values() if isinstance(tokens, dict) else tokens:
            _check_token(token)
    length = settings.get("model_max_length")
    if length is not None and (not isinstance(length, (int, float)) or not length >= 1):
        raise _Wrong(f"the model_max_length {short_repr(length)}: wanted a number of tokens")


def _check_vocabulary_of_added(tokens: Dict[str, Any], vocab_size: Optional[int]) -> None:
    _check_number(tokens, "added tokens")
    _check_vocabulary(tokens, vocab_size)


def _check_vocabulary(tokens: Dict[str, Any], vocab_size: Optional[int]) -> None:
    """Ids by tokens."""
    longest = max(tokens, key=len, default="a")
    if len(longest) > MAX_TOKEN:
        _check_token(longest)
    for token_id in tokens.values():
        _check_id(token_id, vocab_size)


def _check_tokenizer(settings: Dict[str, Any], vocab_size: Optional[int]) -> None:
    """`tokenizer.json`."""
    added = settings.get("added_tokens") or []
    _check_number(added, "added tokens")
    for token in added:
        _check_token(token)
        _check_id(token["id"], vocab_size)
    _check_model(settings["model"], vocab_size)
    components = [
        (part, component)
        for part in ("normalizer", "pre_tokenizer", "post_processor")
        for component in _components(settings.get(part), part)
    ]
    if len(components) > MAX_COMPONENTS:
        raise _Wrong(
            f"{len(components)} normalizers, pre-tokenizers and post-processors: wanted at most "
            f"{MAX_COMPONENTS}"
        )
    of_bytes = [part for part, one in components if one["type"] == "ByteLevel"]
    if sum(part != "post_processor" for part in of_bytes) > 1:
        raise _Wrong("several components of type ByteLevel, which each lengthen a text: wanted one")
    for _, component in components:
        _check_component(component, vocab_size)


def _check_model(model: Dict[str, Any], vocab_size: Optional[int]) -> None:
    kind = _type_of(model, "model")
    vocabulary = model["vocab"]
    if kind == "Unigram":
        if vocab_size is not None and len(vocabulary) > vocab_size:
            _check_id(len(vocabulary) - 1, vocab_size)
        vocabulary = {token: number for number, (token, score) in enumerate(vocabulary)}
    _check_vocabulary(vocabulary, vocab_size)
    longest = model.get("max_input_chars_per_word")
    if kind == "WordPiece" and (not isinstance(longest, int) or not 0 <= longest <= MAX_WORD):
        raise _Wrong(
            f"max_input_chars_per_word {short_repr(longest)}, for which time grows with the third "
            f"power: wanted at most {MAX_WORD}"
        )
    unknown = model.get("unk_token")
    if kind in ("WordPiece", "WordLevel") and unknown not in vocabulary:
        raise _Wrong(f"the unk_token {short_repr(unknown)}: wanted a token of its vocabulary")


def _type_of(component: Any, part: str) -> str:
    kind = component.get("type") if isinstance(component, dict) else None
    if kind is None and part == "model" and isinstance(component, dict):
        # As versions before 0.10 wrote models.
        kind = "BPE" if "merges" in component else "WordPiece"
    if not isinstance(kind, str) or kind not in COMPONENTS[part]:
        raise _Wrong(
            f"a {part} of type {short_repr(kind if kind else component)}: wanted one of "
            f"{', '.join(sorted(COMPONENTS[part]))}"
        )
    return kind


def _components(component: Any, part: str, depth: int = 0) -> Iterator[Dict[str, Any]]:
    """The component, or those of a sequence."""
    if component is None:
        return
    if depth > 3:
        raise _Wrong("sequences in sequences: wanted three at most")
    if _type_of(component, part) != "Sequence":
        yield component
        return
    for name in _PARTS:
        for one in component.get(name) or ():
            yield from _components(one, part, depth + 1)


def _check_component(component: Dict[str, Any], vocab_size: Optional[int]) -> None:
    kind = component["type"]
    if kind in ("Replace", "Split"):
        ((how, pattern),) = component["pattern"].items()
        if how == "Regex" and _SIMPLE_PATTERN.fullmatch(pattern) is None:
            raise _Wrong(
                f"the regular expression {short_repr(pattern)}, whose matching may take forever: "
                "wanted one without groups and alternatives that repeats only at its end"
            )
        if how != "Regex" and not 0 < len(pattern) <= MAX_TOKEN:
            raise _Wrong(f"a {kind} of {short_repr(pattern)}: wanted 1 to {MAX_TOKEN} characters")
        if kind == "Replace":
            shortest = 1 if how == "Regex" else len(pattern)
            if how == "Regex" and (pattern[-1] in "*?" or "{0" in pattern):
                raise _Wrong(f"a Replace of {short_repr(pattern)}, which may match nothing")
            if len(component["content"]) > shortest:
                raise _Wrong(
                    f"a Replace by {short_repr(component['content'])}, which lengthens a text: "
                    "wanted no more characters than are replaced"
                )
    elif kind == "Prepend" and len(component["prepend"]) > 10:
        raise _Wrong(f"a Prepend of {short_repr(component['prepend'])}: wanted 10 characters")
    elif kind in ("BertProcessing", "RobertaProcessing"):
        for name in ("sep", "cls"):
            _check_id(component[name][1], vocab_size)
    elif kind == "TemplateProcessing":
        _check_template(component, vocab_size)


def _check_template(template: Dict[str, Any], vocab_size: Optional[int]) -> None:
    tokens = template["special_tokens"]
    for token in tokens.values():
        for token_id in token["ids"]:
            _check_id(token_id, vocab_size)
        if len(token["ids"]) != len(token["tokens"]):
            raise _Wrong("a template whose tokens are not as many as their ids")
    for name in ("single", "pair"):
        pieces = template[name]
        if not isinstance(pieces, list) or len(pieces) > 50:
            raise _Wrong(f"a template of {len(pieces):,} pieces: wanted a list of at most 50")
        for piece in pieces:
            token = piece.get("SpecialToken")
            if token is not None and token["id"] not in tokens:
                raise _Wrong(
                    f"a template with the token {short_repr(token['id'])}: wanted one of its "
                    "special_tokens"
                )
            if token is None and "Sequence" not in piece:
                raise _Wrong(f"a template with {short_repr(piece)}: wanted a token or a text")
