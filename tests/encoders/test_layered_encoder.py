from pathlib import Path

import pytest
import torch
import transformers

from sledgehammer_allennlp.encoders import (
    FAMILIES,
    LayeredEncoder,
    attention,
    inference_layers,
    load_encoder,
)
from sledgehammer_allennlp.encoders.token_batch import Layout, Run
from tests.threads import in_threads
from tests.tiny import (
    FAMILY_CONFIGS,
    library_hidden_states,
    random_inputs,
    texts_of,
    tiny_transformer,
)

LENGTHS = [9, 3, 1, 14, 14]


def _assert_same_tokens(found, wanted, mask):
    torch.testing.assert_close(found, wanted[mask], atol=1e-5, rtol=0)


def _layout(inputs, padded=None):
    """Of the texts; with all of them padded together, or none, if that is asked for."""
    lengths = texts_of(inputs).lengths
    runs = {
        None: None,
        True: [Run(len(lengths), True)],
        False: [Run(1, False)] * len(lengths),
    }[padded]
    return Layout(lengths, torch.device("cpu"), runs)


def test_every_family_is_tested():
    assert set(FAMILY_CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("padded", [True, False, None])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_layers_in_turn_equal_the_librarys_forward(
    family, fused, padded, with_gradients, monkeypatch
):
    if not fused:
        monkeypatch.setattr(attention, "_HAS_FUSED_ATTENTION", False)
    transformer = tiny_transformer(family)
    inputs = token_ids, mask, type_ids = random_inputs(LENGTHS)
    # A text may have a token of padding inside, which RoBERTa gives no position of its own.
    token_ids[0, 3] = transformer.config.pad_token_id
    with torch.no_grad():
        wanted = library_hidden_states(transformer, token_ids, mask, type_ids)

    encoder = LayeredEncoder(transformer).eval()
    with torch.set_grad_enabled(with_gradients):
        encoder.prepare()
        hidden = encoder.embed(texts_of(inputs))
        _assert_same_tokens(hidden, wanted[0], mask)
        assert encoder.num_layers == 4
        for i in range(encoder.num_layers):
            hidden = encoder.layer(i, hidden, _layout(inputs, padded))
            _assert_same_tokens(hidden, wanted[i + 1], mask)
    assert hidden.requires_grad == with_gradients


@pytest.mark.parametrize("padded", [True, False])
@torch.no_grad()
def test_first_tokens_alone_equal_those_of_all_tokens(family, padded):
    encoder = LayeredEncoder(tiny_transformer(family)).eval()
    encoder.prepare()
    inputs = random_inputs(LENGTHS)
    layout = _layout(inputs, padded)
    hidden = encoder.embed(texts_of(inputs))
    wanted = encoder.layer(0, hidden, layout)
    keys_values = encoder.keys_values(0, hidden)
    first = layout.first_tokens
    found = encoder.rows(0, hidden[first], layout.of_first_tokens(), keys_values, layout)
    torch.testing.assert_close(found, wanted[first], atol=1e-5, rtol=0)


@torch.no_grad()
def test_pooler_equals_the_librarys(family):
    transformer = tiny_transformer(family)
    encoder = LayeredEncoder(transformer).eval()
    if family in ("electra", "distilbert", "deberta-v2", "modernbert", "nomic_bert", "gte"):
        assert not encoder.has_pooler
        with pytest.raises(ValueError, match="no pretrained pooler"):
            encoder.pool(torch.zeros(1, 32))
        return
    token_ids, mask, _ = random_inputs([5, 8])
    wanted = transformer(input_ids=token_ids, attention_mask=mask.long())
    torch.testing.assert_close(
        encoder.pool(wanted.last_hidden_state[:, 0]), wanted.pooler_output, atol=1e-5, rtol=0
    )


def test_layers_after_the_last_and_an_unused_pooler_are_removed(family):
    transformer = tiny_transformer(family)
    inputs = token_ids, mask, type_ids = random_inputs(LENGTHS)
    with torch.no_grad():
        wanted = library_hidden_states(transformer, token_ids, mask, type_ids)
    before = sum(p.numel() for p in transformer.parameters())
    encoder = LayeredEncoder(transformer, num_layers=2, keep_pooler=False).eval()
    assert sum(p.numel() for p in encoder.parameters()) < before
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    hidden = encoder.embed(texts_of(inputs))
    for i in range(2):
        hidden = encoder.layer(i, hidden, _layout(inputs))
    _assert_same_tokens(hidden, wanted[2], mask)
    encoder.seen_by_exits(hidden).sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


def test_dropout_is_used_in_training_only(family):
    # The default of some is no dropout.
    none = {
        "albert": {"hidden_dropout_prob": 0.1},
        "nomic_bert": {"hidden_dropout_prob": 0.1},
        "modernbert": {"mlp_dropout": 0.1},
    }
    encoder = LayeredEncoder(tiny_transformer(family, **none.get(family, {})))
    inputs = random_inputs([8, 8])
    layout = _layout(inputs)
    with torch.no_grad():
        hidden = encoder.eval().embed(texts_of(inputs))
        assert torch.equal(encoder.layer(0, hidden, layout), encoder.layer(0, hidden, layout))
        encoder.train()
        assert not torch.equal(encoder.layer(0, hidden, layout), encoder.layer(0, hidden, layout))


def test_first_token_share_is_the_share_of_products():
    encoder = LayeredEncoder(tiny_transformer("bert", intermediate_size=4 * 32))
    assert encoder.first_token_share == pytest.approx(1 / 6)
    encoder = LayeredEncoder(tiny_transformer("bert", intermediate_size=64))
    assert encoder.first_token_share == pytest.approx(2 / 8)


@pytest.mark.parametrize(
    "family, longest", [("bert", 64), ("roberta", 64), ("albert", 64), ("distilbert", 64)]
)
def test_max_positions_is_the_longest_text_the_library_takes(family, longest):
    transformer = tiny_transformer(family)
    encoder = LayeredEncoder(transformer)
    assert encoder.max_positions == longest
    token_ids, mask, _ = random_inputs([longest])
    transformer(input_ids=token_ids, attention_mask=mask.long())
    with pytest.raises((IndexError, RuntimeError)):
        token_ids, mask, _ = random_inputs([longest + 1])
        transformer(input_ids=token_ids, attention_mask=mask.long())


def test_load_encoder_reads_a_folder(tiny_bert: Path):
    encoder = load_encoder(tiny_bert)
    wanted = dict(transformers.AutoModel.from_pretrained(tiny_bert).named_parameters())
    found = encoder.transformer.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_load_encoder_without_weights_needs_the_configuration_only(tiny_bert: Path, tmp_path: Path):
    (tmp_path / "config.json").write_bytes((tiny_bert / "config.json").read_bytes())
    encoder = load_encoder("no/such-model", config_folder=tmp_path, load_weights=False)
    assert encoder.num_layers == 4


def test_an_unsupported_architecture_is_refused_with_what_is_supported(tmp_path: Path):
    transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'gpt2'.*albert, bert, camembert, deberta-v2, distilbert"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"position_embedding_type": "relative_key"}, "'relative_key'.*wanted 'absolute'"),
        ({"is_decoder": True}, "is_decoder"),
    ],
)
def test_a_variant_that_computes_something_else_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LayeredEncoder(tiny_transformer("bert", **settings))


def test_albert_with_inner_groups_is_refused():
    with pytest.raises(ValueError, match="inner_group_num 2"):
        LayeredEncoder(tiny_transformer("albert", inner_group_num=2))


def test_a_folder_without_weights_is_refused(tiny_bert: Path, tmp_path: Path):
    (tmp_path / "config.json").write_bytes((tiny_bert / "config.json").read_bytes())
    with pytest.raises(ValueError, match=f"weights from transformer_model '{tmp_path}'"):
        load_encoder(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="configuration of transformer_model .*config.json"):
        load_encoder(tmp_path / "nothing")


@pytest.mark.parametrize("num_layers", [0, 5])
def test_a_number_of_layers_the_model_has_not_is_refused(tiny_bert: Path, num_layers):
    with pytest.raises(ValueError, match=f"num_layers is {num_layers}: wanted 1 to 4"):
        load_encoder(tiny_bert, num_layers=num_layers)


@pytest.mark.parametrize("family", ["roberta", "albert"])
def test_a_pooler_that_is_not_in_the_checkpoint_is_not_taken_for_pretrained(family, tmp_path):
    config = tiny_transformer(family).config
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    assert not encoder.has_pooler
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    # An archive's configuration says so too, since it is loaded without the checkpoint.
    encoder.transformer.config.save_pretrained(tmp_path / "kept")
    kept = load_encoder("gone", config_folder=tmp_path / "kept", load_weights=False)
    assert kept.state_dict().keys() == encoder.state_dict().keys()


def test_threads_lay_out_weights_once_and_compute_the_same(monkeypatch):
    laid_out = []

    def inference_products(*args):
        laid_out.append(args)
        return made(*args)

    made = inference_layers.inference_products
    monkeypatch.setattr(inference_layers, "inference_products", inference_products)
    encoder = LayeredEncoder(tiny_transformer("bert")).eval()
    texts = texts_of(random_inputs([3, 9, 5]))

    def work(thread):
        with torch.no_grad():
            encoder.prepare()
            layout = Layout(texts.lengths, encoder.device)
            return encoder.layer(0, encoder.embed(texts), layout)

    for _ in range(5):
        found = in_threads(work)
        assert len(laid_out) == encoder.num_layers
        assert all(torch.equal(one, found[0]) for one in found)
        laid_out.clear()
        encoder.forget_layout()


def test_weights_have_names_that_every_version_of_the_library_knows(family):
    encoder = LayeredEncoder(tiny_transformer(family))
    parameters = {name for name, _ in encoder.named_parameters()}
    assert len(parameters) > 20 and set(encoder.state_dict()) == parameters
