"""A study and a folder belong together from the first worker's claim on, even a cut-off one."""

from pathlib import Path

import optuna
import pytest
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.sweeps.study import claim

DIGESTS = {"config": "a", "space": "b", "metric": "accuracy"}


@pytest.fixture
def claimed(tmp_path):
    """Claims a folder for a study."""

    def claim_for(study):
        claim(study, tmp_path, config=Path("a"), space=Path("b"), digests=DIGESTS)

    return claim_for


@pytest.mark.parametrize("attribute", ["folder", "digests", "sweep"])
def test_a_worker_that_was_killed_while_it_claimed_hinders_none(claimed, monkeypatch, attribute):
    study, set_user_attr = optuna.create_study(study_name="mine"), optuna.Study.set_user_attr

    def set_or_be_killed(study, key, value):
        if key == attribute:
            raise KeyboardInterrupt
        set_user_attr(study, key, value)

    with monkeypatch.context() as killed:
        killed.setattr(optuna.Study, "set_user_attr", set_or_be_killed)
        with pytest.raises(KeyboardInterrupt):
            claimed(study)
    with pytest.raises(ConfigurationError, match="has the runs of another study"):
        claimed(optuna.create_study(study_name="other"))
    claimed(study)
    claimed(study)
    assert set(study.user_attrs) == {"folder", "digests", "sweep"}


def test_a_folder_with_runs_is_not_taken_by_a_new_study_of_that_name(claimed, tmp_path):
    claimed(optuna.create_study(study_name="mine"))
    (tmp_path / "trial_0").mkdir()
    with pytest.raises(ConfigurationError, match="has the runs of another study"):
        claimed(optuna.create_study(study_name="mine"))
