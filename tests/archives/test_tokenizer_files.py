"""A tokenizer that would take forever, or end in a panic, is refused before it is loaded."""

import json
import shutil
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from sledgehammer_allennlp.archives import check_archive, load_archived_classifier, tokenizer_files
from sledgehammer_allennlp.archives.tokenizer_files import check_tokenizer_sizes
from sledgehammer_allennlp.encoders.tokenizing import panics_as_errors, tokenize
from tests.archives.test_names import loaders


@pytest.fixture
def files(tiny_bert, tmp_path) -> Path:
    """The files of a tiny BERT and its tokenizer, to be changed."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "files"))


def change(files: Path, name: str, changed) -> None:
    content = json.loads((files / name).read_text()) if (files / name).exists() else {}
    (files / name).write_text(json.dumps(changed(content) or content))


def added(content, token_id=5):
    return {"added_tokens_decoder": {str(token_id): {"content": content, "special": True}}}


def split(pattern):
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


BOMB = replace({"String": "a"}, "aa")
CONFIG, TOKENIZER, MAP = "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"
REFUSED = [
    (CONFIG, added("a" * 100_000), "a token of 100,000 characters, 'aaa"),
    (CONFIG, added(""), "a token of 0 characters"),
    (CONFIG, added(3), "the token {'content': 3, 'special': True}: wanted a text"),
    (CONFIG, added("a", 10**6), "the token id 1000000, and the model 75 embeddings: wanted ids"),
    (CONFIG, added("a", -1), "the token id '-1': wanted a number"),
    (CONFIG, {"mask_token": "a" * 501}, "a token of 501 characters"),
    (CONFIG, {"never_split": ["a" * 501]}, "a token of 501 characters"),
    (CONFIG, {"model_max_length": -5}, "the model_max_length -5: wanted a number of tokens"),
    (CONFIG, {"model_max_length": "x"}, "the model_max_length 'x': wanted a number of tokens"),
    (CONFIG, {"added_tokens_decoder": [1]}, "is not as its library writes it"),
    (
        CONFIG,
        {"additional_special_tokens": [str(n) for n in range(10_001)]},
        "10,001 additional_special_tokens: wanted at most 10,000",
    ),
    (MAP, {"cls_token": {"content": "a" * 501}}, "a token of 501 characters"),
    ("added_tokens.json", {"a" * 501: 5}, "a token of 501 characters"),
    ("added_tokens.json", {"a": 75}, "the token id 75, and the model 75 embeddings"),
    (TOKENIZER, {"pre_tokenizer": split({"Regex": "(a+)+$"})}, "the regular expression '(a+)+$'"),
    (TOKENIZER, {"pre_tokenizer": split({"Regex": "a*a*a*b"})}, "the regular expression 'a*a*a*b"),
    (TOKENIZER, {"normalizer": replace({"Regex": "(x+x+)+y"}, "")}, "the regular expression"),
    (TOKENIZER, {"normalizer": replace({"Regex": "a*"}, "b")}, "which may match nothing"),
    (TOKENIZER, {"normalizer": replace({"String": ""}, "b")}, "a Replace of ''"),
    (TOKENIZER, {"normalizer": BOMB}, "a Replace by 'aa', which lengthens a text"),
    (
        TOKENIZER,
        {"normalizer": {"type": "Prepend", "prepend": "a" * 11}},
        "a Prepend of 'aaaaaaaaaaa'",
    ),
    (
        TOKENIZER,
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 2}},
        "several components of type ByteLevel",
    ),
    (
        TOKENIZER,
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 21}},
        "23 normalizers, pre-tokenizers and post-processors: wanted at most 20",
    ),
    (
        TOKENIZER,
        {"pre_tokenizer": json.loads('{"type": "Sequence", "pretokenizers": [' * 40 + "]}" * 40)},
        "sequences in sequences",
    ),
    (
        TOKENIZER,
        {"pre_tokenizer": {"type": "Other"}},
        "a pre_tokenizer of type 'Other': wanted one",
    ),
    (TOKENIZER, {"model": 3}, "a model of type 3: wanted one of BPE"),
    (TOKENIZER, {"model": {"type": "WordPiece"}}, "is not as its library writes it"),
    (
        TOKENIZER,
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[Q]", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        "a template with the token '[Q]': wanted one of its special_tokens",
    ),
    (
        TOKENIZER,
        {"added_tokens": [{"id": 10**9, "content": "z"}]},
        "the token id 1000000000, and the model 75 embeddings",
    ),
]


@pytest.mark.parametrize("name, changed, message", REFUSED)
def test_what_may_take_forever_or_panic_is_refused(files, name, changed, message):
    change(files, name, lambda content: {**content, **changed})
    (problem,) = check_tokenizer_sizes(files, 75)
    assert f"the pretrained model's {name} " in problem and message in problem


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"max_input_chars_per_word": 10**18}, "grows with the third power: wanted at most 200"),
        ({"unk_token": "none"}, "the unk_token 'none': wanted a token of its vocabulary"),
        ({"vocab": {"[UNK]": 1, "a": -1}}, "the token id -1: wanted a number"),
        ({"vocab": {"[UNK]": 1, "a": 75}}, "the token id 75, and the model 75 embeddings"),
        ({"vocab": {"[UNK]": 1, "a" * 501: 7}}, "a token of 501 characters"),
    ],
)
def test_a_model_of_tokens_that_takes_forever_or_has_others_is_refused(files, changed, message):
    change(files, TOKENIZER, lambda content: content["model"].update(changed))
    (problem,) = check_tokenizer_sizes(files, 75)
    assert f"the pretrained model's {TOKENIZER} has " in problem and message in problem


def test_files_that_are_too_large_are_refused_before_they_are_read(files, monkeypatch):
    monkeypatch.setitem(tokenizer_files.MAX_BYTES, TOKENIZER, 100)
    monkeypatch.setattr(tokenizer_files, "read_json", lambda file: pytest.fail("it is read"))
    (problem,) = check_tokenizer_sizes(files, 75)
    assert problem.startswith("its tokenizer.json has ") and "bytes: wanted at most 100" in problem


def test_more_lines_of_a_vocabulary_than_embeddings_are_refused(files):
    with open(files / "vocab.txt", "a") as vocabulary:
        vocabulary.write("one\ntwo\n")
    (problem,) = check_tokenizer_sizes(files, 75)
    assert "vocab.txt has the token id 76, and the model 75 embeddings" in problem
    assert check_tokenizer_sizes(files, 77) == check_tokenizer_sizes(files, None) == []


def test_a_sentencepiece_model_alone_is_refused(files):
    (files / "spiece.model").write_bytes(b"x")
    assert check_tokenizer_sizes(files, 75) == []
    (files / TOKENIZER).unlink()
    (problem,) = check_tokenizer_sizes(files, 75)
    assert "a sentencepiece model alone, which is not checked: wanted a tokenizer.json" in problem


@pytest.mark.parametrize("pattern", [" {2,}", r"\s+", "[0-9]+", r"\p{Han}", " ", "``", "a-b?"])
def test_patterns_that_repeat_only_at_their_end_are_harmless(files, pattern):
    change(
        files, TOKENIZER, lambda content: {**content, "pre_tokenizer": split({"Regex": pattern})}
    )
    assert check_tokenizer_sizes(files, 75) == []
    Tokenizer.from_file(str(files / TOKENIZER)).encode("a-b `` 漢 " + " " * 1000)


def test_what_tokenizers_of_the_families_are_made_of_is_harmless(tiny_bert, tiny_roberta, tmp_path):
    assert check_tokenizer_sizes(tiny_bert, 75) == []
    num_tokens = len(AutoTokenizer.from_pretrained(tiny_roberta))
    assert check_tokenizer_sizes(tiny_roberta, num_tokens) == []
    assert "the token id" in check_tokenizer_sizes(tiny_roberta, num_tokens - 1)[0]
    # As ALBERT's and XLM-RoBERTa's, but for a table of characters.
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], 0))
    regex = tokenizers.Regex(" {2,}")
    pieces.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(regex, " "),
        ]
    )
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    pieces.post_processor = processors.TemplateProcessing(
        single="<unk> $A", special_tokens=[("<unk>", 0)]
    )
    (tmp_path / "pieces").mkdir()
    pieces.save(str(tmp_path / "pieces" / TOKENIZER))
    assert check_tokenizer_sizes(tmp_path / "pieces", 3) == []
    assert "token id 2, and the model 2" in check_tokenizer_sizes(tmp_path / "pieces", 2)[0]


class PanicException(BaseException):
    """Called as the exception of a panic in the tokenizers library is."""


def test_a_panic_becomes_an_error_of_values(files, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(files)

    def panic(*args, **kwargs):
        raise PanicException("called `Result::unwrap()` on an `Err` value")

    library = MagicMock(encode_batch=panic, encode_batch_fast=panic)
    monkeypatch.setattr(type(tokenizer), "backend_tokenizer", library)
    with pytest.raises(ValueError, match="the tokenizer ended in a panic: wanted another tok"):
        tokenize(tokenizer, ["a" * 60 + "b"])
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


@pytest.mark.parametrize("way", ["plain", "allennlp"])
@pytest.mark.parametrize("name, changed, message", [REFUSED[0], REFUSED[14], REFUSED[-1]])
def test_check_and_loading_refuse_it_alike(hostile, way, name, changed, message):
    check, load = loaders()[way]
    hostile.change_pretrained(name, **changed)
    assert any(message in problem for problem in check(hostile.folder).problems)
    errors = pytest.importorskip("allennlp.common.checks").ConfigurationError
    with pytest.raises((ValueError, errors)) as refused:
        load(hostile.folder)
    assert message in str(refused.value)


def test_a_trusted_tokenizer_that_cannot_be_read_says_so(hostile):
    hostile.change_pretrained(TOKENIZER, model=3)
    assert check_archive(hostile.folder).problems
    with pytest.raises(ValueError, match="cannot read the tokenizer of .*: wanted the files"):
        load_archived_classifier(hostile.folder, trust=True)
