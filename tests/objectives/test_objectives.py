"""What each training objective minimises, and what gets gradients from it."""

import math

import pytest
import torch
import torch.nn.functional as F
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.objectives import Objective, Plan, TwoStage
from tests.models.test_multi_exit_classifier import LABELS, LENGTHS, make_model, tokens_of

NUM_EXITS = 4
OBJECTIVES = ["joint", "sampled", "weighted", "self_distillation", "two_stage", "alternating"]


def make_objective(settings) -> Objective:
    objective = Objective.from_params(Params({"o": settings})["o"])
    objective.start(2, 0, ["mean_exit_accuracy"])
    return objective


def random_logits(exits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(6, 3, generator=generator).requires_grad_() for k in exits}


def plain_cross_entropy(logits) -> float:
    """Written out."""
    total = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist()):
        total += math.log(sum(math.exp(x) for x in row)) - row[label]
    return total / len(LABELS)


def trained_parts(objective, tiny_bert, steps=1, **settings):
    """Which parts of a model got gradients after each step: the encoder's and the exits'."""
    model = make_model(tiny_bert, loss=objective, **settings).train()
    model.objective.start(2, 0, None)
    found = []
    for _ in range(steps):
        model.zero_grad(set_to_none=True)
        model(tokens_of(LENGTHS), LABELS)["loss"].backward()
        names = [name for name, p in model.named_parameters() if p.grad is not None]
        exits = {int(name.split(".")[2]) for name in names if name.startswith("exits.classifiers")}
        layers = {
            int(name.split(".")[4]) for name in names if name.startswith("encoder.transformer.enc")
        }
        embeddings = any(".embeddings." in name for name in names)
        found.append((embeddings, sorted(layers), sorted(exits)))
    return model, found


ALL_LAYERS = [0, 1, 2, 3]


@pytest.mark.parametrize("objective", ["joint", "weighted", "self_distillation"])
def test_all_exits_and_the_whole_transformer_learn(objective, tiny_bert):
    _, (found,) = trained_parts(objective, tiny_bert)
    assert found == (True, ALL_LAYERS, [0, 1, 2, 3])


def test_sampled_trains_one_exit_and_what_is_below_it(tiny_bert):
    torch.manual_seed(0)
    _, found = trained_parts("sampled", tiny_bert, steps=40)
    # The exits are before layer 0, and after layers 0, 2 and 3.
    possible = [
        (True, [], [0]),
        (True, [0], [1]),
        (True, [0, 1, 2], [2]),
        (True, ALL_LAYERS, [3]),
    ]
    assert sorted(set(map(str, found))) == sorted(map(str, possible))


def test_two_stage_trains_the_last_exit_then_the_others_with_the_transformer_frozen(tiny_bert):
    model, (found,) = trained_parts("two_stage", tiny_bert)
    assert found == (True, ALL_LAYERS, [3])
    model.objective.end_epoch()
    model.zero_grad(set_to_none=True)
    model(tokens_of(LENGTHS), LABELS)["loss"].backward()
    names = [name for name, p in model.named_parameters() if p.grad is not None]
    assert {name.split(".")[2] for name in names} == {"0", "1", "2"}
    assert all(name.startswith("exits.classifiers") for name in names)


def test_alternating_trains_the_last_exit_and_all_exits_in_turns(tiny_bert):
    _, found = trained_parts("alternating", tiny_bert, steps=4)
    last, everything = (True, ALL_LAYERS, [3]), (True, ALL_LAYERS, [0, 1, 2, 3])
    assert found == [last, everything, last, everything]


def test_with_self_distillation_the_last_exit_learns_nothing_from_the_others():
    # Its gradient is that of its own cross-entropy.
    logits = random_logits(range(3))
    make_objective("self_distillation").loss(logits, LABELS).backward()
    alone = logits[2].detach().requires_grad_()
    F.cross_entropy(alone, LABELS).backward()
    torch.testing.assert_close(logits[2].grad, alone.grad)
    own = logits[0].detach().requires_grad_()
    F.cross_entropy(own, LABELS).backward()
    assert not torch.allclose(logits[0].grad, own.grad, atol=1e-3)


@pytest.mark.parametrize("name", ["joint", "sampled", "two_stage", "alternating"])
def test_what_is_minimised_is_the_sum_of_the_exits_cross_entropies(name):
    logits = random_logits([1, 3])
    wanted = plain_cross_entropy(logits[1]) + plain_cross_entropy(logits[3])
    assert make_objective(name).loss(logits, LABELS).item() == pytest.approx(wanted, abs=1e-5)


def test_weighted_is_the_mean_with_weights_by_depth():
    logits = random_logits(range(3))
    first, second, third = (plain_cross_entropy(logits[k]) for k in range(3))
    wanted = (1 * first + 2 * second + 3 * third) / 6
    assert make_objective("weighted").loss(logits, LABELS).item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_self_distillation_adds_the_divergences_from_the_last_exit(weight):
    logits = random_logits(range(3))
    wanted = sum(plain_cross_entropy(logits[k]) for k in range(3))
    q = logits[2].softmax(-1)
    for k in range(2):
        # torch's order is the other way round: the divergence of the second from the first.
        wanted += weight * F.kl_div(q.log(), logits[k].softmax(-1), reduction="batchmean").item()
    objective = make_objective({"type": "self_distillation", "weight": weight})
    assert objective.loss(logits, LABELS).item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["joint", "weighted", "self_distillation", "alternating"])
def test_a_label_of_weight_two_counts_as_if_its_instances_were_there_twice(name):
    logits = random_logits(range(3))
    twice = torch.cat([torch.arange(6), (LABELS == 1).nonzero().squeeze(1)])
    assert 6 < len(twice) < 12
    repeated = {k: one[twice] for k, one in logits.items()}
    wanted = make_objective(name).loss(repeated, LABELS[twice]) * len(twice)
    objective = make_objective(name)
    objective.label_weights = torch.tensor([1.0, 2.0, 1.0])
    assert objective.loss(logits, LABELS).item() * 6 == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_every_objective_trains_with_an_exit_over_ngrams_and_heads(objective, pooling, tiny_bert):
    model = make_model(
        tiny_bert, loss=objective, pooling=pooling, embedding_exit="ngrams", confidence="learned"
    ).train()
    model.objective.start(2, 0, None)
    outputs = model(tokens_of(LENGTHS), LABELS)
    outputs["loss"].backward()
    assert torch.isfinite(outputs["loss"]) and outputs["probs"].shape == (6, 3)
    assert all(p.grad is None for p in model.exits.ngrams.parameters())


def test_training_metrics_are_of_the_exits_that_were_run(tiny_bert):
    model = make_model(tiny_bert, loss="two_stage").train()
    model.objective.start(2, 0, None)
    model(tokens_of(LENGTHS), LABELS)
    assert set(model.get_metrics(reset=True)) == {"accuracy", "macro_f1", "accuracy_layer_3"}
    model.objective.end_epoch()
    outputs = model(tokens_of(LENGTHS), LABELS)
    assert outputs["exit_layer"].tolist() == [2] * 6
    found = set(model.get_metrics(reset=True))
    assert found == {"accuracy_layer_-1", "accuracy_layer_0", "accuracy_layer_2"}


def test_the_heads_learn_whether_their_exits_are_right(tiny_bert):
    with_heads = make_model(tiny_bert, confidence="learned", dropout=0.0).train()
    with_heads.encoder.eval()
    plain = make_model(tiny_bert, dropout=0.0).train()
    plain.encoder.eval()
    plain.load_state_dict(with_heads.state_dict())  # without the heads
    tokens = tokens_of(LENGTHS)
    loss, plain_loss = (model(tokens, LABELS)["loss"] for model in (with_heads, plain))
    wanted = 0.0
    with_heads.eval()
    for scores in with_heads.all_exits(tokens):
        for row, label in enumerate(LABELS.tolist()):
            is_right = float(scores.logits[row].argmax() == label)
            wanted += (scores.correctness[row].item() - is_right) ** 2 / 6
    assert (loss - plain_loss).item() == pytest.approx(wanted, abs=1e-4)
    loss.backward(), plain_loss.backward()
    gradients = dict(plain.named_parameters())
    for name, parameter in with_heads.named_parameters():
        if ".correctness." not in name:
            torch.testing.assert_close(parameter.grad, gradients[name].grad)


def test_an_objective_of_ones_own_can_be_registered(tiny_bert):
    @Objective.register("first_only_for_a_test")
    class FirstOnly(Objective):
        def plan(self, num_exits: int) -> Plan:
            return Plan([0])

    try:
        _, (found,) = trained_parts("first_only_for_a_test", tiny_bert)
        assert found == (True, [], [0])
    finally:
        del Objective._registry[Objective]["first_only_for_a_test"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"type": "self_distillation", "weight": -1}, "weight is -1: wanted a number from 0"),
        ({"type": "self_distillation", "weight": "much"}, "weight is 'much'"),
        ({"type": "two_stage", "encoder_epochs": 0}, "encoder_epochs is 0: wanted a positive"),
        ({"type": "two_stage", "encoder_epochs": 1.5}, "encoder_epochs is 1.5"),
        ("jointly", r"jointly not in acceptable choices for type: \[.joint"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make_objective(settings)


def test_two_stage_refuses_what_would_leave_the_exits_untrained():
    with pytest.raises(ConfigurationError, match="1 epochs for its first stage, of num_epochs 1"):
        TwoStage().start(1, 0, None)
    with pytest.raises(ConfigurationError, match="3 epochs for its first stage, of num_epochs 3"):
        TwoStage(encoder_epochs=3).start(3, 0, None)
    for metrics in (["accuracy"], ["loss"], ["accuracy", "loss"]):
        with pytest.raises(ConfigurationError, match=r'wanted "\+mean_exit_accuracy"'):
            TwoStage().start(2, 0, metrics)
    TwoStage().start(2, 0, ["accuracy", "accuracy_layer_0"])
    with pytest.raises(ConfigurationError, match="wanted a callback of type 'objective_progress'"):
        TwoStage().plan(NUM_EXITS)


@pytest.mark.parametrize("num_epochs, encoder_epochs", [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_two_stage_by_default_gives_the_transformer_half_of_the_epochs(num_epochs, encoder_epochs):
    objective = TwoStage()
    objective.start(num_epochs, 0, None)
    plans = []
    for _ in range(num_epochs):
        plans.append(objective.plan(NUM_EXITS))
        objective.end_epoch()
    assert [plan.encoder_learns for plan in plans] == [
        epoch < encoder_epochs for epoch in range(num_epochs)
    ]
    resumed = TwoStage()
    resumed.start(num_epochs, encoder_epochs, None)
    assert not resumed.plan(NUM_EXITS).encoder_learns


def test_two_stage_says_so_when_the_weights_are_of_its_first_stage(caplog):
    objective = TwoStage()
    objective.start(4, 0, None)
    objective.end_epoch()
    objective.end_epoch()
    objective.end(best_epoch=None)
    assert "are of the first stage" in caplog.text
    caplog.clear()
    objective.end_epoch()
    objective.end(best_epoch=1)
    assert "are of the first stage" in caplog.text
    caplog.clear()
    objective.end(best_epoch=2)
    assert caplog.text == ""


def test_two_stage_and_previous_logits_are_refused_together(tiny_bert):
    with pytest.raises(ConfigurationError, match="with use_previous_logits it would change"):
        make_model(tiny_bert, loss="two_stage", use_previous_logits=True)
