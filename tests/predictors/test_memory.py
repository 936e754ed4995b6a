"""Thousands of predictions in one process leave nothing behind, and each its own answer."""

import gc
import os
import random
from pathlib import Path

import pytest
from allennlp.predictors import Predictor

TEXTS = ["good " * (i % 23) + "bad " * (i % 7) + "film" for i in range(60)]


def _resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_and_every_answer_is_its_texts_own(trained):
    predictor = Predictor.from_path(
        trained["archive"], overrides={"model.confidence_threshold": 0.6}
    )
    alone = [predictor.predict(text) for text in TEXTS]
    draw = random.Random(0)

    def run(num_predictions):
        for _ in range(num_predictions // 20):
            chosen = [draw.randrange(len(TEXTS)) for _ in range(20)]
            lines = [{"sentence": TEXTS[i]} for i in chosen]
            if draw.random() < 0.1:  # as instances
                lines[0] = {"premise": TEXTS[chosen[0]], "hypothesis": ""}
            answers = predictor.predict_batch_json(lines)
            assert len(answers) == 20
            for i, answer in list(zip(chosen, answers))[1:]:
                assert answer["exit_layer"] == alone[i]["exit_layer"]
                assert answer["probs"] == pytest.approx(alone[i]["probs"], abs=1e-5)
        gc.collect()
        return len(gc.get_objects()), _resident_bytes()

    run(1000)
    num_objects, num_bytes = run(1000)
    num_objects_later, num_bytes_later = run(3000)
    assert num_objects_later - num_objects < 100
    assert num_bytes_later - num_bytes < 16e6
