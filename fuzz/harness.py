"""What the targets share: a run of libFuzzer, and the tiny model they are run on."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Sequence

import atheris

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

INSTRUMENTED = ["sledgehammer_allennlp", "json"]


def refused(error: Exception) -> None:
    """Raises what is not a refusal in our words, which say what was wanted."""
    from allennlp.common.checks import ConfigurationError

    if type(error) not in (ValueError, ConfigurationError) or "wanted" not in str(error):
        raise error
    if len(str(error)) > 5000:
        raise AssertionError(f"a message of {len(str(error))} characters") from error


def fuzz(test: Callable[[bytes], None], seeds: Sequence[bytes], dictionary: Sequence[str]) -> None:
    """
    Runs libFuzzer with the arguments of the command line, `-max_total_time=60` for example, and
    a corpus folder if one is given. Starts with `seeds`, and mixes in words of `dictionary`.
    """
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "seeds"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        words = Path(folder) / "words"
        words.write_text("".join(f"{_quoted(word)}\n" for word in dictionary), encoding="ascii")
        arguments = [*sys.argv, f"-dict={words}", "-timeout=20", "-rss_limit_mb=4096"]
        if all(argument.startswith("-") for argument in sys.argv[1:]):
            arguments.append(folder + "/found")  # the first folder is written to
            (Path(folder) / "found").mkdir()
        atheris.Setup([*arguments, str(corpus)], test)
        atheris.Fuzz()


def _quoted(word: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8")) + '"'


def save_pretrained(folder: Path) -> str:
    """The folder of a tiny BERT and its tokenizer."""
    import transformers

    from tests.tiny import SENTENCES, tiny_transformer

    words = sorted({word for text in SENTENCES for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    tiny_transformer("bert", vocab_size=len(vocabulary)).save_pretrained(folder)
    return str(folder)


def make_reader(pretrained: str, **settings: Any) -> Any:
    """A `labeled_tsv` reader."""
    from allennlp.common import Params
    from allennlp.data import DatasetReader

    tokenizer = {"type": "pretrained_transformer", "model_name": pretrained}
    given: Dict[str, Any] = {"type": "labeled_tsv", "tokenizer": tokenizer, **settings}
    return DatasetReader.from_params(Params(given))
