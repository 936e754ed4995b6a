"""The optimizer of the shipped configs, beside torch's own."""

from contextlib import contextmanager
from typing import Any, Iterator, List
from unittest import mock

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer
from torch.torch_version import TorchVersion

from sledgehammer_allennlp.training import fused_adamw

IS_ABLE = torch.__version__ >= "2.4"
needs_fused = pytest.mark.skipif(not IS_ABLE, reason="this torch has no fused AdamW for CPUs")
SETTINGS = {
    "lr": 0.01,
    "betas": (0.8, 0.95),
    "eps": 1e-6,
    "weight_decay": 0.1,
    "parameter_groups": [[["bias"], {"lr": 0.1, "weight_decay": 0.0}]],
}


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))


def registered(name: str, trained: torch.nn.Module) -> Any:
    """As the trainer makes it."""
    params = Params({"type": name, **SETTINGS})
    return Optimizer.from_params(params, model_parameters=list(trained.named_parameters()))


def torchs(trained: torch.nn.Module) -> torch.optim.AdamW:
    """By torch alone."""
    groups: List[Any] = [
        {"params": [trained[0].bias, trained[2].bias], "lr": 0.1, "weight_decay": 0.0},
        {"params": [trained[0].weight, trained[2].weight]},
    ]
    return torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)


def train(trained: torch.nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        trained(torch.randn(4, 8)).square().sum().backward()
        if step % 3 == 2:  # as an objective that skips an exit
            trained[2].bias.grad = None
        optimizer.step()


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for weights, expected in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


@contextmanager
def torch_of(version: str) -> Iterator[None]:
    with mock.patch.object(torch, "__version__", TorchVersion(version)):
        yield


def fused_groups(optimizer: Any) -> List[bool]:
    return [bool(group["fused"]) for group in optimizer.param_groups]


def test_steps_are_those_of_torch():
    trained, expected = model(), model()
    train(trained, registered("fused_adamw", trained), range(10))
    train(expected, torchs(expected), range(10))
    assert_same_weights(trained, expected)
    with pytest.raises(AssertionError):
        assert_same_weights(trained, model())


@needs_fused
def test_a_step_is_one_operation_for_all_parameters_of_a_group():
    trained = model()
    optimizer = registered("fused_adamw", trained)
    with mock.patch.object(torch, "_fused_adamw_", wraps=torch._fused_adamw_) as fused:
        train(trained, optimizer, range(1))
    assert [len(call.args[0]) for call in fused.call_args_list] == [2, 2]


@pytest.mark.parametrize("version", ["1.12.1", "2.3.1"])
def test_an_older_torch_steps_without_fusing(version):
    trained, expected = model(), model()
    with torch_of(version):
        optimizer = registered("fused_adamw", trained)
    assert fused_groups(optimizer) == [False, False]
    train(trained, optimizer, range(3))
    train(expected, torchs(expected), range(3))
    assert_same_weights(trained, expected)


@needs_fused
def test_a_newer_torch_is_not_taken_for_an_older_one():
    with torch_of("2.10.0"):
        assert fused_groups(registered("fused_adamw", model())) == [True, True]


@needs_fused
def test_parameters_of_a_device_that_cannot_fuse_are_stepped_without():
    trained = model()
    trained[0].bias = torch.nn.Parameter(torch.empty(16, device="meta"))
    assert fused_groups(registered("fused_adamw", trained)) == [False, True]


def test_unknown_settings_are_refused():
    params = Params({"type": "fused_adamw", "learning_rate": 0.1})
    with pytest.raises(ConfigurationError, match="learning_rate"):
        Optimizer.from_params(params, model_parameters=list(model().named_parameters()))


@pytest.mark.parametrize(
    "before, after",
    [("adamw", "fused_adamw"), ("fused_adamw", "adamw"), ("fused_adamw", "fused_adamw")],
)
def test_a_checkpoint_of_either_continues_in_the_other(before, after):
    trained, expected = model(), model()
    saved = registered(before, trained)
    train(trained, saved, range(5))
    continued = registered(after, trained)
    continued.load_state_dict(saved.state_dict())
    train(trained, continued, range(5, 10))
    train(expected, torchs(expected), range(10))
    assert_same_weights(trained, expected)
    if after == "fused_adamw":
        assert fused_groups(continued) == [IS_ABLE, IS_ABLE]


@needs_fused
def test_a_checkpoint_continues_where_torch_cannot_fuse():
    trained, expected = model(), model()
    saved = registered("fused_adamw", trained)
    train(trained, saved, range(5))
    with torch_of("2.3.1"):
        continued = registered("fused_adamw", trained)
        continued.load_state_dict(saved.state_dict())
    assert fused_groups(continued) == [False, False]
    train(trained, continued, range(5, 10))
    train(expected, torchs(expected), range(10))
    assert_same_weights(trained, expected)


@needs_fused
@pytest.mark.parametrize("can_fuse", [True, False])
def test_counts_of_steps_are_where_a_step_wants_them(can_fuse, monkeypatch):
    # As of a training on a CPU that goes on on a GPU, where a fused step wants its counts, too, and
    # no other does.
    trained = model()
    saved = registered("adamw", trained)
    train(trained, saved, range(2))
    if can_fuse:
        monkeypatch.setattr(fused_adamw, "_DEVICES", {"meta"})
    continued = registered("fused_adamw", model().to("meta"))
    continued.load_state_dict(saved.state_dict())
    steps = [state["step"] for state in continued.state.values()]
    assert fused_groups(continued) == [can_fuse, can_fuse]
    assert [step.device.type for step in steps] == ["meta" if can_fuse else "cpu"] * 4
