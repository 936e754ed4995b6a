import pytest
from allennlp.common.checks import ConfigurationError
from optuna.distributions import CategoricalDistribution

from sledgehammer_allennlp.sweeps.config_check import check_config
from sledgehammer_allennlp.sweeps.search_space import SearchSpace, Seeds

SPACE = SearchSpace({"A": CategoricalDistribution([1, 2])}, {"B": 3}, Seeds("SEED", [1]))
READS_ALL = "{ a: std.extVar('A'), b: std.extVar('B'), seed: std.extVar('SEED') }"


@pytest.fixture
def check(tmp_path):
    def check_written(config, overrides=""):
        path = tmp_path / "config.jsonnet"
        path.write_text(config)
        return check_config(path, SPACE, overrides)

    return check_written


def test_a_parameter_that_no_config_reads_is_refused(check):
    with pytest.raises(ConfigurationError, match="never reads B: wanted std.extVar"):
        check(READS_ALL.replace("'B'", "'A'"))


def test_a_parameter_that_is_read_for_some_values_alone_is_accepted(check):
    check(READS_ALL.replace("b:", "b: if std.extVar('A') == '1' then 0 else"))


def test_a_variable_that_is_missing_is_refused_unless_the_environment_has_it(check, monkeypatch):
    config = READS_ALL.replace("{", "{ c: std.extVar('MISSING_ONE'),")
    with pytest.raises(ConfigurationError, match="A=1 B=3 SEED=1(.|\n)*MISSING_ONE"):
        check(config)
    monkeypatch.setenv("MISSING_ONE", "here")
    check(config)


def test_a_choice_that_makes_no_config_is_found_before_any_training(check):
    with pytest.raises(ConfigurationError, match="with A=2 "):
        check(READS_ALL.replace("{", "{ assert std.extVar('A') == '1',"))


def test_the_digest_is_of_what_the_configs_say(check):
    digest = check(READS_ALL)
    assert check("// why\n" + READS_ALL) == digest
    assert check(READS_ALL, '{"trainer": {"cuda_device": 1}}') != check(READS_ALL, '{"c": 1}')
    with_trainer = READS_ALL.replace("{", "{ trainer: { patience: 1 },")
    assert check(with_trainer, '{"trainer.cuda_device": 1}') == check(with_trainer) != digest
    assert check(READS_ALL.replace("'A') }", "'A') + 1 }")) == digest
    assert check(READS_ALL.replace("a:", "a: 1 +")) != digest
