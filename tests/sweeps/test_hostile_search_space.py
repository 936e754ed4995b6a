"""Any search space is taken or refused in words of ours."""

import json
import os

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.sweeps.config_check import check_config
from sledgehammer_allennlp.sweeps.search_space import read_search_space

HUGE = 10**308


def space_of(**distribution):
    return {"parameters": {"A": distribution}}


def written(folder, content):
    path = folder / "space.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize(
    "content, message",
    [
        (0, "is 0: wanted an object"),
        ([], "is .*: wanted an object"),
        ("parameters", "wanted an object"),
        (None, "wanted an object"),
        (b"\x1f\x8b\x08\x00", "wanted a JSON or Jsonnet file"),
        (b"", "wanted a JSON or Jsonnet file"),
        (b"\xff\xfe{\0}\0", "wanted a JSON or Jsonnet file"),
        (b"[" * 100_000, "wanted a JSON or Jsonnet file"),
        (b'{"parameters": {"A": 1e999}}', "wanted a JSON or Jsonnet file"),
        (b'{"parameters": {"A": 1, "A": 2}}', "wanted a JSON or Jsonnet file.*duplicate field"),
        (space_of(type="int", low=0, high=HUGE), "high is 10*.*: wanted an integer of at most 9,0"),
        (space_of(type="float", low=-HUGE, high=HUGE), "low is -10*.*: wanted a number of at most"),
        (space_of(type="float", low=0, high=1e300, step=1e-300), "wanted one that divides"),
        ({"parameters": {}, "seeds": {"name": "S", "values": [HUGE]}}, "wanted a list of one inte"),
        (space_of(type="x" * 10**6), r"type is .x*…: wanted one of"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_hostile_search_space_is_refused(tmp_path, content, message):
    with pytest.raises(ConfigurationError, match=message) as raised:
        read_search_space(written(tmp_path, content))
    assert len(str(raised.value)) < 1000


def test_a_hundred_thousand_choices_are_read(tmp_path):
    content = space_of(type="categorical", choices=list(range(100_000)))
    assert len(read_search_space(written(tmp_path, content)).samples()) == 100_000
    content["parameters"]["A"]["choices"].append(99_999)
    with pytest.raises(ConfigurationError, match="has 99999 twice"):
        read_search_space(written(tmp_path, content))


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    space = read_search_space(written(tmp_path, {"parameters": {"A": 1}}))
    for path, message in ((fifo, "a pipe or a device"), (tmp_path, "a folder"), ("none", "none")):
        with pytest.raises(ConfigurationError, match=f"cannot read the search .*wanted.*{message}"):
            read_search_space(path)
        with pytest.raises(ConfigurationError, match=f"cannot read the config .*wanted.*{message}"):
            check_config(path, space, "")
    config = tmp_path / "config.jsonnet"
    config.write_text("[std.extVar('A')]")
    with pytest.raises(ConfigurationError, match="is not an object: wanted one"):
        check_config(config, space, "")


values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
)
distributions = st.fixed_dictionaries(
    {"type": st.sampled_from(["int", "float", "categorical"])},
    optional={key: values for key in ("low", "high", "step", "log")}
    | {"choices": st.lists(values | st.lists(values))},
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from("AB1"), distributions | values) | values)
@example({"A": {"type": "float", "low": -1.5e308, "high": 1.5e308, "step": 5e-324}})
def test_any_parameters_are_taken_or_refused(tmp_path, parameters):
    try:
        space = read_search_space(written(tmp_path, {"parameters": parameters}))
    except ConfigurationError as error:
        assert "wanted" in str(error)
        return
    for configuration in space.samples():
        assert set(space.variables(configuration, None)) == set(parameters)
    json.dumps(space.configurations())
