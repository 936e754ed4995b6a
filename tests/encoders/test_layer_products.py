"""Precisions, and the weights laid out for inference, against the modules they come from."""

import copy
import inspect
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from transformers.activations import ACT2FN

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders import layer_products as module
from sledgehammer_allennlp.encoders.layer_products import (
    InferenceProducts,
    check_precision,
    with_round_number_of_rows,
)
from tests.tiny import (
    PRECISIONS_OF_CPUS,
    hidden_after_all_layers,
    needs_int8,
    needs_layout,
    needs_vnni,
    random_inputs,
    texts_of,
    tiny_transformer,
)

# In 8 bits without VNNI, what enters a product has 7.
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.1, "int8": 0.1 if module._has_vnni() else 0.2}


def _hidden(encoder: LayeredEncoder, inputs) -> torch.Tensor:
    return hidden_after_all_layers(encoder, texts_of(inputs))


def _by_modules(encoder: LayeredEncoder, inputs) -> torch.Tensor:
    with torch.enable_grad():
        return _hidden(encoder, inputs).detach()


@pytest.mark.parametrize("precision", PRECISIONS_OF_CPUS)
@torch.no_grad()
def test_every_precision_is_near_the_modules(family, precision):
    encoder = LayeredEncoder(tiny_transformer(family), precision=precision).eval()
    inputs = random_inputs([9, 3, 14])
    found, wanted = _hidden(encoder, inputs), _by_modules(encoder, inputs)
    assert found.dtype == (torch.bfloat16 if precision == "bfloat16" else torch.float32)
    error = (found.float() - wanted).norm() / wanted.norm()
    assert error < TOLERANCES[precision]
    if precision != "float32":
        assert error > 1e-4  # something was rounded


@pytest.mark.parametrize(
    "activation",
    [name for name in ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu") if name in ACT2FN],
)
@pytest.mark.parametrize("precision", PRECISIONS_OF_CPUS)
@torch.no_grad()
def test_every_activation_is_near_the_modules(activation, precision):
    transformer = tiny_transformer("bert", hidden_act=activation)
    encoder = LayeredEncoder(transformer, precision=precision).eval()
    inputs = random_inputs([9, 3])
    found, wanted = _hidden(encoder, inputs).float(), _by_modules(encoder, inputs)
    assert (found - wanted).norm() / wanted.norm() < TOLERANCES[precision]


@pytest.mark.parametrize("precision", TOLERANCES)
@torch.no_grad()
def test_without_onednn_ordinary_products_are_taken(precision, monkeypatch):
    monkeypatch.setattr(module, "_has_onednn", lambda: False)
    encoder = LayeredEncoder(tiny_transformer("bert"), precision=precision).eval()
    inputs = random_inputs([9, 3])
    if precision == "int8":
        with pytest.raises(ValueError, match="needs a torch with oneDNN"):
            _hidden(encoder, inputs)
        return
    found, wanted = _hidden(encoder, inputs).float(), _by_modules(encoder, inputs)
    assert (found - wanted).norm() / wanted.norm() < TOLERANCES[precision]


@needs_int8
@torch.no_grad()
def test_int8_rounds_each_row_by_itself():
    torch.manual_seed(0)
    product = module._Int8Product(torch.randn(8, 32), torch.randn(8))
    rows = torch.randn(40, 32) * torch.logspace(-3, 3, 40).unsqueeze(1)
    alone = torch.cat([product(row.unsqueeze(0)) for row in rows])
    assert torch.equal(product(rows), alone)


@needs_int8
@pytest.mark.parametrize("vnni", [pytest.param(True, marks=needs_vnni), False])
@torch.no_grad()
def test_int8_is_the_product_of_rounded_rows(vnni, monkeypatch):
    monkeypatch.setattr(module, "_has_vnni", lambda: vnni)
    torch.manual_seed(0)
    weight, bias, hidden = torch.randn(8, 32), torch.randn(8), torch.randn(5, 32)
    steps = 127 if vnni else 63

    def rounded(rows: torch.Tensor, steps: int) -> torch.Tensor:
        scale = rows.abs().amax(1, keepdim=True) / steps
        return (rows / scale).round() * scale

    wanted = F.linear(rounded(hidden, steps), rounded(weight, 127), bias)
    torch.testing.assert_close(module._Int8Product(weight, bias)(hidden), wanted)


@needs_int8
@torch.no_grad()
def test_int8_needs_no_quantized_tensors(monkeypatch):
    torch.manual_seed(0)
    product = module._Int8Product(torch.randn(8, 32), torch.randn(8))
    rows = torch.randn(40, 32) * torch.logspace(-3, 3, 40).unsqueeze(1)
    rows[0] = torch.arange(32) + 0.5  # in steps of 1, halfway between integers
    rows[0, 0] = module.num_int8_steps()
    rows[1, 0] = torch.nan
    before = rows.clone()
    wanted = product(rows)
    monkeypatch.delattr(torch, "quantize_per_tensor")
    torch.testing.assert_close(product(rows), wanted, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(rows, before, rtol=0, atol=0, equal_nan=True)
    assert wanted.isnan().sum() == 8  # the row that had what is no number


_MAKE_AND_RUN = """
import warnings
import torch
from sledgehammer_allennlp.encoders.layer_products import _Int8Product
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    _Int8Product(torch.ones(8, 32), torch.ones(8))(torch.ones(1, 32))
print([str(one.message) for one in found])
"""


@needs_int8
def test_int8_warns_of_nothing():
    # In a process of its own, because torch warns once.
    found = subprocess.run([sys.executable, "-c", _MAKE_AND_RUN], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


@needs_int8
@torch.no_grad()
def test_int8_of_nothing_is_the_bias():
    bias = torch.randn(8)
    product = module._Int8Product(torch.zeros(8, 32), bias)
    assert torch.equal(product(torch.zeros(1, 32)), bias.unsqueeze(0))


@pytest.mark.parametrize(
    "change",
    [
        "in place",
        "data",
        pytest.param(
            "assign",
            marks=pytest.mark.skipif(
                "assign" not in inspect.signature(torch.nn.Module.load_state_dict).parameters,
                reason="this torch copies what it loads",
            ),
        ),
        "optimizer",
        "move",
    ],
)
@torch.no_grad()
def test_changed_weights_are_laid_out_anew(change):
    encoder = LayeredEncoder(tiny_transformer("bert")).eval()
    inputs = random_inputs([9, 3])
    before = _hidden(encoder, inputs)
    weight = encoder.transformer.encoder.layer[1].output.dense.weight
    if change == "in place":
        weight.mul_(2)
    elif change == "data":
        # As moving averages do it, between training and evaluation.
        encoder.train()
        weight.data.mul_(2)
        encoder.eval()
    elif change == "assign":
        state = {name: x * 2 for name, x in encoder.state_dict().items()}
        encoder.load_state_dict(state, assign=True)
    elif change == "optimizer":
        weight.grad = torch.randn_like(weight)
        torch.optim.SGD([weight], lr=0.1).step()
    elif change == "move":
        encoder.double().float()
        encoder.transformer.encoder.layer[1].output.dense.weight.data = weight.data * 2
    after = _hidden(encoder, inputs)
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, _by_modules(encoder, inputs), atol=1e-4, rtol=0)


@torch.no_grad()
def test_changes_behind_its_back_are_seen_on_demand():
    encoder = LayeredEncoder(tiny_transformer("bert")).eval()
    inputs = random_inputs([9, 3])
    _hidden(encoder, inputs)
    encoder.transformer.encoder.layer[1].output.dense.weight.data.mul_(2)
    encoder.forget_layout()
    found = _hidden(encoder, inputs)
    torch.testing.assert_close(found, _by_modules(encoder, inputs), atol=1e-4, rtol=0)


def test_weights_made_in_inference_mode_are_always_laid_out_anew():
    with torch.inference_mode():
        encoder = LayeredEncoder(tiny_transformer("bert")).eval()
        inputs = random_inputs([9, 3])
        before = _hidden(encoder, inputs)
        encoder.transformer.encoder.layer[1].output.dense.weight.mul_(2)
        assert not torch.allclose(before, _hidden(encoder, inputs), atol=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS_OF_CPUS)
@torch.no_grad()
def test_hooks_see_the_modules_at_work(precision):
    encoder = LayeredEncoder(tiny_transformer("bert"), precision=precision).eval()
    inputs = random_inputs([9, 3])
    _hidden(encoder, inputs)
    seen = []
    dense = encoder.transformer.encoder.layer[1].output.dense
    handle = dense.register_forward_hook(lambda module, given, output: seen.append(output))
    torch.testing.assert_close(_hidden(encoder, inputs), _by_modules(encoder, inputs))
    assert len(seen) == 2
    handle.remove()
    _hidden(encoder, inputs)
    assert len(seen) == 2


@pytest.mark.parametrize("num_rows", [0, 1, 128, 129, 1000, 1024, 1025, 2048])
def test_numbers_of_rows_are_few_and_rows_stay_as_they_are(num_rows):
    rows = torch.arange(num_rows).unsqueeze(1)
    rounded = with_round_number_of_rows(rows)
    assert torch.equal(rounded[:num_rows], rows)
    assert len(rounded) < num_rows + 64
    assert len(rounded) % (1 if num_rows <= 128 else 32 if num_rows <= 1024 else 64) == 0


@needs_layout
@torch.no_grad()
def test_weights_that_are_the_same_are_laid_out_once(monkeypatch):
    made = []

    class Spy(InferenceProducts):
        def __init__(self, *arguments):
            made.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(module, "InferenceProducts", Spy)
    for family, num_made in (("bert", 4), ("albert", 2)):
        made.clear()
        encoder = LayeredEncoder(tiny_transformer(family)).eval()
        for _ in range(3):
            _hidden(encoder, random_inputs([5]))
            encoder.eval()
        assert len(made) == num_made


@needs_int8
@torch.no_grad()
def test_an_encoder_in_use_can_be_copied_and_pickled():
    encoder = LayeredEncoder(tiny_transformer("bert"), precision="int8").eval()
    inputs = random_inputs([9, 3])
    wanted = _hidden(encoder, inputs)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(_hidden(other, inputs), wanted)


@pytest.mark.parametrize(
    "precision, device, message",
    [
        ("float8", "cpu", "'float8': wanted one of float32, bfloat16, float16, int8"),
        ("float16", "cpu", "needs a GPU: on a CPU, wanted bfloat16"),
        ("int8", "cuda", "needs a CPU: on 'cuda', wanted float16 or bfloat16"),
    ],
)
def test_what_a_device_cannot_do_is_refused(precision, device, message):
    with pytest.raises(ValueError, match=message):
        check_precision(precision, torch.device(device))


def test_training_is_not_touched_by_the_precision():
    inputs = random_inputs([9, 3])
    outputs = []
    for precision in ("float32", "int8"):
        encoder = LayeredEncoder(tiny_transformer("bert"), precision=precision).train()
        torch.manual_seed(0)
        outputs.append(_hidden(encoder, inputs))
    assert torch.equal(*outputs)
    assert outputs[0].requires_grad


@needs_layout
@pytest.mark.parametrize("precision", PRECISIONS_OF_CPUS)
@torch.no_grad()
def test_weights_that_are_given_up_are_not_needed_for_inference(family, precision):
    encoder = LayeredEncoder(tiny_transformer(family), precision=precision).eval()
    inputs = random_inputs([9, 3])
    wanted = _hidden(encoder, inputs)
    num_weights = sum(parameter.numel() for parameter in encoder.parameters())
    encoder.give_up_weights()
    assert sum(parameter.numel() for parameter in encoder.parameters()) < num_weights
    assert torch.equal(_hidden(encoder.eval(), inputs), wanted)


@needs_layout
@pytest.mark.parametrize(
    "use",
    [
        lambda encoder: encoder.train(),
        lambda encoder: encoder.state_dict(),
        lambda encoder: encoder.double(),
        lambda encoder: copy.deepcopy(encoder),
        lambda encoder: setattr(encoder, "precision", "bfloat16"),
        lambda encoder: _by_modules(encoder, random_inputs([3])),
    ],
)
def test_what_needs_weights_that_were_given_up_is_refused(use):
    encoder = LayeredEncoder(tiny_transformer("bert")).eval()
    encoder.give_up_weights()
    with pytest.raises(RuntimeError, match="given up its weights.*load it again"):
        use(encoder)
    with torch.no_grad():
        assert torch.isfinite(_hidden(encoder, random_inputs([3]))).all()


def test_weights_are_not_given_up_in_training():
    with pytest.raises(RuntimeError, match="evaluation mode"):
        LayeredEncoder(tiny_transformer("bert")).train().give_up_weights()
