import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.testing import ModelTestCase
from allennlp.data import Vocabulary
from allennlp.models import Model, load_archive
from allennlp.predictors import Predictor

from sledgehammer_allennlp.models import MultiExitClassifier
from tests.tiny import PRECISIONS_OF_CPUS, random_inputs, tiny_experiment, tiny_transformer

EXITS = [-1, 0, 2, 3]


def make_model(
    transformer_model, labels=("neg", "pos", "so-so"), **settings
) -> MultiExitClassifier:
    vocab = Vocabulary()
    for label in labels:
        vocab.add_token_to_namespace(label, settings.get("label_namespace", "labels"))
    torch.manual_seed(3)
    params = {
        "type": "multi_exit_classifier",
        "transformer_model": str(transformer_model),
        "exit_layers": [0, 2, 3],
        "embedding_exit": "mean",
        **settings,
    }
    return Model.from_params(Params(params), vocab=vocab)


@pytest.fixture
def model(tiny_bert):
    return make_model(tiny_bert).eval()


def tokens_of(lengths, seed=0):
    token_ids, mask, type_ids = random_inputs(lengths, vocab_size=40, seed=seed)
    return {"tokens": {"token_ids": token_ids, "mask": mask, "type_ids": type_ids}}


LENGTHS = [3, 9, 5, 7, 4, 8]
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class TestTrainSaveLoad(ModelTestCase):
    @pytest.fixture(autouse=True)
    def _fixtures(self, request, tmp_path):
        self.folder = tmp_path
        self.request = request

    def _param_file(self, pretrained: str, **settings) -> Path:
        tsv = self.request.getfixturevalue("tsv")
        config = tiny_experiment(str(self.request.getfixturevalue(pretrained)), tsv, **settings)
        path = self.folder / "config.json"
        Params(config).to_file(str(path))
        return path

    @pytest.mark.parametrize("pretrained", ["tiny_bert", "tiny_roberta"])
    @pytest.mark.parametrize("pooling", ["mean", "first"])
    def test_model_can_train_save_and_load(self, pretrained, pooling):
        path = self._param_file(pretrained, pooling=pooling)
        self.ensure_model_can_train_save_and_load(path, tolerance=1e-3)

    def test_an_exit_over_ngrams(self):
        path = self._param_file("tiny_bert", embedding_exit={"type": "ngrams", "max_n": 3})
        self.ensure_model_can_train_save_and_load(path, tolerance=1e-3)

    @pytest.mark.parametrize(
        "pretrained, pooling", [("tiny_bert", "mean"), ("tiny_roberta", "first")]
    )
    def test_an_alignment(self, pretrained, pooling):
        path = self._param_file(pretrained, pooling=pooling, alignment=4)
        pairs = self.request.getfixturevalue("tsv")["pairs"]
        config = Params.from_file(str(path)).as_dict()
        config.update(train_data_path=pairs, validation_data_path=pairs)
        Params(config).to_file(str(path))
        self.ensure_model_can_train_save_and_load(path, tolerance=1e-3)

    @pytest.mark.parametrize(
        "token_features, last_exit", [(None, None), (4, None), (4, "first_token")]
    )
    def test_what_exits_see(self, token_features, last_exit):
        path = self._param_file("tiny_bert", token_features=token_features, last_exit=last_exit)
        self.ensure_model_can_train_save_and_load(path, tolerance=1e-3)

    def test_exits_before_the_last_layer_only(self):
        path = self._param_file("tiny_bert", exit_layers=[1], embedding_exit=None)
        self.ensure_model_can_train_save_and_load(path, tolerance=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_every_family_trains_all_its_parameters(family, pooling, tmp_path):
    tiny_transformer(family).save_pretrained(tmp_path)
    model = make_model(tmp_path, pooling=pooling).train()
    model(tokens_of(LENGTHS), LABELS)["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_training_loss_is_the_sum_of_the_exits_cross_entropies(model):
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.encoder.eval()
    logits = model.all_exit_logits(tokens_of(LENGTHS)).detach().numpy().astype(np.float64)
    wanted = 0.0
    for exit_logits in logits:
        log_probs = exit_logits - np.log(np.exp(exit_logits).sum(-1, keepdims=True))
        wanted -= log_probs[np.arange(6), LABELS].mean()
    assert model(tokens_of(LENGTHS), LABELS)["loss"].item() == pytest.approx(wanted, abs=1e-5)


def test_an_exit_over_ngrams_has_no_part_in_the_training_loss(tiny_bert):
    model = make_model(tiny_bert, embedding_exit="ngrams", dropout=0.0).train()
    model.encoder.eval()
    tokens = tokens_of(LENGTHS)
    before = model(tokens, LABELS)["loss"]
    ngrams = model.exits.ngrams
    ngrams.set_fitted(torch.rand_like(ngrams.table), torch.tensor([5.0, 0.0, 0.0]))
    logits = model.all_exit_logits(tokens)
    assert logits[0].argmax(-1).tolist() == [0] * 6
    wanted = sum(
        torch.nn.functional.cross_entropy(exit_logits, LABELS) for exit_logits in logits[1:]
    )
    loss = model(tokens, LABELS)["loss"]
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert torch.equal(loss, before)
    loss.backward()
    untrained = {name for name, p in model.named_parameters() if p.grad is None}
    assert untrained == {"exits.classifiers.0.table", "exits.classifiers.0.bias"}


def test_temperatures_never_change_training(model):
    model.train()
    model.exits.eval(), model.encoder.eval()
    before = model(tokens_of(LENGTHS), LABELS)["loss"]
    model.temperatures.copy_(torch.tensor([3.0, 0.1, 7.0, 0.5]))
    assert torch.equal(model(tokens_of(LENGTHS), LABELS)["loss"], before)


def test_the_evaluation_loss_is_that_of_the_answers_given(model):
    model.temperatures.copy_(torch.tensor([0.4, 0.5, 0.3, 0.6]))
    model.confidence_threshold = 0.6
    output = model(tokens_of(LENGTHS), LABELS)
    given = output["probs"][torch.arange(6), LABELS]
    assert output["loss"].item() == pytest.approx(-given.log().mean().item(), abs=1e-5)
    assert "loss" not in model(tokens_of(LENGTHS))


COMBINATION = [[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0.5, 2, 0], [1, 0, 1, 1]]


def combined_logits(model, tokens):
    """Each exit's calibrated logits, written out."""
    logits = model.all_exit_logits(tokens).detach()
    centred = logits - logits.mean(-1, keepdim=True)
    return torch.einsum("kj,jbl->kbl", torch.tensor(COMBINATION, dtype=torch.float32), centred)


@pytest.mark.parametrize("ensemble", [None, "reached"])
def test_a_combined_model_answers_by_its_combination(tiny_bert, ensemble):
    model = make_model(tiny_bert, ensemble=ensemble).eval()
    model.combination.weights = COMBINATION
    calibrated = combined_logits(model, tokens_of(LENGTHS))
    probs = calibrated.softmax(-1)
    if ensemble is not None:
        probs = probs.cumsum(0) / torch.arange(1, 5)[:, None, None]
        calibrated = probs.log()
    confidences = probs.max(-1).values  # (exits, texts)
    model.confidence_threshold = float(confidences[0].sort().values[2:4].mean())
    exits = (confidences >= model.confidence_threshold).long()
    exits[-1] = 1
    output = model(tokens_of(LENGTHS), LABELS)
    left = [EXITS.index(layer) for layer in output["exit_layer"].tolist()]
    assert left == exits.argmax(0).tolist() and left.count(0) == 3
    torch.testing.assert_close(output["probs"], probs[left, range(6)], atol=1e-5, rtol=0)
    torch.testing.assert_close(output["logits"], calibrated[left, range(6)], atol=1e-4, rtol=1e-4)
    wanted = -probs[left, range(6), LABELS].log().mean().item()
    assert output["loss"].item() == pytest.approx(wanted, abs=1e-5)


def test_a_combination_never_changes_training(model):
    model.train()
    model.exits.eval(), model.encoder.eval()
    before = model(tokens_of(LENGTHS), LABELS)
    model.combination.weights = COMBINATION
    after = model(tokens_of(LENGTHS), LABELS)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_combined_models_metrics_are_of_its_predictions(model):
    model.combination.weights = COMBINATION
    batches = [(tokens_of(LENGTHS, seed=s), LABELS.roll(s)) for s in range(4)]
    for tokens, labels in batches:
        model(tokens, labels)
    metrics = model.get_metrics(reset=True)
    right = [combined_logits(model, tokens).argmax(-1) == labels for tokens, labels in batches]
    accuracies = torch.cat(right, dim=1).float().mean(1).tolist()
    assert [metrics[f"accuracy_layer_{layer}"] for layer in EXITS] == pytest.approx(accuracies)
    assert metrics["accuracy"] == pytest.approx(accuracies[-1])


def test_answers_agree_with_each_other(model):
    model.temperatures.copy_(torch.tensor([0.4, 0.5, 0.3, 0.6]))
    model.confidence_threshold = 0.0
    # So that some texts leave at the first exit and some do not, whatever the random weights.
    model.confidence_threshold = model(tokens_of(LENGTHS))["confidence"].median().item()
    output = model.make_output_human_readable(model(tokens_of(LENGTHS)))
    assert set(output) == {"logits", "probs", "confidence", "exit_layer", "label"}
    left = output["exit_layer"].tolist()
    assert len(set(left)) > 1 and set(left) <= set(EXITS)
    temperatures = model.temperatures[[EXITS.index(layer) for layer in left]]
    wanted = (output["logits"] / temperatures.unsqueeze(1)).softmax(-1)
    torch.testing.assert_close(output["probs"], wanted)
    torch.testing.assert_close(output["confidence"], wanted.max(-1).values)
    names = ["neg", "pos", "so-so"]
    assert output["label"] == [names[i] for i in wanted.argmax(-1)]


def metrics_by_hand(model, batches, threshold):
    """The metrics of the contract, written out from every exit's logits, text by text."""
    costs = [0.0, 0.25, 2.25, 3.25]  # 64 is twice the hidden size: 2 of 8 products are the first's
    right, pairs, layers, spent, reached = [], [], [], [], [0] * 4
    right_at = [0] * 4
    for tokens, labels in batches:
        logits = model.all_exit_logits(tokens).detach()
        probs = (logits / model.temperatures[:, None, None]).softmax(-1)
        for row, label in enumerate(labels.tolist()):
            for k in range(4):
                answer = probs[k, row]
                reached[k] += 1
                right_at[k] += int(answer.argmax() == label)
                if k == 3 or (threshold < 1 and answer.max() >= threshold):
                    break
            right.append(int(answer.argmax() == label))
            pairs.append((label, int(answer.argmax())))
            layers.append(EXITS[k])
            spent.append(costs[k])
    f1 = []
    for one in {label for pair in pairs for label in pair}:
        both = sum(pair == (one, one) for pair in pairs)
        f1.append(2 * both / sum(pair.count(one) for pair in pairs))
    wanted = {
        "accuracy": np.mean(right),
        "macro_f1": np.mean(f1),
        "average_exit_layer": np.mean(layers),
        "layer_equivalents": np.mean(spent),
    }
    for k, layer in enumerate(EXITS):
        wanted[f"exit_rate_layer_{layer}"] = layers.count(layer) / len(layers)
        if reached[k] == len(layers):
            wanted[f"accuracy_layer_{layer}"] = right_at[k] / reached[k]
    if min(reached) == len(layers):
        wanted["mean_exit_accuracy"] = np.mean([r / len(layers) for r in right_at])
    return wanted


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.0])
def test_metrics_equal_those_counted_by_hand_and_reset(model, threshold):
    model.temperatures.copy_(torch.tensor([0.4, 0.5, 0.3, 0.6]))
    model.confidence_threshold = threshold
    assert model.get_metrics() == {}
    model(tokens_of(LENGTHS, seed=9), LABELS)
    assert model.get_metrics(reset=True)["accuracy"] <= 1
    batches = [(tokens_of(LENGTHS, seed=s), LABELS.roll(s)) for s in range(4)]
    batches.append((tokens_of([4]), torch.tensor([1])))
    for tokens, labels in batches:
        model(tokens, labels)
    found = model.get_metrics(reset=True)
    assert found == pytest.approx(metrics_by_hand(model, batches, threshold))
    assert model.get_metrics() == {}


def test_in_training_metrics_are_the_accuracies_of_the_exits(model):
    model.train()
    model(tokens_of(LENGTHS), LABELS)
    metrics = model.get_metrics()
    of_exits = {f"accuracy_layer_{layer}" for layer in EXITS}
    assert set(metrics) == {"accuracy", "macro_f1", "mean_exit_accuracy", *of_exits}
    assert metrics["accuracy"] == metrics["accuracy_layer_3"]


def test_exits_may_be_all_layers(tiny_bert):
    assert make_model(tiny_bert, exit_layers="all").exit_layers == [-1, 0, 1, 2, 3]
    assert make_model(tiny_bert, exit_layers="all", embedding_exit=None).exit_layers == [0, 1, 2, 3]


def test_num_labels_may_be_more_than_the_vocabulary_has(tiny_bert):
    model = make_model(tiny_bert, num_labels=5).eval()
    output = model.make_output_human_readable(model(tokens_of(LENGTHS)))
    assert output["probs"].shape == (6, 5)


@pytest.mark.parametrize(
    "exit_layers, message",
    [
        ([], r"\[\] is empty"),
        ([2, 0], r"\[2, 0\] is not ascending"),
        ([0, 0, 1], r"\[0, 0, 1\] has a layer twice"),
        ([-1, 2], r"\[-1, 2\] has a negative layer"),
        ([0, 4], r"\[0, 4\] has layer 4, and the model has 4 layers"),
        ([0, 1.5], r"\[0, 1.5\] has something that is not an integer"),
        ([0, True], "not an integer"),
        ("some", "exit_layers is 'some'"),
        (3, "exit_layers is 3"),
    ],
)
def test_bad_exit_layers_are_refused(tiny_bert, exit_layers, message):
    with pytest.raises(ConfigurationError, match=f'{message}.*wanted "all" or .* from 0 to 3'):
        make_model(tiny_bert, exit_layers=exit_layers)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, math.nan, math.inf, "high", True, [0.9]])
def test_a_bad_threshold_is_refused_in_configs_and_when_set(tiny_bert, model, threshold):
    message = r"confidence_threshold is .*: wanted a number from 0 to 1"
    with pytest.raises(ConfigurationError, match=message):
        model.confidence_threshold = threshold
    assert model.confidence_threshold == 1.0
    if threshold is not None:  # null in a config means the default
        with pytest.raises(ConfigurationError, match=message):
            make_model(tiny_bert, confidence_threshold=threshold)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pooling": "max"}, "pooling is 'max': wanted one of mean, first"),
        ({"last_exit": "mean"}, "last_exit is 'mean': wanted 'first_token' or null"),
        ({"embedding_exit": "sum"}, "embedding_exit is 'sum': wanted one of mean, ngrams"),
        ({"embedding_exit": 3}, "embedding_exit is 3: wanted one of mean, ngrams"),
        ({"embedding_exit": {"max_n": 3}}, "embedding_exit is {'max_n': 3}: wanted one of"),
        ({"embedding_exit": {"type": ["ngrams"]}}, "embedding_exit is {'type': .*: wanted one of"),
        ({"embedding_exit": {"type": "sum"}}, "embedding_exit is {'type': 'sum'}: wanted one of"),
        ({"embedding_exit": {"type": "mean", "max_n": 2}}, "'max_n': wanted none"),
        (
            {"embedding_exit": {"type": "ngrams", "n": 2}},
            "'n': wanted one of max_n, num_buckets, pairs",
        ),
        ({"embedding_exit": {"type": "ngrams", "max_n": 0}}, "max_n is 0: wanted an integer"),
        ({"embedding_exit": {"type": "ngrams", "pairs": 1}}, "pairs is 1: wanted true or false"),
        (
            {"embedding_exit": {"type": "ngrams", "num_buckets": 1000}},
            "num_buckets is 1000: wanted a power of two",
        ),
        (
            {"confidence": "sureness"},
            "confidence is 'sureness': wanted one of entropy, learned, margin",
        ),
        ({"dropout": 1.5}, "dropout is 1.5: wanted a number from 0 to 1"),
        ({"label_namespace": "classes"}, "label_namespace is 'classes', in which"),
        ({"num_labels": 2}, "num_labels is 2, and the vocabulary has 3"),
        ({"labels": ()}, "num_labels is 0, and the vocabulary has 0"),
        ({"transformer_model": "/no/such/folder"}, "transformer_model '/no/such/folder'"),
    ],
)
def test_other_bad_settings_are_refused(tiny_bert, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make_model(**{"transformer_model": tiny_bert, **settings})


def test_tokens_of_another_indexer_are_refused(model):
    with pytest.raises(ConfigurationError, match="one token indexer of type 'pretrained_transf"):
        model({"tokens": {"tokens": torch.ones(1, 3, dtype=torch.long)}})


def test_the_archive_loads_and_predicts_without_the_pretrained_model(trained):
    # The fixture has moved the pretrained folder away, and the hub is off.
    archive = load_archive(trained["archive"])
    loaded, wanted = archive.model.state_dict(), trained["model"].state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)
    instance = archive.dataset_reader.text_to_instance("the film was good")
    archive.dataset_reader.apply_token_indexers(instance)
    found = archive.model.eval().forward_on_instance(instance)
    assert found["label"] in ("pos", "neg")
    wanted = trained["model"].eval().forward_on_instance(instance)
    np.testing.assert_allclose(found["probs"], wanted["probs"], atol=1e-6)


def test_loading_an_archive_reads_no_pretrained_weights(trained, monkeypatch):
    import transformers

    def refuse(*args, **kwargs):
        raise AssertionError("pretrained weights were read")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", refuse)
    load_archive(trained["archive"])


def test_the_threshold_is_one_override(trained):
    archive = load_archive(trained["archive"], overrides='{"model.confidence_threshold": 0.75}')
    assert archive.model.confidence_threshold == 0.75
    with pytest.raises(ConfigurationError, match="confidence_threshold is 1.5"):
        load_archive(trained["archive"], overrides={"model.confidence_threshold": 1.5})


def test_fine_tuning_from_an_archive_needs_no_pretrained_model(trained):
    vocab = Vocabulary.from_files(str(trained["run"] / "vocabulary"))
    params = Params({"type": "from_archive", "archive_file": trained["archive"]})
    assert isinstance(Model.from_params(params, vocab=vocab), MultiExitClassifier)


@pytest.mark.parametrize("precision", PRECISIONS_OF_CPUS[1:])
def test_the_precision_is_one_override(trained, precision):
    archive = load_archive(trained["archive"], overrides={"model.precision": precision})
    exact = load_archive(trained["archive"])
    answers = [
        Predictor.from_archive(each).predict("the film was very good") for each in (archive, exact)
    ]
    assert answers[0]["label"] == answers[1]["label"]
    assert answers[0]["probs"] == pytest.approx(answers[1]["probs"], abs=0.1)
    assert answers[0]["probs"] != answers[1]["probs"]
    weights = zip(archive.model.state_dict().values(), exact.model.state_dict().values())
    assert all(torch.equal(*pair) for pair in weights)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"precision": "int4"}, "precision is 'int4': wanted one of float32, bfloat16"),
        ({"token_budget": 0}, "token_budget is 0: wanted a positive integer"),
        ({"token_budget": "all"}, "token_budget is 'all': wanted a positive integer"),
    ],
)
def test_a_bad_setting_of_inference_is_refused(tiny_bert, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make_model(tiny_bert, **settings)


def test_a_precision_that_the_device_has_not_is_refused(trained):
    predictor = Predictor.from_path(trained["archive"], overrides={"model.precision": "float16"})
    with pytest.raises(ConfigurationError, match="'float16', which needs a GPU"):
        predictor.predict("good")


def test_the_token_budget_changes_no_answer(trained):
    texts = [{"sentence": "the film was good " * (i % 4)} for i in range(20)]
    answers = []
    for token_budget in (1, 40, 100000):
        overrides = {"model.token_budget": token_budget, "model.confidence_threshold": 0.7}
        predictor = Predictor.from_path(trained["archive"], overrides=overrides)
        answers.append(predictor.predict_batch_json(texts))
    for answer in answers[1:]:
        assert [a["exit_layer"] for a in answer] == [a["exit_layer"] for a in answers[0]]
        for found, wanted in zip(answer, answers[0]):
            assert found["probs"] == pytest.approx(wanted["probs"], abs=1e-5)


def test_weights_from_before_there_was_a_default_threshold_load(model):
    weights = model.state_dict()
    del weights["exits._extra_state"]
    model.exits.default_threshold = 0.5
    model.load_state_dict(weights)
    assert model.confidence_threshold == 1


def test_weights_from_before_there_were_combinations_load(model):
    weights = model.state_dict()
    del weights["combination._extra_state"]
    model.combination.weights = COMBINATION
    model.load_state_dict(weights)
    assert model.combination.weights is None


def test_the_default_threshold_is_among_the_weights_and_stays_as_it_is(model, tiny_bert):
    model.exits.default_threshold = 0.7200000001
    other = make_model(tiny_bert)
    other.load_state_dict(model.state_dict())
    other.load_state_dict({}, strict=False)
    assert other.bfloat16().confidence_threshold == 0.7200000001


def test_a_configured_threshold_comes_before_the_default(model):
    model.exits.default_threshold = 0.5
    assert model.confidence_threshold == 0.5
    model.confidence_threshold = 0.9
    assert model.confidence_threshold == 0.9
    model.confidence_threshold = None
    assert model.confidence_threshold == 0.5


def test_instances_leave_at_the_layers_they_are_given(model):
    layers = torch.tensor([3, -1, 0, 2, 0, 3])
    output = model(tokens_of(LENGTHS), LABELS, exit_layer=layers)
    assert output["exit_layer"].tolist() == layers.tolist()
    logits = model.all_exit_logits(tokens_of(LENGTHS))
    wanted = torch.stack([logits[EXITS.index(x), row] for row, x in enumerate(layers.tolist())])
    torch.testing.assert_close(output["logits"], wanted, atol=1e-5, rtol=0)
    assert model.get_metrics()["average_exit_layer"] == pytest.approx(7 / 6)


def trained_parameters(model):
    model(tokens_of(LENGTHS), LABELS)["loss"].backward()
    return {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_transformer_that_is_not_trainable_gets_no_gradients(tiny_bert, pooling):
    model = make_model(tiny_bert, trainable=False, pooling=pooling).train()
    found = trained_parameters(model)
    assert found == {name for name, _ in model.named_parameters() if name.startswith("exits.")}


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_only_layers_from_a_given_one_on_are_trained(tiny_bert, pooling):
    everything = trained_parameters(make_model(tiny_bert, pooling=pooling).train())
    found = trained_parameters(
        make_model(tiny_bert, trainable={"from_layer": 2}, pooling=pooling).train()
    )
    body = "encoder.transformer."
    frozen = (f"{body}embeddings.", f"{body}encoder.layer.0.", f"{body}encoder.layer.1.")
    assert found == {name for name in everything if not name.startswith(frozen)}
    assert len(found) < len(everything)


@pytest.mark.parametrize(
    "trainable",
    ["yes", 1, None, {"from_layer": 0}, {"from_layer": 4}, {"from_layer": True}, {"layer": 1}, []],
)
def test_a_trainable_that_cannot_be_is_refused(tiny_bert, trainable):
    with pytest.raises(ConfigurationError, match="trainable is .*from 1 to 3, the last layer"):
        make_model(tiny_bert, trainable=trainable)


def test_layers_that_share_their_weights_are_frozen_together_or_not_at_all(tmp_path):
    tiny_transformer("albert").save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="share their weights"):
        make_model(tmp_path, trainable={"from_layer": 1})
    model = make_model(tmp_path, trainable=False).train()
    assert all(name.startswith("exits.") for name in trained_parameters(model))


def test_weights_with_heads_serve_every_measure_and_others_all_but_learned(tiny_bert):
    with_heads = make_model(tiny_bert, confidence="learned").eval()
    without = make_model(tiny_bert, confidence="entropy").eval()
    without.load_state_dict(with_heads.state_dict())
    torch.testing.assert_close(
        without.all_exit_logits(tokens_of(LENGTHS)), with_heads.all_exit_logits(tokens_of(LENGTHS))
    )
    with pytest.raises(RuntimeError, match='an archive that was trained with confidence "learned"'):
        with_heads.load_state_dict(without.state_dict())


@pytest.mark.parametrize("over", ["reached", "all"])
def test_the_evaluation_loss_of_an_ensemble_is_that_of_its_answers(tiny_bert, over):
    model = make_model(tiny_bert, ensemble=over).eval()
    model.temperatures.copy_(torch.tensor([0.4, 0.5, 0.3, 0.6]))
    model.confidence_threshold = 0.6
    output = model(tokens_of(LENGTHS), LABELS)
    given = output["probs"][torch.arange(6), LABELS]
    assert output["loss"].item() == pytest.approx(-given.log().mean().item(), abs=1e-5)
    right = (output["probs"].argmax(-1) == LABELS).float().mean().item()
    assert model.get_metrics()["accuracy"] == pytest.approx(right)
    assert (set(output["exit_layer"].tolist()) == {3}) == (over == "all")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"ensemble": "best"}, "ensemble is 'best'"),
        ({"ensemble": {"over": "reached", "weights": [1]}}, "weight for each of the 4 exits"),
        ({"use_previous_logits": 1}, "use_previous_logits is 1: wanted true or false"),
        ({"alignment": 0}, "alignment is 0: wanted an integer from 1 to 4096"),
        ({"alignment": True}, "alignment is True: wanted an integer"),
        ({"alignment": "128"}, "alignment is '128': wanted an integer"),
        ({"alignment": 10**12}, "alignment is 1000000000000: wanted an integer from 1 to 4096"),
        ({"token_features": 0}, "token_features is 0: wanted an integer from 1 to 4096"),
        ({"token_features": 4, "alignment": 4}, "token_features is 4 and alignment is 4"),
    ],
)
def test_settings_of_rules_that_cannot_be_are_refused(tiny_bert, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make_model(tiny_bert, **settings)


def test_parameters_are_listed_only_where_an_initializer_is_configured(
    tiny_bert, caplog, monkeypatch
):
    # Which AllenNLP's own test cases disable.
    monkeypatch.setattr(logging.getLogger("allennlp.nn.initializers"), "disabled", False)
    with caplog.at_level("INFO", logger="allennlp.nn.initializers"):
        plain = make_model(tiny_bert)
        assert "Initializing parameters" not in caplog.text
        regexes = [["linear.bias", {"type": "constant", "val": 0.5}]]
        model = make_model(tiny_bert, initializer={"regexes": regexes})
    assert "Initializing parameters" in caplog.text
    biases = [p for name, p in model.named_parameters() if name.endswith("linear.bias")]
    assert len(biases) == 4 and all((bias == 0.5).all() for bias in biases)
    assert not any(
        (p == 0.5).all() for name, p in plain.named_parameters() if name.endswith("linear.bias")
    )
