"""Results of made-up data, without a model."""

from typing import List

import numpy as np
from scipy.special import softmax

from sledgehammer_allennlp.calibration import (
    apply_combination,
    compare_temperatures,
    with_combination,
)
from sledgehammer_allennlp.tradeoff import (
    operating_point,
    threshold_for_drop,
    threshold_for_speedup,
    tradeoff_curve,
)
from sledgehammer_allennlp.tradeoff.classes import class_curve
from sledgehammer_allennlp.tradeoff.results import (
    Example,
    Measurement,
    TradeoffResults,
    reliability,
)

EXIT_LAYERS = [-1, 0, 2, 3]
TEMPERATURES = [0.7, 1.0, 1.5, 2.0]
ATTACK = "</script><script>window.attacked = true</script><img src=x onerror='window.attacked = 1'>"
"""A text that does something if it is not escaped."""


COMBINATION = [[1.5, 0, 0, 0], [0.5, 1.25, 0, 0], [0, 0, 0.75, 0], [0.125, 0, 0, 0.5]]


def made_results(
    num_instances: int = 200, num_labels: int = 3, seed: int = 0, is_combined: bool = False
) -> TradeoffResults:
    """
    Four exits, the later the better. What each threshold gives is of temperatures, also if the
    exits are said to be combined.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_labels, size=num_instances)
    logits = rng.normal(size=(4, num_instances, num_labels))
    logits[:, np.arange(num_instances), labels] += np.array([1, 1.5, 2, 3])[:, None]
    probs = softmax(logits / np.array(TEMPERATURES)[:, None, None], axis=-1)
    confidences = probs.max(-1).astype(np.float32)
    # What is exactly 1, and what single precision rounds.
    confidences[0, :2] = 1, 0.9
    curve = tradeoff_curve(confidences, logits.argmax(-1) == labels, [0, 0.2, 2.2, 3.2])
    classes = class_curve(curve, confidences, logits.argmax(-1), labels, num_labels)
    recommendations = [
        threshold_for_drop(curve, 0.0),
        threshold_for_drop(curve, 0.05),
        threshold_for_drop(curve, 0.001, 0.99),
        threshold_for_speedup(curve, 2),
    ]
    shown = sorted({0.0, 0.5, 0.9, 1.0, *(r.point.threshold for r in recommendations)})
    names = [f"label {number} {ATTACK}" for number in range(num_labels)]
    ones = [1.0] * 4

    def examples(which: range) -> List[Example]:
        return [
            Example(
                number=i + 1,
                text=f"text {i + 1} {ATTACK}",
                label=names[labels[i]],
                answers=[names[answer] for answer in logits[:, i].argmax(-1)],
                confidences=confidences[:, i].tolist(),
                difficulty=0.1,
            )
            for i in which
        ]

    exits = compare_temperatures(logits, labels, EXIT_LAYERS, ones, TEMPERATURES)
    if is_combined:
        exits = with_combination(exits, apply_combination(logits, labels, COMBINATION))
    return TradeoffResults(
        origin={
            "archive": f"runs/{ATTACK}/model.tar.gz",
            "data": f"data/{ATTACK}.tsv",
            "command": f"allennlp tradeoff {ATTACK}",
            "created": "2020-07-05T00:00:00+00:00",
            "transformer_model": ATTACK,
            "labels": names,
            "num_layers": 4,
            "precision": "float32",
            "device": "cpu",
            "versions": {"sledgehammer_allennlp": ATTACK},
        },
        overrides={"model.precision": "int8"},
        curve=curve,
        classes=classes,
        exits=exits,
        bins_before=reliability(logits, labels, ones),
        bins_after=reliability(logits, labels, TEMPERATURES, COMBINATION if is_combined else None),
        points=[operating_point(curve, threshold) for threshold in shown],
        recommendations=recommendations,
        measurements={0.5: Measurement(0.5, 1.0, 200.0, 1.8, 0.7)},
        easiest=examples(range(5)),
        hardest=examples(range(5, 10)),
    )
