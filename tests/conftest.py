"""Tiny pretrained models and data, made when the tests start: no network, no large files."""

import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Of processes that tests start; what is tiny is slower with several, above all beside other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if os.environ.get("WITHOUT_ALLENNLP"):
    sys.modules["allennlp"] = None  # type: ignore[assignment]  # as if it were not installed

import pytest
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

import sledgehammer_allennlp  # noqa: F401  (registers the classes)
from tests.tiny import FAMILY_CONFIGS, SENTENCES, tiny_experiment, tiny_transformer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a 4-layer BERT with 64 positions, and its tokenizer."""
    return _save_bert(tmp_path_factory.mktemp("pretrained") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a 4-layer RoBERTa with 64 positions, and its tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained") / "tiny-roberta"
    folder.mkdir()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES, vocab_size=320, special_tokens=specials)
    bpe.save_model(str(folder))
    tokenizer = transformers.RobertaTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt")
    )
    tokenizer.save_pretrained(folder)
    tiny_transformer("roberta", vocab_size=len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(params=sorted(FAMILY_CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    """Each supported family."""
    return request.param


@pytest.fixture(scope="session")
def tsv(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Paths of a small data set that can be learned: `train`, `dev`, and `pairs`."""
    folder = tmp_path_factory.mktemp("data")
    lines = [f"{'pos' if 'good' in text else 'neg'}\t{text}\n" for text in SENTENCES]
    pairs = [line.rstrip("\n") + "\tit was a day\n" for line in lines]
    paths = {}
    for name, content in {"train": lines * 2, "dev": lines, "pairs": pairs}.items():
        path = folder / f"{name}.tsv"
        path.write_text("".join(content), encoding="utf-8")
        paths[name] = str(path)
    return paths


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tsv: Dict[str, str]) -> Dict[str, Any]:
    """
    A training run with calibration whose pretrained model is gone: `run`, its folder; `archive`,
    its archive; `config`, what it was trained with; `model`, as it was at the end of training.
    """
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    folder = tmp_path_factory.mktemp("trained")
    pretrained = _save_bert(folder / "pretrained")
    config = tiny_experiment(str(pretrained), tsv)
    model = train_model(Params(config), str(folder / "run"))
    pretrained.rename(folder / "moved-away")
    return {
        "run": folder / "run",
        "archive": str(folder / "run" / "model.tar.gz"),
        "config": tiny_experiment(str(pretrained), tsv),
        "model": model,
    }


@pytest.fixture(scope="session")
def trained_with_heads(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, tsv: Dict[str, str]
) -> str:
    """
    An archive whose exits have heads and see the logits before them, with an exit on n-grams.
    """
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    config = tiny_experiment(
        str(tiny_bert),
        tsv,
        embedding_exit="ngrams",
        confidence="learned",
        use_previous_logits=True,
        loss="alternating",
    )
    folder = tmp_path_factory.mktemp("with-heads") / "run"
    train_model(Params(config), str(folder))
    return str(folder / "model.tar.gz")


@pytest.fixture
def allennlp_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs `allennlp` with the arguments it is given."""
    from allennlp.commands import main

    def run(*arguments: Any) -> None:
        monkeypatch.setattr(
            sys,
            "argv",
            ["allennlp", *map(str, arguments), "--include-package", "sledgehammer_allennlp"],
        )
        main()

    return run


def _save_bert(folder: Path) -> Path:
    folder.mkdir()
    words = sorted({word for text in SENTENCES for word in text.split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words
    vocabulary += [x for letter in letters for x in (letter, f"##{letter}") if x not in words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    tiny_transformer("bert", vocab_size=len(vocabulary)).save_pretrained(folder)
    return folder
