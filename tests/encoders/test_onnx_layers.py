"""Layers in ONNX Runtime against the transformers library's own forward, and against torch."""

import copy
import os
import pickle

import pytest
import torch
from transformers.activations import ACT2FN

from sledgehammer_allennlp.encoders import LayeredEncoder, onnx_layers
from sledgehammer_allennlp.encoders.onnx_layers import PaddedTexts, runs_faster_in_onnx
from sledgehammer_allennlp.encoders.token_batch import Layout
from tests.threads import NUM_THREADS, in_threads
from tests.tiny import (
    FAMILIES_HERE,
    WITH_POSITIONS,
    library_hidden_states,
    needs_int8,
    needs_layout,
    needs_onnx,
    random_inputs,
    texts_of,
    tiny_transformer,
)

pytestmark = needs_onnx

EXIT_LAYERS = (-1, 1, 3)


def _encoder(family: str = "bert", **settings) -> LayeredEncoder:
    settings = {"runtime": "onnxruntime", **settings}
    return LayeredEncoder(tiny_transformer(family), **settings).eval()


def _run(encoder: LayeredEncoder, inputs, pooling: str = "mean"):
    """What both blocks give, and the layers that ran them."""
    texts = texts_of(inputs)
    encoder.prepare()
    layers = encoder.onnx_layers(EXIT_LAYERS, texts.lengths)
    padded, hidden = PaddedTexts(texts.lengths), encoder.embed(texts, for_onnx=True)
    first = layers.run_to(1, hidden, padded, pooling, entering=True)
    return first, layers.run_to(3, first.hidden, padded, pooling, entering=True), layers


def _last(encoder: LayeredEncoder, inputs) -> torch.Tensor:
    """The first tokens after all layers, `(num_texts, hidden_size)`."""
    return _run(encoder, inputs)[1].hidden


@torch.no_grad()
def test_its_threads_do_not_keep_the_cores_after_a_run():
    _, _, layers = _run(_encoder(), random_inputs([4]))
    options = layers._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize("family", FAMILIES_HERE)
@pytest.mark.parametrize("lengths", [[6], [4, 4, 4], [3, 9, 5]])
@torch.no_grad()
def test_blocks_equal_the_librarys_own_forward(family, lengths):
    inputs = random_inputs(lengths)
    first, last, _ = _run(_encoder(family), inputs)
    transformer = tiny_transformer(family)
    # In a family of pre-norm layers, exits see means of what is normed.
    seen_by_exits = getattr(transformer, "final_norm", lambda states: states)
    tokens_of_first, of_means = 0, {1: first.layer_vectors, 3: last.layer_vectors}
    for row, length in enumerate(lengths):
        kept = (x[row : row + 1, :length] for x in inputs)
        library = library_hidden_states(transformer, *kept)
        wanted = [states[0] for states in library]  # wanted[i] enters layer i
        its_tokens = slice(tokens_of_first, tokens_of_first + length)
        tokens_of_first += length
        _assert_near(first.hidden[its_tokens], wanted[2])
        _assert_near(first.entering[its_tokens], wanted[1])
        _assert_near(last.entering[its_tokens], wanted[3])
        _assert_near(last.hidden[row], wanted[4][0])
        for end, means in of_means.items():
            _assert_near(means[0][row], seen_by_exits(wanted[end - 1]).mean(0))
            _assert_near(means[1][row], seen_by_exits(wanted[end]).mean(0))
    first_tokens = _run(_encoder(family), inputs, "first")[1].layer_vectors
    _assert_near(first_tokens[1], last.hidden)


@pytest.mark.parametrize("family", FAMILIES_HERE)
@torch.no_grad()
def test_texts_of_far_distances_equal_the_librarys_own_forward(family):
    transformer = tiny_transformer(family, max_position_embeddings=402)
    inputs = random_inputs([350, 3])
    encoder = LayeredEncoder(transformer, runtime="onnxruntime").eval()
    wanted = library_hidden_states(transformer, *inputs)[-1][:, 0]
    torch.testing.assert_close(_last(encoder, inputs), wanted, atol=1e-4, rtol=0)


def _assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "activation",
    sorted({"gelu_new", "gelu_python", "gelu_pytorch_tanh", "relu", "silu", "swish"} & set(ACT2FN)),
)
@torch.no_grad()
def test_every_activation_equals_torchs(activation):
    transformer = tiny_transformer("bert", hidden_act=activation)
    encoder = LayeredEncoder(transformer, runtime="onnxruntime").eval()
    inputs = random_inputs([9, 3])
    wanted = transformer(
        inputs[0], attention_mask=inputs[1].long(), token_type_ids=inputs[2]
    ).last_hidden_state[:, 0]
    _assert_near(_last(encoder, inputs), wanted)


@needs_int8
@pytest.mark.parametrize("family", FAMILIES_HERE)
@torch.no_grad()
def test_int8_rounds_as_torch_does(family):
    # One block of one layer: what is rounded there is the same, so the same numbers come out but
    # for those that fall just between two steps.
    inputs = random_inputs([9, 3, 12])
    texts = texts_of(inputs)
    encoder = _encoder(family, precision="int8")
    encoder.prepare()
    hidden = encoder.embed(texts)
    layers = encoder.onnx_layers((0, 1), texts.lengths)
    block = layers.run_to(0, hidden, PaddedTexts(texts.lengths), "mean", entering=False)
    encoder.runtime = "torch"
    wanted = encoder.layer(0, hidden, Layout(texts.lengths, hidden.device))
    assert (block.hidden - wanted).norm() / wanted.norm() < 0.01
    exact = LayeredEncoder(tiny_transformer(family)).eval()
    exact.prepare()
    rounding = exact.layer(0, hidden, Layout(texts.lengths, hidden.device)) - wanted
    assert rounding.norm() / wanted.norm() > 0.01


@needs_int8
@torch.no_grad()
def test_int8_of_rows_of_zeros_is_as_in_torch():
    transformer = copy.deepcopy(tiny_transformer("bert"))
    for layer in transformer.encoder.layer:
        layer.intermediate.dense.weight.zero_()
        layer.intermediate.dense.bias.zero_()
    encoder = LayeredEncoder(transformer, precision="int8", runtime="onnxruntime").eval()
    texts = texts_of(random_inputs([9]))
    encoder.prepare()
    hidden = encoder.embed(texts)
    layers = encoder.onnx_layers((0, 1), texts.lengths)
    block = layers.run_to(0, hidden, PaddedTexts(texts.lengths), "mean", entering=False)
    wanted = encoder.layer(0, hidden, Layout(texts.lengths, hidden.device))
    assert (block.hidden - wanted).norm() / wanted.norm() < 0.01


@needs_int8
@torch.no_grad()
def test_int8_of_a_text_does_not_depend_on_its_company():
    encoder = _encoder(precision="int8")
    together = _last(encoder, random_inputs([9, 3, 12]))
    for row, length in enumerate([9, 3, 12]):
        alone = [x[row : row + 1, :length] for x in random_inputs([9, 3, 12])]
        torch.testing.assert_close(_last(encoder, alone)[0], together[row], atol=0.05, rtol=0)


@torch.no_grad()
def test_changed_weights_are_used():
    encoder = _encoder()
    inputs = random_inputs([5])
    before = _last(encoder, inputs)
    encoder.transformer.encoder.layer[1].output.dense.weight.mul_(2)
    after = _last(encoder, inputs)
    assert not torch.allclose(before, after, atol=1e-3)
    encoder.runtime = "torch"
    encoder.prepare()
    assert encoder.onnx_layers(EXIT_LAYERS, torch.tensor([5])) is None


@torch.no_grad()
def test_hooks_training_and_autocast_keep_to_torch():
    encoder = _encoder()
    lengths = torch.tensor([5])
    encoder.prepare()
    assert encoder.onnx_layers(EXIT_LAYERS, lengths) is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder.onnx_layers(EXIT_LAYERS, lengths) is None
    with torch.enable_grad():
        assert encoder.onnx_layers(EXIT_LAYERS, lengths) is None
    transformer = encoder.transformer
    for module in (transformer.encoder.layer[0].output.dense, transformer.embeddings.LayerNorm):
        hook = module.register_forward_hook(print)
        encoder.prepare()
        assert encoder.onnx_layers(EXIT_LAYERS, lengths) is None
        hook.remove()
        encoder.prepare()
        assert encoder.onnx_layers(EXIT_LAYERS, lengths) is not None
    encoder.train()
    encoder.prepare()
    assert encoder.onnx_layers(EXIT_LAYERS, lengths) is None


@needs_layout
@torch.no_grad()
def test_weights_that_are_given_up_are_not_needed():
    inputs = random_inputs([5, 7])
    wanted = _last(_encoder(), inputs)
    encoder = _encoder()
    encoder.give_up_weights(EXIT_LAYERS)
    _assert_near(_last(encoder, inputs), wanted)
    for runtime in ("auto", "onnxruntime"):
        without = _encoder(runtime=runtime)
        without.give_up_weights()
        assert without.onnx_layers(EXIT_LAYERS, torch.tensor([5])) is None


@pytest.mark.parametrize("family", ["bert", *WITH_POSITIONS])
@torch.no_grad()
def test_an_encoder_in_use_can_be_copied_and_pickled(family):
    encoder = _encoder(family)
    inputs = random_inputs([5, 7])
    wanted = _last(encoder, inputs)
    others = (copy.copy(encoder), copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)))
    for other in others:
        assert torch.equal(_last(other, inputs), wanted)
        other.precision = "bfloat16"
        assert encoder.precision == "float32"


@torch.no_grad()
def test_threads_share_one_session():
    encoder = _encoder()
    inputs = random_inputs([5, 7])
    wanted = _last(_encoder(), inputs)
    made = []

    def run(_: int) -> None:
        with torch.no_grad():
            _, last, layers = _run(encoder, inputs)
        made.append(layers)
        assert torch.equal(last.hidden, wanted)

    in_threads(run)
    assert len(made) == NUM_THREADS
    assert len({id(layers) for layers in made}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@torch.no_grad()
def test_a_forked_process_makes_a_session_of_its_own():
    encoder = _encoder()
    inputs = random_inputs([5, 7])
    wanted = _last(encoder, inputs)
    process = os.fork()
    if process == 0:  # pragma: no cover
        os._exit(0 if torch.equal(_last(encoder, inputs), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"precision": "bfloat16"},
            "it computes in float32 or int8 here, and the precision is bfl",
        ),
        ({"hidden_act": "tanh"}, "it has no operator for the activation tanh"),
    ],
)
def test_what_cannot_run_there_is_refused_or_runs_in_torch(settings, message):
    activation = {k: v for k, v in settings.items() if k == "hidden_act"}
    precision = settings.get("precision", "float32")
    transformer = tiny_transformer("bert", **activation)
    encoder = LayeredEncoder(transformer, precision=precision, runtime="onnxruntime").eval()
    with pytest.raises(ValueError, match="runtime is 'onnxruntime': " + message):
        encoder._inference._may_run_in_onnx()
    encoder.runtime = "auto"
    assert not encoder._inference._may_run_in_onnx()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(onnx_layers, "_missing_packages", lambda: ["onnxruntime"])
    encoder = _encoder()
    with pytest.raises(ValueError, match="onnxruntime is not installed: pip install onnxruntime"):
        encoder.check_inference()
    encoder.runtime = "auto"
    encoder.check_inference()


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="runtime is 'tensorrt': wanted one of auto, torch, onnx"):
        _encoder(runtime="tensorrt")


def test_auto_takes_onnx_runtime_for_a_single_short_text():
    most = onnx_layers._MOST_TOKENS
    assert runs_faster_in_onnx(torch.tensor([most]), "float32")
    assert not runs_faster_in_onnx(torch.tensor([most + 1]), "float32")
    assert not runs_faster_in_onnx(torch.tensor([5, 5]), "float32")
    assert runs_faster_in_onnx(torch.tensor([5]), "int8")
    assert not runs_faster_in_onnx(torch.tensor([5]), "bfloat16")
