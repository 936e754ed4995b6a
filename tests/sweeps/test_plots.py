import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from sledgehammer_allennlp.sweeps.plots import write_plots

NAMES = {"optimization_history", "parallel_coordinate", "param_importances", "slice"}


@pytest.fixture
def study():
    return optuna.create_study(direction="maximize")


def add(study, rate, pooling, value):
    study.add_trial(
        optuna.create_trial(
            params={"RATE": rate, "POOLING": pooling},
            distributions={
                "RATE": FloatDistribution(1e-5, 1e-3, log=True),
                "POOLING": CategoricalDistribution(["mean", "[0, 3]"]),
            },
            value=value,
        )
    )


def test_all_pictures_are_written(study, tmp_path):
    for rate, pooling, value in [(1e-4, "mean", 0.8), (2e-4, "[0, 3]", 0.9), (1e-5, "mean", 0.7)]:
        add(study, rate, pooling, value)
    assert write_plots(study, "accuracy", tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in NAMES}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def test_too_few_trials_make_no_pictures_and_it_says_so(study, tmp_path):
    add(study, 1e-4, "mean", 0.8)
    assert write_plots(study, "accuracy", tmp_path) == [
        "no pictures: 1 complete trials, wanted 2 at least"
    ]
    assert not list(tmp_path.iterdir())


def test_one_configuration_has_its_history_alone(study, tmp_path):
    add(study, 1e-4, "mean", 0.8)
    add(study, 1e-4, "mean", 0.9)
    notes = write_plots(study, "accuracy", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["optimization_history.png"]
    assert len(notes) == 3 and all("have the same parameters" in note for note in notes)


def test_importances_need_results_that_differ(study, tmp_path):
    add(study, 1e-4, "mean", 0.8)
    add(study, 2e-4, "mean", 0.8)
    notes = write_plots(study, "accuracy", tmp_path)
    assert notes == ["no param_importances.png: all complete trials have the same accuracy"]
    assert (tmp_path / "slice.png").exists()


def test_a_picture_that_cannot_be_made_is_left_out(study, tmp_path, monkeypatch):
    add(study, 1e-4, "mean", 0.8)
    add(study, 2e-4, "mean", 0.9)
    monkeypatch.setattr("optuna.visualization.matplotlib.plot_slice", lambda *_, **__: [][1])
    (note,) = write_plots(study, "accuracy", tmp_path)
    assert note.startswith("no slice.png: IndexError")
    assert len(list(tmp_path.iterdir())) == 3
