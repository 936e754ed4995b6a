"""
Fuzzes the predictor: any line, and any text or pair of texts, alone, in a batch, and without
AllenNLP, which must all give one answer.

    python -m fuzz.predictor_json -max_total_time=60

Takes libFuzzer's arguments.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import atheris

from fuzz.harness import INSTRUMENTED, fuzz, make_reader, refused, save_pretrained

SEEDS = [
    b'{"sentence": "the film was good"}',
    b'{"premise": "the film was good", "hypothesis": "", "id": [1, {"a": null}]}',
    b'{"sentence": "a", "sentence": "b"}',
    b'{"sentence": "\\ud800 [SEP] [PAD] \\u0000"}',
    b'{"sentence": 1e999, "id": NaN}',
    b"[" * 3000,
    b"the film was [PAD] good\t[SEP] bad \xff\0",
]
WORDS = ['"sentence"', '"premise"', '"hypothesis"', "\\ud800", "NaN", "[PAD]", "[SEP]", "[[[[["]


def main() -> None:
    with atheris.instrument_imports(include=INSTRUMENTED):
        import sledgehammer_allennlp  # noqa: F401
    import torch
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.models import Model

    from sledgehammer_allennlp.archives.classifier import ArchivedClassifier
    from sledgehammer_allennlp.predictors import MultiExitClassifierPredictor
    from tests.tiny import tiny_experiment

    torch.set_num_threads(1)
    pretrained = save_pretrained(Path(tempfile.mkdtemp()))
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(["neg", "pos"], "labels")
    config = tiny_experiment(pretrained, {"train": "", "dev": ""}, confidence_threshold=0.6)
    model: Any = Model.from_params(Params(config["model"]), vocab=vocab).eval()
    reader = make_reader(pretrained)
    predictor = MultiExitClassifierPredictor(model, reader)
    tokenizer = reader._tokenizer.tokenizer
    classifier = ArchivedClassifier(
        model.encoder, model.exits, ["neg", "pos"], tokenizer, confidence_threshold=0.6
    )
    mates = [{"sentence": "the film was good " * 20}, {"sentence": "[PAD]"}]
    pairs = [{"premise": one["sentence"], "hypothesis": "bad"} for one in mates]

    def answer(data: bytes) -> None:
        line = data.decode("utf-8", "surrogateescape")
        try:
            loaded = predictor.load_line(line)
            predictor.predict_json(loaded)
        except Exception as error:
            refused(error)
            # Not JSON that is taken: taken as the text itself, or as two of them.
            first, *others = line.split("\t", 1)
            loaded = {"premise": first, "hypothesis": others[0]} if others else {"sentence": first}
        answer_in_each_way(loaded)

    def answer_in_each_way(loaded: Any) -> None:
        alone = predictor.predict_json(loaded)
        json.loads(predictor.dump_line(alone))
        is_pair = "sentence" not in loaded
        among = predictor.predict_batch_json([*(pairs if is_pair else mates), loaded])[-1]
        for found, wanted in zip(among["logits"], alone["logits"]):
            assert abs(found - wanted) < 1e-3, (found, wanted)
        given = (loaded["premise"], loaded["hypothesis"]) if is_pair else loaded["sentence"]
        assert classifier.predict([given]) == [alone]

    fuzz(answer, SEEDS, WORDS)


if __name__ == "__main__":
    main()
