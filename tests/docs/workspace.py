"""What a reader of the pages has: a clone, data, pretrained models and a trained one, all tiny."""

import itertools
import json
import random
import shutil
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import transformers

from tests.command_server import ROOT, CommandServer
from tests.docs.reader import Reader
from tests.languages import LANGUAGES, other_texts, save_tiny_xlm_roberta, training_texts
from tests.tiny import save_tiny_bert, tiny_transformer

PAIRS = ("snli", "mnli", "pairs")
_SUBJECTS = ("the film", "a day", "this book", "her song", "the play", "his hat", "a tale")
_ADJECTIVES = ("good", "bad", "very good", "very bad", "so good", "so bad")
_OPENINGS = ("", "indeed ", "all in all ", "and ", "so ", "well now ", "again ", "yes indeed ")
_ENDINGS = ("", " indeed", " at last", " to me", " and long", " all in all", " he said", " again")
TEXTS = [
    (f"{opening}{subject} was {adjective}{ending}", "pos" if "good" in adjective else "neg")
    for opening, subject, adjective, ending in itertools.product(
        _OPENINGS, _SUBJECTS, _ADJECTIVES, _ENDINGS
    )
]
random.Random(0).shuffle(TEXTS)
ROWS = 100
"""Of a table."""


def write_workspace(folder: Path) -> None:
    """The folder, but for what training makes; see `write_trained`."""
    folder.mkdir()
    for name in ("scripts", "sledgehammer_allennlp"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "training_config", folder / "training_config")
    shutil.copy(ROOT / ".allennlp_plugins", folder)
    data = folder / "data"
    # So many that a config for them has few epochs: what is written after each takes long.
    _write_data(data / "mine", 1000)
    for name in ("sst2", "ag_news", "imdb", "bbc_news", "movie_reviews", *PAIRS):
        _write_data(data / name, 150, is_pairs=name in PAIRS)
    columns = [
        "id,sentence,label",
        *(f"{i},{text},{y}" for i, (text, y) in enumerate(TEXTS[:ROWS])),
    ]
    (data / "texts.csv").write_text("\n".join(columns) + "\n")
    for name, rows in (("train", TEXTS[:1000]), ("dev", TEXTS[2000:2300])):
        of_stars = ["review,stars", *(f"{text},{5 if y == 'pos' else 1}" for text, y in rows)]
        (data / f"mine/{name}.csv").write_text("\n".join(of_stars) + "\n")
    lines = [json.dumps({"sentence": text, "id": i}) for i, (text, _) in enumerate(TEXTS[:20])]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n")
    reviews = data / "reviews"
    reviews.mkdir()
    _write_lines(reviews / "train.tsv", training_texts())
    for name, languages in {"dev": LANGUAGES, "th": ["th"]}.items():
        texts = [text for language in languages for text in other_texts(language)]
        _write_lines(reviews / f"{name}.tsv", texts)
    save_tiny_xlm_roberta(folder / "xlm-roberta-base")
    _write_pretrained(folder / "bert-base-uncased", num_hidden_layers=12)
    _write_pretrained(data / "minilm", num_hidden_layers=6)


def _write_data(folder: Path, num_train: int, is_pairs: bool = False) -> None:
    folder.mkdir(parents=True)
    lines = [f"{label}\t{text}" + "\tit was so" * is_pairs for text, label in TEXTS]
    parts: Dict[str, List[str]] = {
        "train": lines[:num_train],
        "dev": lines[2000:2300],
        "test": lines[2300:],
        "other": lines[2300:],
    }
    for name, part in parts.items():
        (folder / f"{name}.tsv").write_text("\n".join(part) + "\n")
    examples = [json.dumps({"sentence": text}) for text, _ in TEXTS[:5]]
    (folder / "examples.jsonl").write_text("\n".join(examples) + "\n")


def _write_lines(path: Path, labelled_texts: Sequence[Tuple[str, str]]) -> None:
    lines = [f"{label}\t{text}\n" for label, text in labelled_texts]
    path.write_text("".join(lines), encoding="utf-8")


def _write_pretrained(folder: Path, num_hidden_layers: int) -> None:
    save_tiny_bert(folder)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder, model_max_length=512)
    tokenizer.save_pretrained(folder)
    settings = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
    model = tiny_transformer("bert", num_hidden_layers=num_hidden_layers, **settings)
    model.save_pretrained(folder)


def write_trained(folder: Path, server: CommandServer) -> None:
    """`mine.jsonnet`, and `runs/mine` as its training leaves it."""
    reader = Reader(folder, server)
    reader.shell(
        "python -m sledgehammer_allennlp new-config mine.jsonnet --train data/mine/train.tsv "
        "--dev data/mine/dev.tsv --model bert-base-uncased"
    )
    reader.shell("allennlp train mine.jsonnet -s runs/mine --include-package sledgehammer_allennlp")
    shutil.copy(folder / "runs/mine/model.tar.gz", folder / "their.tar.gz")
