"""What each exit would answer to one text: for the service's page."""

from typing import Any, Dict, List

import torch

from sledgehammer_allennlp.archives.archived_classifier import ArchivedClassifier
from sledgehammer_allennlp.engine import cost_of_exits, most_probable, run_early_exit
from sledgehammer_allennlp.serving.answerer import Texts


def answer_of_each_exit(classifier: ArchivedClassifier, texts: Texts) -> List[Dict[str, Any]]:
    """
    In the order in which a text comes to the exits: `exit_layer`, `label`, `confidence`, `probs`,
    and `layer_equivalents`, what it costs to exit there.
    """
    tokens = classifier.tokenize(texts[:1], list(texts[1:]) or None)
    if classifier.windows is not None:
        tokens = classifier.windows.first(tokens)
    exits, rule = classifier.exits, classifier.rule()
    last = torch.tensor([len(exits.exit_layers) - 1])
    with torch.no_grad():
        output = run_early_exit(classifier.encoder, exits, rule, tokens, forced_exits=last)
    scores = [record.scores_in_order() for record in output.exit_records]
    costs = cost_of_exits(classifier.encoder, exits)
    return [
        {
            "exit_layer": layer,
            "label": classifier.labels[int(most_probable(found.logits, found.probs))],
            "confidence": found.confidence.item(),
            "probs": found.probs[0].tolist(),
            "layer_equivalents": cost,
        }
        for layer, found, cost in zip(exits.exit_layers, rule.predict_at_each_exit(scores), costs)
    ]
