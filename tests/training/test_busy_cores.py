"""The warning of cores that other programs use."""

import os
from types import SimpleNamespace

import pytest
import torch
from allennlp.models import BasicClassifier

from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.training import busy_cores
from sledgehammer_allennlp.training.busy_cores import BusyCores


@pytest.fixture
def warnings(monkeypatch):
    messages = []
    monkeypatch.setattr(busy_cores.logger, "warning", lambda *parts: messages.append(parts))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    return messages


def start(device="cpu", kind=MultiExitClassifier, is_primary=True):
    trainer = SimpleNamespace(model=kind.__new__(kind), cuda_device=torch.device(device))
    BusyCores("").on_start(trainer, is_primary=is_primary)


@pytest.mark.parametrize("load, is_busy", [(7.9, False), (8.0, True)])
def test_so_many_programs_for_each_core_are_warned_of(load, is_busy, warnings, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    start()
    assert len(warnings) == is_busy
    if is_busy:
        text, *numbers = warnings[0]
        assert "is 8 on 4 cores" in text % tuple(numbers)


@pytest.mark.parametrize(
    "how", [{"device": "cuda"}, {"kind": BasicClassifier}, {"is_primary": False}]
)
def test_other_trainings_are_not(how, warnings, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (100.0, 0.0, 0.0))
    start(**how)
    assert warnings == []


def test_one_thread_waits_for_no_other(warnings, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (100.0, 0.0, 0.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    start()
    assert warnings == []


def test_a_load_that_is_not_known_is_none(warnings, monkeypatch):
    def fail():
        raise OSError("no load")

    monkeypatch.setattr(os, "getloadavg", fail)
    start()
    monkeypatch.delattr(os, "getloadavg")
    start()
    assert warnings == []
