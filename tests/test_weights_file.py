import collections
import copy
import io
import os
import zipfile
from pathlib import Path
from typing import Tuple

import pytest
import torch

from sledgehammer_allennlp import weights_file
from sledgehammer_allennlp.weights_file import _WEIGHTS_PICKLE, read_weights


class Touch:
    """What unpickles to a call of `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(params=[True, False], ids=["weights_only", "pickle_module"])
def way(request, monkeypatch):
    """Each of the ways to read: torch's own where it has one, and that for older versions."""
    if request.param and not weights_file.HAS_WEIGHTS_ONLY:
        pytest.skip("this torch cannot read tensors only")
    if not request.param and weights_file.HAS_WEIGHTS_ONLY:
        load = torch.load

        def load_as_before(file, map_location, pickle_module):
            return load(file, map_location, pickle_module, weights_only=False)

        monkeypatch.setattr(weights_file, "HAS_WEIGHTS_ONLY", False)
        monkeypatch.setattr(torch, "load", load_as_before)


@pytest.mark.parametrize("new_format", [True, False])
def test_what_was_saved_is_read(way, tmp_path, new_format):
    kept = torch.nn.Linear(3, 2).half().state_dict()
    kept["parameter"] = torch.nn.Parameter(torch.rand(2))
    kept.update(counts=torch.arange(3), flags=torch.tensor([True]), small=torch.ones(2).bfloat16())
    kept["exits._extra_state"] = 0.5
    torch.save(kept, tmp_path / "w.th", _use_new_zipfile_serialization=new_format)
    found = read_weights(tmp_path / "w.th")
    assert list(found) == list(kept)
    for name, value in kept.items():
        assert torch.equal(found[name], value) if torch.is_tensor(value) else found[name] == value


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("where", ["value", "key", "whole"])
def test_pickled_code_is_not_run(way, tmp_path, new_format, where):
    touch = Touch(tmp_path / "made")
    state = {"value": {"a": torch.ones(1), "b": touch}, "key": {(touch,): 1}, "whole": touch}[where]
    torch.save(state, tmp_path / "w.th", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"cannot read the weights '.*w\.th': wanted"):
        read_weights(tmp_path / "w.th")
    assert not (tmp_path / "made").exists()


def test_the_file_would_run_its_code_if_it_were_just_unpickled(tmp_path):
    torch.save(Touch(tmp_path / "made"), tmp_path / "w.th")
    settings = {"weights_only": False} if weights_file.HAS_WEIGHTS_ONLY else {}
    torch.load(tmp_path / "w.th", **settings)
    assert (tmp_path / "made").exists()


class Scripted(torch.nn.Module):
    """A TorchScript program that writes a file when it is read."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.made = torch.ones(1)

    @torch.jit.export
    def __getstate__(self):
        return self.made, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[torch.Tensor, str, bool]):
        self.made, self.path, self.training = state
        torch.save(self.made, self.path)

    def forward(self, x):
        return x


@pytest.mark.parametrize("opened", [True, False])
def test_a_torchscript_program_is_not_run(way, tmp_path, opened):
    torch.jit.script(Scripted(str(tmp_path / "made"))).save(str(tmp_path / "w.th"))
    with pytest.raises(ValueError, match=r"cannot read the weights 'w.th': .* TorchScript program"):
        file = io.BytesIO((tmp_path / "w.th").read_bytes()) if opened else tmp_path / "w.th"
        read_weights(file, "w.th")
    assert not (tmp_path / "made").exists()
    torch.jit.load(str(tmp_path / "w.th"))
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_file_that_is_cut_off_is_refused(way, tmp_path, size):
    torch.save({"a": torch.ones(100)}, tmp_path / "w.th")
    (tmp_path / "w.th").write_bytes((tmp_path / "w.th").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"cannot read the weights '.*w\.th': wanted a whole file"):
        read_weights(tmp_path / "w.th")


@pytest.mark.parametrize("opened", [True, False])
def test_parts_that_take_more_than_the_file_has_are_refused(way, tmp_path, opened):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "whole.th")
    for name, compression, times in (("packed", zipfile.ZIP_DEFLATED, 1), ("again", 0, 3)):
        whole, changed = tmp_path / "whole.th", tmp_path / f"{name}.th"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(changed, "w", compression) as target:
            for part in source.infolist():
                target.writestr(part.filename, source.read(part.filename))
            largest = max(target.infolist(), key=lambda part: part.file_size)
            for number in range(times - 1):  # other names for the same bytes
                again = copy.copy(largest)
                again.filename = f"{largest.filename}{number}"
                target.filelist.append(again)
                target.NameToInfo[again.filename] = again
        message = "is compressed" if name == "packed" else r"Its parts have 1,\d+,\d+ bytes"
        with pytest.raises(ValueError, match=message):
            read_weights(io.BytesIO(changed.read_bytes()) if opened else changed)


def test_a_tensor_alone_is_refused(way, tmp_path):
    torch.save(torch.ones(1), tmp_path / "w.th")
    with pytest.raises(ValueError, match="found a Tensor, wanted tensors by name"):
        read_weights(tmp_path / "w.th")


def test_no_file_is_no_file(way, tmp_path):
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.th")


def test_nothing_that_calls_is_among_what_may_be_named():
    unpickler = _WEIGHTS_PICKLE.Unpickler(io.BytesIO())
    assert unpickler.find_class("collections", "OrderedDict") is collections.OrderedDict
    for module, name in (("builtins", "eval"), ("torch", "load"), ("collections", "namedtuple")):
        with pytest.raises(Exception, match=f"it wants {module}.{name}"):
            unpickler.find_class(module, name)
