"""An archive for a service, made without AllenNLP: with n-grams, and exits that differ."""

import json
from pathlib import Path

import torch

from sledgehammer_allennlp.archives.archived_classifier import ArchivedClassifier
from sledgehammer_allennlp.encoders.archived_files import keep_config, keep_tokenizer
from sledgehammer_allennlp.exits import build_encoder_and_exits
from tests.ngrams.ngram_reference import random_classifier

LABELS = ["pos", "neg", "<b>&\"'"]
SETTINGS = {"exit_layers": [0, 2, 3], "embedding_exit": "ngrams"}


def write_archive(folder: Path, pretrained: Path) -> Path:
    """The folder of a run of a tiny model with random weights, as `allennlp train` leaves it."""
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "vocabulary" / "labels.txt").write_text("\n".join(LABELS))
    (folder / "vocabulary" / "non_padded_namespaces.txt").write_text("*labels\n")
    config = {
        "dataset_reader": {
            "type": "labeled_tsv",
            "tokenizer": {"type": "pretrained_transformer", "model_name": str(pretrained)},
        },
        "model": {
            "type": "multi_exit_classifier",
            "transformer_model": str(pretrained),
            **SETTINGS,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(5)
    encoder, exits = build_encoder_and_exits(str(pretrained), len(LABELS), **SETTINGS)
    ngrams = exits.ngrams
    assert ngrams is not None
    ngrams.load_state_dict(
        random_classifier(len(LABELS), num_buckets=ngrams.num_buckets).state_dict()
    )
    with torch.no_grad():
        for name, parameter in exits.named_parameters():
            if name.endswith("linear.weight"):
                parameter.mul_(3)
    keep_config(str(pretrained), folder, encoder.transformer.config)
    keep_tokenizer(str(pretrained), folder)
    classifier = ArchivedClassifier(encoder, exits, LABELS)
    classifier.temperatures.copy_(torch.tensor([0.7, 3.0, 1.5, 1.0]))
    torch.save(classifier.state_dict(), folder / "weights.th")
    return folder
