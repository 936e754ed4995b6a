import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from sledgehammer_allennlp.encoders import load_encoder
from sledgehammer_allennlp.encoders import pretrained_weights as module
from tests.tiny import tiny_transformer


@pytest.fixture(params=["by the library", "by us"])
def reads(request, monkeypatch):
    """Who reads safetensors files: a library that can, or we for one that cannot."""
    if request.param == "by the library":
        if not module.HAS_SAFETENSORS:
            pytest.skip("this transformers library reads no safetensors files")
        return
    if int(transformers.__version__.split(".")[0]) >= 5:
        pytest.skip("this library takes no weights but those of files")
    monkeypatch.setattr(module, "HAS_SAFETENSORS", False)
    of_library = transformers.AutoModel.from_pretrained

    def from_pretrained(folder, **settings):
        if folder is not None and not (Path(folder) / "pytorch_model.bin").exists():
            raise OSError("no file named pytorch_model.bin")
        return of_library(folder, **settings)

    monkeypatch.setattr(module.AutoModel, "from_pretrained", from_pretrained)


@pytest.fixture
def state(family):
    return {name: x.clone() for name, x in tiny_transformer(family).state_dict().items()}


def _save_config(family, folder):
    tiny_transformer(family).config.save_pretrained(folder)


def _assert_has(folder, state):
    found = load_encoder(folder).transformer.state_dict()
    # Older versions of the library also save the numbers of positions.
    weights = {name: x for name, x in state.items() if x.is_floating_point()}
    assert set(found) == set(weights)
    for name, wanted in weights.items():
        assert torch.equal(found[name], wanted), name


def test_a_model_with_safetensors_only_is_read(family, state, reads, tmp_path):
    _save_config(family, tmp_path)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _assert_has(tmp_path, state)


@pytest.mark.parametrize("family", ["bert"])
def test_a_model_in_several_files_is_read(family, state, reads, tmp_path):
    _save_config(family, tmp_path)
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(state)}
    for file in set(files.values()):
        part = {name: x for name, x in state.items() if files[name] == file}
        save_file(part, tmp_path / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    _assert_has(tmp_path, state)

    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(ValueError, match="model-1.safetensors"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("family", ["bert"])
def test_a_file_that_is_cut_off_is_refused(family, state, reads, tmp_path):
    _save_config(family, tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(state, file, metadata={"format": "pt"})
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot read pretrained weights from transformer_model"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("family", ["bert"])
def test_heads_of_another_model_are_left_out(family, reads, tmp_path):
    masked = transformers.AutoModelForMaskedLM.from_config(tiny_transformer(family).config)
    state = {name: x.clone() for name, x in masked.state_dict().items()}
    _save_config(family, tmp_path)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder = load_encoder(tmp_path)
    found = encoder.transformer.state_dict()
    kept = [name for name, _ in masked.named_parameters() if name.startswith("bert.")]
    assert len(kept) > 60
    for name in kept:
        assert torch.equal(found[name[len("bert.") :]], state[name])
    assert not encoder.has_pooler


def test_a_hubs_file_is_asked_for_by_name(monkeypatch, tmp_path):
    state = tiny_transformer("bert").state_dict()
    save_file(state, tmp_path / "model.safetensors")

    def hf_hub_download(repo_id, filename):
        if (repo_id, filename) == ("someone/a-model", "model.safetensors"):
            return str(tmp_path / filename)
        raise OSError(f"no {filename} of {repo_id}")

    monkeypatch.setattr(module, "hf_hub_download", hf_hub_download)
    found = module._safetensors_state("someone/a-model")
    assert all(torch.equal(found[name], x) for name, x in state.items())
    assert module._safetensors_state("someone/another") is None


def _safetensors(header, content: bytes = b"", length=None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + content


def _tensor(dtype="F32", shape=(2,), start=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        _safetensors({}, length=2**63),
        _safetensors({}, length=10**9),
        _safetensors(b"{" * 100_000),
        _safetensors({"a": _tensor(dtype="F999")}, bytes(8)),
        _safetensors({"a": _tensor(shape=(10**9, 10**9))}, bytes(8)),
        _safetensors({"a": _tensor(shape=(2**62, 8))}, bytes(8)),
        _safetensors({"a": _tensor(end=10**12)}, bytes(8)),
        _safetensors({"a": _tensor(start=8, end=0)}, bytes(8)),
        _safetensors({"a": _tensor(), "b": _tensor()}, bytes(8)),  # which overlap
        _safetensors({"a": _tensor(shape=(-2,))}, bytes(8)),
        _safetensors({"a": _tensor()}, bytes(4)),
        _safetensors({"a": {"dtype": "F32"}}, bytes(8)),
        _safetensors(b"[]"),
        _safetensors(b'{"a": "\xff"}'),
    ],
)
def test_a_header_that_does_not_hold_is_refused(family, reads, tmp_path, content):
    _save_config(family, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="cannot read pretrained weights from transformer_model"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{}", b"\xff", b'{"weight_map": 3}', b'{"weight_map": {"a": 5}}', b"[" * 10**5],
    ids=lambda index: index[:20].decode("latin-1"),
)
def test_an_index_of_files_that_does_not_hold_is_refused(family, reads, tmp_path, index):
    _save_config(family, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(ValueError, match="cannot read pretrained weights from transformer_model"):
        load_encoder(tmp_path)
