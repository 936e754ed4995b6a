"""Models with exits, and a plain computation of them that shares none of the engine's code."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.engine import EarlyExitOutput, ExitRule, run_early_exit, run_exits
from sledgehammer_allennlp.exits import ExitClassifiers
from sledgehammer_allennlp.exits.confidence import ConfidenceMeasure, max_probability
from tests.ngrams.ngram_reference import plain_ngram_logits, random_classifier
from tests.tiny import texts_of, tiny_transformer

NUM_LABELS = 3
TEMPERATURES = torch.tensor([0.7, 1.3, 0.9, 1.1, 0.8])


def rule(temperatures, function, threshold: float) -> ExitRule:
    return ExitRule(temperatures, ConfidenceMeasure(function), threshold)


@dataclass
class Case:
    """A model with exits, and the library's own model with the same weights."""

    encoder: LayeredEncoder
    exits: ExitClassifiers
    library: torch.nn.Module

    @property
    def temperatures(self) -> torch.Tensor:
        return TEMPERATURES[: len(self.exits.exit_layers)]

    def run(
        self,
        inputs,
        threshold: float,
        token_budget: Optional[int] = 64,
        temperatures: Optional[torch.Tensor] = None,
    ) -> EarlyExitOutput:
        return run_early_exit(
            self.encoder,
            self.exits,
            rule(
                self.temperatures if temperatures is None else temperatures,
                max_probability,
                threshold,
            ),
            texts_of(inputs),
            token_budget,
        )


cases: Dict[tuple, Case] = {}


def make_case(
    family: str,
    pooling: str,
    exit_layers: List[int],
    with_ngrams: bool = False,
    use_previous_logits: bool = False,
    with_correctness: bool = False,
) -> Case:
    with_ngrams = with_ngrams and exit_layers[0] == -1
    key = (family, pooling, with_ngrams, use_previous_logits, with_correctness, *exit_layers)
    if key not in cases:
        encoder = LayeredEncoder(
            tiny_transformer(family), exit_layers[-1] + 1, keep_pooler=pooling == "first"
        )
        torch.manual_seed(1)
        exits = ExitClassifiers(
            exit_layers,
            32,
            NUM_LABELS,
            pooling,
            0.1,
            add_pooler=pooling == "first" and not encoder.has_pooler,
            ngrams=random_classifier(NUM_LABELS) if with_ngrams else None,
            use_previous_logits=use_previous_logits,
            with_correctness=with_correctness,
        )
        with torch.no_grad():
            for name, parameter in exits.named_parameters():
                if name.endswith("mix.weights"):
                    parameter.uniform_(0.2, 2)
                elif name.endswith(("linear.weight", "correctness.weight")):
                    parameter.mul_(3)
        cases[key] = Case(encoder.eval(), exits.eval(), tiny_transformer(family))
    return cases[key]


def all_logits(case: Case, inputs) -> torch.Tensor:
    """`(num_exits, batch_size, num_labels)`, by the package's own pass through all exits."""
    scores = run_exits(case.encoder, case.exits, texts_of(inputs))
    return torch.stack([scores[k].logits for k in range(len(scores))])


def plain_logits(case: Case, token_ids, mask, type_ids) -> np.ndarray:
    """The logits of `plain_outputs`."""
    return plain_outputs(case, token_ids, mask, type_ids)[0]


@torch.no_grad()
def plain_outputs(case: Case, token_ids, mask, type_ids) -> Tuple[np.ndarray, np.ndarray]:
    """
    Every exit's logits, `(num_exits, batch_size, num_labels)`, and what its head says of its being
    right, `(num_exits, batch_size)`, NaN without a head: text by text, at full depth, by the
    library's own forward, and the exits' formula written out.
    """
    family = case.library.config.model_type
    state = {k: v.numpy() for k, v in case.exits.state_dict().items()}
    ngrams = case.exits.ngrams
    logits = np.zeros((len(case.exits.exit_layers), len(token_ids), NUM_LABELS))
    correctness = np.full(logits.shape[:2], np.nan)
    for row in range(len(token_ids)):
        length = int(mask[row].sum())
        inputs = {"input_ids": token_ids[row : row + 1, :length]}
        if family in ("bert", "electra", "albert"):
            inputs["token_type_ids"] = type_ids[row : row + 1, :length]
        hidden = case.library(**inputs, output_hidden_states=True).hidden_states
        hidden = [h[0].numpy() for h in hidden]  # h_-1 is hidden[0]
        means = [h.mean(0) for h in hidden]
        firsts = [h[0] for h in hidden[1:]]
        for k, layer in enumerate(case.exits.exit_layers):
            prefix = f"classifiers.{k}"
            if layer == -1 and ngrams is not None:
                words = token_ids[row, :length].tolist()
                logits[k, row] = plain_ngram_logits(ngrams, [words])[0]
                continue
            if layer == -1:
                features = means[0]
            elif case.exits.pooling == "mean":
                features = np.concatenate(
                    [_mixed(state, prefix, means[: layer + 1]), firsts[layer]]
                )
            else:
                pooled = [_pooled(case, state, first) for first in firsts[: layer + 1]]
                features = _mixed(state, prefix, pooled)
            if f"{prefix}.norm.weight" in state:
                features = (features - features.mean()) / np.sqrt(features.var() + 1e-5)
                features = features * state[f"{prefix}.norm.weight"] + state[f"{prefix}.norm.bias"]
            if case.exits.use_previous_logits:
                features = np.concatenate([features, *logits[:k, row]])
            logits[k, row] = state[f"{prefix}.linear.weight"] @ features
            logits[k, row] += state[f"{prefix}.linear.bias"]
            if case.exits.with_correctness:
                score = state[f"{prefix}.correctness.weight"] @ features
                score = score.item() + state[f"{prefix}.correctness.bias"].item()
                correctness[k, row] = 1 / (1 + np.exp(-score))
    return logits, correctness


def _mixed(state, prefix: str, vectors) -> np.ndarray:
    mix: Optional[np.ndarray] = state.get(f"{prefix}.mix.weights")
    if mix is None:
        assert len(vectors) == 1
        return vectors[0]
    assert len(mix) == len(vectors)
    return (mix / np.sqrt((mix**2).sum())) @ np.stack(vectors)


def _pooled(case: Case, state, first: np.ndarray) -> np.ndarray:
    if "pooler.0.weight" in state:
        return np.tanh(state["pooler.0.weight"] @ first + state["pooler.0.bias"])
    pooler = case.library.pooler
    dense = getattr(pooler, "dense", pooler)
    return np.tanh(dense.weight.numpy() @ first + dense.bias.numpy())


def plain_rule(logits: np.ndarray, temperatures: np.ndarray, threshold: float):
    """Probabilities and exits: each instance exits at the first exit that is confident enough."""
    scaled = np.exp(logits / temperatures[:, None, None])
    probs = scaled / scaled.sum(-1, keepdims=True)  # (exits, batch, labels)
    exits = []
    for row in range(logits.shape[1]):
        k = 0
        while k < len(logits) - 1 and (threshold == 1 or probs[k, row].max() < threshold):
            k += 1
        exits.append(k)
    return probs, np.array(exits)


def plain_combined(logits: np.ndarray, combination) -> np.ndarray:
    """Σ_j w_kj · (l_j - mean l_j), number by number; an earlier exit's NaNs count as nothing."""
    combined = np.zeros(logits.shape)
    for k, row, label in np.ndindex(*logits.shape):
        for j in range(k + 1):
            own = [float(x) for x in logits[j, row]]
            if j == k or not np.isnan(own).any():
                combined[k, row, label] += combination[k][j] * (own[label] - sum(own) / len(own))
    return combined


@st.composite
def combinations(draw, num_exits: int):
    """Weights of exits, some of them 0, at least one in a row not."""
    number = st.just(0.0) | st.floats(0.05, 2)
    rows = []
    for k in range(num_exits):
        row = draw(st.lists(number, min_size=k + 1, max_size=k + 1).filter(any))
        rows.append(row + [0.0] * (num_exits - k - 1))
    return rows


def assert_equals_plain(
    case: Case, inputs, output: EarlyExitOutput, threshold: float, temperatures: torch.Tensor
) -> None:
    logits = plain_logits(case, *inputs)
    probs, exits = plain_rule(logits, temperatures.numpy(), threshold)
    # A confidence within rounding of the threshold may fall on either side.
    assume(np.abs(probs.max(-1) - threshold).min() > 1e-4 or threshold in (0, 1))
    rows = np.arange(len(exits))
    assert output.exit_index.tolist() == exits.tolist()
    np.testing.assert_allclose(output.probs.detach().numpy(), probs[exits, rows], atol=1e-5)
    np.testing.assert_allclose(output.logits.detach().numpy(), logits[exits, rows], atol=1e-4)
    np.testing.assert_allclose(
        output.confidence.detach().numpy(), probs[exits, rows].max(-1), atol=1e-5
    )


exit_layer_lists = st.sets(st.integers(-1, 3), min_size=1).map(sorted).filter(lambda x: x != [-1])
length_lists = st.lists(st.integers(1, 20), min_size=1, max_size=9)
thresholds = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.3, 1.0))
# Of one text at a time; that cut batches and let few texts wait; of everything at once.
token_budgets = st.sampled_from([1, 12, 30, 64, None])
