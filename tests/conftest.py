"""Tiny pretrained models and data, made when the tests start: no network, no large files."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Of processes that tests start; what is tiny is slower with several, above all beside other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

import sledgehammer_allennlp  # noqa: F401  (registers the classes)
from tests.command_server import CommandServer
from tests.hostile import Hostile
from tests.imports_once import import_once
from tests.tiny import FAMILIES_HERE, SENTENCES, save_tiny_bert, tiny_transformer, write_tsv
from tests.tiny_runs import train_and_move_pretrained, train_with_heads

torch.set_num_threads(1)
if find_spec("allennlp") is not None:
    import_once()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a 4-layer BERT with 64 positions, and its tokenizer."""
    return save_tiny_bert(tmp_path_factory.mktemp("pretrained") / "tiny-bert")


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


@pytest.fixture(params=FAMILIES_HERE)
def family(request: pytest.FixtureRequest) -> str:
    """Each supported family that the installed library has."""
    return request.param


@pytest.fixture(scope="session")
def tsv(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Paths of a small data set that can be learned: `train`, `dev`, and `pairs`."""
    return write_tsv(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tsv: Dict[str, str]) -> Dict[str, Any]:
    """
    A training run with calibration whose pretrained model is gone: `run`, its folder; `archive`,
    its archive; `config`, what it was trained with; `model`, as it was at the end of training.
    """
    pytest.importorskip("allennlp")
    return train_and_move_pretrained(tmp_path_factory.mktemp("trained"), tsv)


@pytest.fixture(scope="session")
def trained_with_heads(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, tsv: Dict[str, str]
) -> str:
    """
    An archive whose exits have heads, see the logits before them, and are combined, with an exit on
    n-grams.
    """
    pytest.importorskip("allennlp")
    return train_with_heads(tmp_path_factory.mktemp("with-heads") / "run", str(tiny_bert), tsv)


@pytest.fixture
def hostile(trained: Dict[str, Any], tmp_path: Path) -> Hostile:
    """A copy of a training run, to be changed."""
    return Hostile(trained["run"], tmp_path)


@pytest.fixture
def allennlp_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """
    Runs `allennlp` with the arguments it is given; raises what our commands print as an error.
    """
    from allennlp.commands import main

    def run(*arguments: Any) -> None:
        monkeypatch.setattr(
            sys,
            "argv",
            ["allennlp", *map(str, arguments), "--include-package", "sledgehammer_allennlp"],
        )
        try:
            main()
        except SystemExit as exit_:
            raise exit_.__cause__ or exit_

    return run


@pytest.fixture(scope="session")
def command_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs commands in processes of their own."""
    pytest.importorskip("allennlp")
    server = CommandServer(tmp_path_factory.mktemp("server") / "commands")
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser():
    """A headless browser: the system's Chromium or Chrome, or playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api")
    installed = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(
                executable_path=installed, args=["--no-sandbox", "--disable-background-networking"]
            )
        except playwright.Error as error:
            if os.environ.get("REQUIRE_BROWSER"):
                raise
            pytest.skip(f"found no browser; `playwright install chromium` gets one. {error}")
        yield found
        found.close()
