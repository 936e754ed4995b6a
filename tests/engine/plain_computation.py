"""Models with exits, and a plain computation of them that shares none of the engine's code."""

import math
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
from sledgehammer_allennlp.exits.pair_texts import SpecialTokens
from tests.ngrams.ngram_reference import plain_ngram_logits, random_classifier
from tests.tiny import library_hidden_states, texts_of, tiny_transformer

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
    last_exit: Optional[str] = None

    @property
    def temperatures(self) -> torch.Tensor:
        return TEMPERATURES[: len(self.exits.exit_layers)]

    def run(
        self,
        inputs,
        threshold: float,
        token_budget: Optional[int] = 64,
        temperatures: Optional[torch.Tensor] = None,
        runtime: str = "torch",
    ) -> EarlyExitOutput:
        self.encoder.runtime = runtime
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
    alignment: Optional[int] = None,
    special_tokens: Optional[SpecialTokens] = None,
    last_exit: Optional[str] = None,
    token_features: Optional[int] = None,
) -> Case:
    with_ngrams = with_ngrams and exit_layers[0] == -1
    key = (family, pooling, with_ngrams, use_previous_logits, with_correctness, *exit_layers)
    key = (*key, alignment, special_tokens, last_exit, token_features)
    if key not in cases:
        encoder = LayeredEncoder(
            tiny_transformer(family),
            exit_layers[-1] + 1,
            keep_pooler=pooling == "first",
            runtime="torch",
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
            alignment=alignment,
            last_exit=last_exit,
            token_features=token_features,
        )
        if special_tokens is not None:
            exits.pair_texts.set_special_tokens(special_tokens)
        with torch.no_grad():
            for name, parameter in exits.named_parameters():
                if name.endswith("mix.weights"):
                    parameter.uniform_(0.2, 2)
                elif name.endswith(("linear.weight", "correctness.weight")):
                    parameter.mul_(3)
                elif (alignment or token_features) and "norm" in name:
                    parameter.uniform_(0.2, 2)
        cases[key] = Case(encoder.eval(), exits.eval(), tiny_transformer(family), last_exit)
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
    state = {k: v.numpy() for k, v in case.exits.state_dict().items()}
    ngrams = case.exits.ngrams
    logits = np.zeros((len(case.exits.exit_layers), len(token_ids), NUM_LABELS))
    correctness = np.full(logits.shape[:2], np.nan)
    for row in range(len(token_ids)):
        length = int(mask[row].sum())
        inputs = (x[row : row + 1, :length] for x in (token_ids, mask, type_ids))
        hidden = library_hidden_states(case.library, *inputs)
        if case.library.config.model_type == "modernbert":
            hidden = [case.library.final_norm(h) for h in hidden]
        hidden = [h[0].numpy() for h in hidden]  # h_-1 is hidden[0]
        sides = plain_sides(case.exits, token_ids[row, :length].tolist(), type_ids[row].tolist())
        means = [h.mean(0) for h in hidden]
        firsts = [h[0] for h in hidden[1:]]
        for k, layer in enumerate(case.exits.exit_layers):
            prefix = f"classifiers.{k}"
            if layer == -1 and ngrams is not None:
                words = token_ids[row, :length].tolist()
                logits[k, row] = plain_ngram_logits(ngrams, [words])[0]
                continue
            sees_first_alone = (
                case.exits.pooling == "mean" and case.last_exit and k == len(logits) - 1
            )
            has_token_features = case.exits.token_features and not sees_first_alone
            if layer == -1:
                features = means[0]
            elif sees_first_alone:
                features = firsts[layer]
            elif case.exits.pooling == "mean":
                features = np.concatenate(
                    [_mixed(state, prefix, means[: layer + 1]), firsts[layer]]
                )
            else:
                pooled = [_pooled(case, state, first) for first in firsts[: layer + 1]]
                features = _mixed(state, prefix, pooled)
            if case.exits.alignment is not None:
                entering = hidden[max(layer, 0)]
                aligned = _aligned(state, f"{prefix}.alignment", entering, sides)
                features = np.concatenate([features, aligned])
            if has_token_features:
                project = f"{prefix}.token_features.project"
                of_tokens = [
                    np.maximum(_linear(state, project, h), 0) for h in hidden[max(layer, 0)]
                ]
                features = np.concatenate(
                    [features, np.mean(of_tokens, axis=0), np.max(of_tokens, axis=0)]
                )
            if f"{prefix}.norm.weight" in state:
                features = _normalized(state, f"{prefix}.norm", features)
            if case.exits.use_previous_logits:
                features = np.concatenate([features, *logits[:k, row]])
            if case.exits.alignment is not None or has_token_features:
                features = _linear(state, f"{prefix}.hidden.0", features)
                features = np.array([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in features])
            logits[k, row] = _linear(state, f"{prefix}.linear", features)
            if case.exits.with_correctness:
                score = _linear(state, f"{prefix}.correctness", features).item()
                correctness[k, row] = 1 / (1 + np.exp(-score))
    return logits, correctness


def plain_sides(exits: ExitClassifiers, token_ids: List[int], type_ids: List[int]) -> List[int]:
    """In which text of its pair each token is, 1 or 2; 0 for special tokens."""
    if exits.pair_texts is None:
        return []
    first, separator, num_between, has_type_ids = exits.pair_texts.special_tokens.tolist()
    second_from = len(token_ids)
    for i in range(len(token_ids) - num_between):
        if token_ids[i : i + num_between] == [separator] * num_between:
            second_from = i + num_between
            break
    sides = []
    for i, (token, type_id) in enumerate(zip(token_ids, type_ids)):
        is_second = type_id > 0 if has_type_ids else i >= second_from
        sides.append(0 if token in (first, separator) else 2 if is_second else 1)
    return sides


def _aligned(state, prefix: str, hidden: np.ndarray, sides: List[int]) -> np.ndarray:
    """Mean and maximum of the first text's comparisons, then of the second's."""
    z = [
        _linear(state, f"{prefix}.project", _normalized(state, f"{prefix}.norm", h)) for h in hidden
    ]
    size = len(z[0])
    found = []
    for side in (1, 2):
        others = [z[j] for j in range(len(sides)) if sides[j] == 3 - side]
        compared = []
        for i in range(len(sides)):
            if sides[i] == side:
                weights = [math.exp(state[f"{prefix}.scale"] * (z[i] @ o) / size) for o in others]
                matched = sum((w * o for w, o in zip(weights, others)), np.zeros(size))
                matched = matched / sum(weights) if weights else matched
                inputs = np.concatenate([z[i], z[i] - matched, z[i] * matched])
                compared.append(np.maximum(_linear(state, f"{prefix}.compare", inputs), 0))
        found.append(np.mean(compared, axis=0) if compared else np.zeros(size))
        found.append(np.max(compared, axis=0) if compared else np.zeros(size))
    return np.concatenate(found)


def _linear(state, prefix: str, x: np.ndarray) -> np.ndarray:
    return state[f"{prefix}.weight"] @ x + state[f"{prefix}.bias"]


def _normalized(state, prefix: str, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * state[f"{prefix}.weight"] + state[f"{prefix}.bias"]


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


@torch.no_grad()
def assert_training_pass_equals_plain(case: Case, inputs) -> None:
    """Of exits with heads."""
    scores = run_exits(case.encoder, case.exits, texts_of(inputs))
    logits, correctness = plain_outputs(case, *inputs)
    for k in range(len(scores)):
        np.testing.assert_allclose(scores[k].logits.numpy(), logits[k], atol=1e-4)
        np.testing.assert_allclose(scores[k].correctness.numpy(), correctness[k], atol=1e-5)


def assume_confidences_are_not_at(threshold: float, case: Case, inputs) -> None:
    """None may be within rounding of the threshold, where it may fall on either side."""
    logits = plain_logits(case, *inputs)
    confidences = torch.tensor(logits / case.temperatures.numpy()[:, None, None]).softmax(-1)
    distance = (confidences.amax(-1) - threshold).abs().min()
    assume(float(distance) > 1e-4 or threshold in (0, 1))


def assert_can_be_cast(case: Case, inputs, dtype: torch.dtype, with_gradients: bool) -> None:
    """Casts the case, which is to be a copy."""
    with torch.set_grad_enabled(with_gradients):
        wanted = all_logits(case, inputs)
        case.encoder.to(dtype)
        case.exits.to(dtype)
        found = all_logits(case, inputs)
    assert found.dtype == dtype
    difference = (found.double() - wanted.double()).abs().max()
    assert difference < (0.5 if dtype == torch.bfloat16 else 1e-4)


def assert_autocast_is_respected(case: Case, inputs, with_gradients: bool) -> None:
    with torch.set_grad_enabled(with_gradients):
        wanted = all_logits(case, inputs).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            found = all_logits(case, inputs).softmax(-1)
    assert 0 < (found - wanted).abs().max() < 0.2


exit_layer_lists = st.sets(st.integers(-1, 3), min_size=1).map(sorted).filter(lambda x: x != [-1])
length_lists = st.lists(st.integers(1, 20), min_size=1, max_size=9)
last_exits = st.sampled_from([None, "first_token"])
thresholds = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.3, 1.0))
# Of one text at a time; that cut batches and let few texts wait; of everything at once.
token_budgets = st.sampled_from([1, 12, 30, 64, None])
