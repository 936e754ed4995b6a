import json

import pytest
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.sweeps.search_space import key_of, read_search_space

FLOAT = {"type": "float", "low": 1e-5, "high": 1e-4}
INT = {"type": "int", "low": 1, "high": 3}


@pytest.fixture
def read(tmp_path):
    def read_written(content, seeds=None):
        path = tmp_path / "space.jsonnet"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_search_space(path, seeds)

    return read_written


def test_values_become_what_a_config_can_parse(read):
    space = read(
        {
            "parameters": {
                "TEXT": "first",
                "NUMBER": 2e-5,
                "NOTHING": None,
                "LIST": [0, 3, 5],
                "SWITCH": True,
                "CHOICE": {"type": "categorical", "choices": [[0, 3], "all", None, 1.5]},
            },
            "seeds": {"name": "SEED", "values": [3, 4]},
        }
    )
    for choice, text in (("[0, 3]", "[0, 3]"), ("all", "all"), (None, "null"), (1.5, "1.5")):
        assert space.variables({"CHOICE": choice}, 4) == {
            "TEXT": "first",
            "NUMBER": "2e-05",
            "NOTHING": "null",
            "LIST": "[0, 3, 5]",
            "SWITCH": "true",
            "CHOICE": text,
            "SEED": "4",
        }
    assert list(space.distributions["CHOICE"].choices) == ["[0, 3]", "all", None, 1.5]


def test_all_configurations_are_listed_where_they_can_be(read):
    choice = {"type": "categorical", "choices": ["a", "b"]}
    space = read({"parameters": {"A": choice, "B": INT, "C": {**FLOAT, "low": 0, "high": 1}}})
    assert space.configurations() is None
    space = read({"parameters": {"A": choice, "B": INT, "C": {**FLOAT, "high": 1e-5}}})
    listed = space.configurations()
    assert len(listed) == 6 and listed[1] == {"A": "a", "B": 2, "C": 1e-5}
    space = read({"parameters": {"A": {"type": "float", "low": 0, "high": 0.3, "step": 0.1}}})
    assert [c["A"] for c in space.configurations()] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert read({"parameters": {"A": 1}}).configurations() == [{}]
    assert read({"parameters": {"A": {**INT, "high": 10**9}}}).configurations() is None


def test_a_configuration_is_the_same_whatever_was_lost_in_the_last_digits():
    assert key_of({"a": 0.1 + 0.2, "b": "x"}) == key_of({"b": "x", "a": 0.3})
    assert key_of({"a": 0.3}) != key_of({"a": 0.3001})
    assert key_of({"a": None}) != key_of({"a": "null"})


def test_seeds_can_be_given_instead_of_the_files(read):
    parameters = {"parameters": {"A": 1}}
    assert read(parameters).seed_values() == [None]
    assert read(parameters, seeds=[7]).variables({}, 7) == {"A": "1", "SEED": "7"}
    space = read({**parameters, "seeds": {"name": "RANDOM", "values": [1]}}, seeds=[7, 8])
    assert space.seeds.name == "RANDOM" and space.seed_values() == [7, 8]


def test_what_says_the_same_has_the_same_digest(read):
    one = read({"parameters": {"A": FLOAT, "B": 1}})
    other_order = json.dumps({"parameters": {"B": 1, "A": FLOAT}})
    assert one.digest() == read(f"// why\n{other_order}").digest()
    assert one.digest() != read({"parameters": {"A": {**FLOAT, "log": True}, "B": 1}}).digest()
    assert one.digest() != read({"parameters": {"A": FLOAT, "B": 2}}).digest()
    assert one.digest() != read({"parameters": {"A": FLOAT, "B": 1}}, seeds=[1]).digest()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"type": "flaot", "low": 0, "high": 1}, r"A.type is \"flaot\": wanted one of float, int"),
        ({"low": 0, "high": 1}, "A.type is missing: wanted one of float, int, categorical"),
        ({**FLOAT, "hihg": 1}, "A has no key hihg as a float: wanted high, log, low, step"),
        ({"type": "float", "low": 0}, "A.high is missing: wanted a number"),
        ({**FLOAT, "low": "1e-5"}, r"A.low is \"1e-5\": wanted a number"),
        ({**FLOAT, "low": 1}, "A.low is 1 and high 0.0001: wanted low at most high"),
        ({**FLOAT, "low": 0, "log": True}, "A.low is 0: wanted more than 0, as log is true"),
        ({**FLOAT, "log": 1}, "A.log is 1: wanted true or false"),
        ({**INT, "low": 0.5}, "A.low is 0.5: wanted an integer"),
        ({**INT, "low": True}, "A.low is true: wanted an integer"),
        ({**INT, "step": 0}, "A.step is 0: wanted more than 0"),
        ({**INT, "high": 4, "step": 2}, "A.step is 2: wanted one that divides high - low, 3"),
        ({**INT, "step": 1, "log": True}, "A has step 1 and log: wanted one of them"),
        ({"type": "categorical"}, "A.choices is missing: wanted a list of one value or more"),
        ({"type": "categorical", "choices": []}, r"A.choices is \[\]: wanted a list of one"),
        ({"type": "categorical", "choices": [1, 1.0]}, "A.choices has 1 twice"),
        (
            {"type": "categorical", "choices": [1], "log": True},
            "A has no key log as a categorical",
        ),
    ],
)
def test_a_mistake_in_a_distribution_is_refused(read, given, message):
    with pytest.raises(ConfigurationError, match=rf"space.jsonnet': parameters\.{message}"):
        read({"parameters": {"A": given}})


@pytest.mark.parametrize(
    "content, message",
    [
        ("{ parameters: ", "cannot read the search space .*space.jsonnet'"),
        ({"parameters": {}, "seed": 1}, "no such key: seed: wanted parameters and seeds"),
        ({"LEARNING_RATE": FLOAT}, "no such key: LEARNING_RATE"),
        ({}, "parameters is missing: wanted an object"),
        ({"parameters": [1]}, r"parameters is \[1\]: wanted an object"),
        ({"parameters": {"learning rate": 1}}, '"learning rate" cannot be a variable\'s name'),
        ({"parameters": {}, "seeds": [1, 2]}, r"seeds is \[1, 2\]: wanted an object with name"),
        ({"parameters": {}, "seeds": {"name": "S", "values": []}}, "seeds.values is "),
        ({"parameters": {}, "seeds": {"name": "S", "values": [1.5]}}, "wanted a list of one int"),
        ({"parameters": {}, "seeds": {"name": "S", "values": [1, 1]}}, "seeds.values has 1 twice"),
        ({"parameters": {"S": 1}, "seeds": {"name": "S", "values": [1]}}, "is the seeds' name"),
    ],
)
def test_a_mistake_in_the_file_is_refused(read, content, message):
    with pytest.raises(ConfigurationError, match=message):
        read(content)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read the search space .*none.json"):
        read_search_space(tmp_path / "none.json")
