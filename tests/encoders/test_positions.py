"""Families in which positions enter the attention, against the library's own forward."""

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.families import family_of
from sledgehammer_allennlp.encoders.onnx_layers import PaddedTexts
from sledgehammer_allennlp.encoders.positions import log_buckets
from sledgehammer_allennlp.encoders.token_batch import Layout
from tests.tiny import (
    HAS_ONNX,
    WITH_POSITIONS,
    hidden_after_all_layers,
    library_hidden_states,
    names_of_old_numpy,
    needs_modernbert,
    random_inputs,
    texts_of,
    tiny_transformer,
)


def _layers_equal_the_librarys(transformer, lengths) -> None:
    inputs = random_inputs(lengths)
    wanted = library_hidden_states(transformer, *inputs)
    encoder = LayeredEncoder(transformer).eval()
    texts = texts_of(inputs)
    layout = Layout(texts.lengths, torch.device("cpu"))
    encoder.prepare()
    hidden = encoder.embed(texts)
    if HAS_ONNX:
        encoder.runtime = "onnxruntime"
        layers = encoder.onnx_layers([encoder.num_layers - 1], texts.lengths)
        assert layers is not None
        padded = PaddedTexts(texts.lengths)
        block = layers.run_to(encoder.num_layers - 1, hidden, padded, "mean", entering=False)
        torch.testing.assert_close(block.hidden, wanted[-1][:, 0], atol=5e-5, rtol=0)
    for i in range(encoder.num_layers):
        hidden = encoder.layer(i, hidden, layout)
        torch.testing.assert_close(hidden, wanted[i + 1][inputs[1]], atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", WITH_POSITIONS)
@torch.no_grad()
def test_long_texts_after_short_ones(family):
    transformer = tiny_transformer(family, max_position_embeddings=402)
    _layers_equal_the_librarys(transformer, [150, 3, 140, 150])
    _layers_equal_the_librarys(transformer, [5, 9])


@pytest.mark.parametrize(
    "settings",
    [
        {"share_att_key": False},
        {"pos_att_type": "c2p"},
        {"pos_att_type": ["p2c"], "share_att_key": False},
        {"pos_att_type": []},
        {"position_buckets": -1},
        {"position_buckets": 16, "max_relative_positions": 40},
        {"norm_rel_ebd": "none"},
        {"position_biased_input": True, "type_vocab_size": 2},
        {"embedding_size": 16},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_form_of_deberta(settings):
    transformer = tiny_transformer("deberta-v2", max_position_embeddings=100, **settings)
    _layers_equal_the_librarys(transformer, [90, 3, 14])


@needs_modernbert
@pytest.mark.parametrize(
    "settings",
    [
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
        {"global_attn_every_n_layers": 2, "local_attention": 20},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_form_of_modernbert(settings):
    _layers_equal_the_librarys(tiny_transformer("modernbert", **settings), [60, 3, 14, 30, 30])


@pytest.mark.parametrize("num_near, farthest", [(128, 512), (4, 64), (16, 32)])
def test_log_buckets_equal_the_librarys(num_near, farthest):
    from transformers.models.deberta_v2 import modeling_deberta_v2 as library

    distances = torch.arange(-farthest + 1, farthest)
    found = log_buckets(distances, num_near, farthest).tolist()
    if "np." in inspect.getsource(library):  # transformers 4.20
        distances = distances.numpy()
    with names_of_old_numpy():
        wanted = library.make_log_bucket_position(distances, 2 * num_near, farthest)
    assert found == [int(x) for x in wanted]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size 3 .*wanted one without a convolution"),
        ({"relative_attention": False}, "relative_attention false is not supported: wanted true"),
    ],
)
def test_a_deberta_that_computes_something_else_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LayeredEncoder(tiny_transformer("deberta-v2", **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_scaling": {"type": "yarn"}},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10.0}},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 10.0},
                "sliding_attention": {"rope_type": "yarn", "rope_theta": 10.0},
            }
        },
    ],
)
@pytest.mark.parametrize("family", ["modernbert", "gte"])
def test_scaled_rotary_positions_are_refused(family, settings):
    config = SimpleNamespace(
        model_type=family,
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=4,
        **settings,
    )
    with pytest.raises(ValueError, match="of type 'yarn' are not supported: wanted 'default'"):
        family_of(config)


@pytest.mark.parametrize("family", WITH_POSITIONS)
@torch.no_grad()
def test_a_copy_has_positions_of_its_own_and_changes_are_seen(family):
    encoder = LayeredEncoder(tiny_transformer(family)).eval()
    texts = texts_of(random_inputs([9, 4]))
    before = hidden_after_all_layers(encoder, texts)
    other = copy.deepcopy(encoder)
    for parameter in other.transformer.parameters():
        parameter.mul_(1.5)
    assert torch.equal(hidden_after_all_layers(encoder, texts), before)
    assert not torch.equal(hidden_after_all_layers(other, texts), before)


@pytest.mark.parametrize(
    "family, module", [("mpnet", "relative_attention_bias"), ("deberta-v2", "rel_embeddings")]
)
@torch.no_grad()
def test_changed_distances_are_laid_out_anew(family, module):
    encoder = LayeredEncoder(tiny_transformer(family)).eval()
    texts = texts_of(random_inputs([9, 4]))
    before = hidden_after_all_layers(encoder, texts)
    getattr(encoder.transformer.encoder, module).weight.mul_(2)
    assert not torch.equal(hidden_after_all_layers(encoder, texts), before)


@pytest.mark.parametrize("family", WITH_POSITIONS)
def test_a_text_that_was_predicted_in_inference_mode_can_be_trained_on(family):
    encoder = LayeredEncoder(tiny_transformer(family, max_position_embeddings=402)).eval()
    texts = texts_of(random_inputs([150, 4]))
    with torch.inference_mode():
        hidden_after_all_layers(encoder, texts)
    hidden_after_all_layers(encoder, texts).sum().backward()


@needs_modernbert
def test_texts_of_padding_in_a_window_give_gradients_that_are_numbers():
    encoder = LayeredEncoder(tiny_transformer("modernbert", local_attention=4)).train()
    hidden_after_all_layers(encoder, texts_of(random_inputs([30, 20, 17]))).sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert gradients and all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_layers_before_the_first_trained_one_keep_the_distances_they_share():
    encoder = LayeredEncoder(tiny_transformer("deberta-v2"))
    encoder.freeze(2)
    trained = {name for name, p in encoder.transformer.named_parameters() if p.requires_grad}
    assert all(name.startswith(("encoder.layer.2.", "encoder.layer.3.")) for name in trained)
    assert len(trained) == 2 * 16
