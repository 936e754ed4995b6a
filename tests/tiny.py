"""What the tiny models and data of the tests are made of."""

from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple
from unittest import mock

import numpy as np
import pytest
import torch
import transformers

from sledgehammer_allennlp.encoders import FAMILIES, LayeredEncoder, TokenBatch, layer_products
from sledgehammer_allennlp.encoders.family import IN_EMBEDDINGS
from sledgehammer_allennlp.encoders.layer_products import check_precision
from sledgehammer_allennlp.encoders.token_batch import Layout

CPU = torch.device("cpu")


def _can_compute(precision: str) -> bool:
    try:
        check_precision(precision, CPU)
    except ValueError:
        return False
    return True


needs_layout = pytest.mark.skipif(
    not layer_products._has_onednn(), reason="this torch cannot lay out weights for inference"
)
needs_int8 = pytest.mark.skipif(not _can_compute("int8"), reason="this torch has no int8 products")
needs_bfloat16 = pytest.mark.skipif(
    not _can_compute("bfloat16"), reason="this CPU cannot compute in bfloat16"
)
needs_vnni = pytest.mark.skipif(
    not layer_products._has_vnni(), reason="this CPU sums pairs of products in 16 bits"
)
PRECISIONS_OF_CPUS = [
    "float32",
    pytest.param("bfloat16", marks=needs_bfloat16),
    pytest.param("int8", marks=needs_int8),
]

HAS_ONNX = all(find_spec(package) for package in ("onnx", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="onnx and onnxruntime are not installed")
RUNTIMES_HERE = ["torch", "auto", "onnxruntime"] if HAS_ONNX else ["torch", "auto"]

_SUBJECTS = ("the film", "a day", "this book", "her song")
_ADJECTIVES = ("good", "bad", "very good", "very bad")
_ENDINGS = ("", " indeed", " and long , all in all")
SENTENCES = [
    f"{subject} was {adjective}{ending}"
    for subject in _SUBJECTS
    for adjective in _ADJECTIVES
    for ending in _ENDINGS
] + ["it was a day"]

_BERT_SIZES = dict(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
    initializer_range=0.3,
)
_ROBERTA_SIZES = {**_BERT_SIZES, "max_position_embeddings": 66, "pad_token_id": 1}

FAMILY_CONFIGS: Dict[str, Dict[str, Any]] = {
    "bert": _BERT_SIZES,
    "roberta": {**_ROBERTA_SIZES, "type_vocab_size": 1},
    "xlm-roberta": {**_ROBERTA_SIZES, "type_vocab_size": 1},
    "camembert": {**_ROBERTA_SIZES, "type_vocab_size": 1},
    "electra": {**_BERT_SIZES, "embedding_size": 16},
    "distilbert": dict(
        dim=32,
        n_layers=4,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    ),
    "albert": {**_BERT_SIZES, "embedding_size": 16, "num_hidden_groups": 2},
    "mpnet": {**_ROBERTA_SIZES, "pad_token_id": 1},
    "deberta-v2": {
        **_BERT_SIZES,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 8,  # texts are longer, so that distances share buckets
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {
        **_BERT_SIZES,
        "local_attention": 6,  # texts are longer
        "pad_token_id": 0,
        "cls_token_id": 2,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "reference_compile": False,
    },
    # Gated layers multiply what they compute: with large weights rounding errors grow.
    "nomic_bert": {**_BERT_SIZES, "initializer_range": 0.2},
    "gte": {**_BERT_SIZES, "initializer_range": 0.2, "type_vocab_size": 0, "pad_token_id": 0},
}
"""Of every supported family; `FAMILIES_HERE` are those that the installed library has."""

FAMILIES_HERE = sorted(set(FAMILY_CONFIGS) & set(transformers.CONFIG_MAPPING))
WITH_POSITIONS = [family for family in FAMILIES_HERE if FAMILIES[family].positions != IN_EMBEDDINGS]
"""Families whose positions enter the attention."""
needs_modernbert = pytest.mark.skipif(
    "modernbert" not in FAMILIES_HERE, reason="this version of transformers has no ModernBERT"
)


def tiny_transformer(family: str, seed: int = 0, **settings: Any) -> transformers.PreTrainedModel:
    """A 4-layer model of a family with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        family, **{"vocab_size": 120, **FAMILY_CONFIGS[family], **settings}
    )
    transformer = transformers.AutoModel.from_config(config).eval()
    # Models of old versions share their activations, with the hooks that a failed training left.
    for module in transformer.modules():
        module._forward_hooks.clear()
    # Random biases and norms too, so that a forgotten one is noticed.
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "bias" in name:
                parameter.normal_(std=0.1)
            elif "norm" in name.lower():
                parameter.normal_(mean=1.0, std=0.2)
    return transformer


@contextmanager
def names_of_old_numpy() -> Iterator[None]:
    """For the library's DeBERTa of transformers 4.20, which the newer NumPy beside it breaks."""
    with mock.patch.object(np, "int", int, create=True):
        yield


@torch.no_grad()
def library_hidden_states(
    transformer: transformers.PreTrainedModel,
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    type_ids: torch.Tensor,
) -> List[torch.Tensor]:
    """By the library's forward: the embeddings, then each layer's output, before a last norm."""
    with names_of_old_numpy():
        return _library_hidden_states(transformer, token_ids, mask, type_ids)


def _library_hidden_states(
    transformer: transformers.PreTrainedModel,
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    type_ids: torch.Tensor,
) -> List[torch.Tensor]:
    inputs = {"input_ids": token_ids, "attention_mask": mask.long()}
    if getattr(transformer.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = type_ids
    if transformer.config.model_type != "modernbert":
        return list(transformer(**inputs, output_hidden_states=True).hidden_states)
    # This library gives the last layer's output through the last norm.
    found: List[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    hooks = [x.register_forward_hook(keep) for x in (transformer.embeddings, *transformer.layers)]
    transformer(**inputs)
    for hook in hooks:
        hook.remove()
    return found


def random_inputs(
    lengths: "list[int]", vocab_size: int = 120, seed: int = 0
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, mask and type ids of a right-padded batch of texts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1]) < torch.tensor(lengths).unsqueeze(1)
    token_ids = torch.randint(5, vocab_size, shape, generator=generator)
    type_ids = (torch.arange(shape[1]) >= torch.tensor(lengths).unsqueeze(1) // 2).long()
    return token_ids.masked_fill(~mask, 1), mask, type_ids * mask


def texts_of(inputs: Sequence[torch.Tensor]) -> TokenBatch:
    """The same without padding."""
    return TokenBatch.from_padded(*inputs)


def hidden_after_all_layers(encoder: LayeredEncoder, texts: TokenBatch) -> torch.Tensor:
    """`(num_tokens, hidden_size)`"""
    layout = Layout(texts.lengths, CPU)
    encoder.prepare()
    hidden = encoder.embed(texts)
    for i in range(encoder.num_layers):
        hidden = encoder.layer(i, hidden, layout)
    return hidden


def save_tiny_bert(folder: Path, family: str = "bert") -> Path:
    """
    Makes the folder of a 4-layer BERT with 64 positions, and its tokenizer; or of a model of
    another family, with this tokenizer.
    """
    folder.mkdir()
    words = sorted({word for text in SENTENCES for word in text.split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words
    vocabulary += [x for letter in letters for x in (letter, f"##{letter}") if x not in words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    tiny_transformer(family, vocab_size=len(vocabulary)).save_pretrained(folder)
    return folder


def write_tsv(folder: Path) -> Dict[str, str]:
    """Writes a small data set that can be learned: the paths of `train`, `dev`, and `pairs`."""
    lines = [f"{'pos' if 'good' in text else 'neg'}\t{text}\n" for text in SENTENCES]
    pairs = [line.rstrip("\n") + "\tit was a day\n" for line in lines]
    paths = {}
    for name, content in {"train": lines * 2, "dev": lines, "pairs": pairs}.items():
        path = folder / f"{name}.tsv"
        path.write_text("".join(content), encoding="utf-8")
        paths[name] = str(path)
    return paths


def tiny_experiment(
    transformer_model: str, tsv: Dict[str, str], **model_settings: Any
) -> Dict[str, Any]:
    """A training config on the tiny data."""
    return {
        "random_seed": 7,
        "numpy_seed": 7,
        "pytorch_seed": 7,
        "dataset_reader": {
            "type": "labeled_tsv",
            "tokenizer": {"type": "pretrained_transformer", "model_name": transformer_model},
        },
        "train_data_path": tsv["train"],
        "validation_data_path": tsv["dev"],
        "model": {
            "type": "multi_exit_classifier",
            "transformer_model": transformer_model,
            "exit_layers": [0, 2, 3],
            "embedding_exit": "mean",
            **model_settings,
        },
        "data_loader": {"batch_size": 16, "shuffle": True},
        "validation_data_loader": {"batch_size": 16},
        "trainer": {
            "num_epochs": 2,
            "optimizer": {"type": "huggingface_adamw", "lr": 1e-3, "correct_bias": True},
            "callbacks": ["temperature_calibration"],
        },
        "include_in_archive": ["calibration.json", "model_card.md"],
    }
