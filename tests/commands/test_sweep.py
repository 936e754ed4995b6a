import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive

from sledgehammer_allennlp.sweeps import plots, training_run
from tests.command_server import client_of
from tests.sweeps.worker import fake_command
from tests.tiny import tiny_experiment

ROOT = Path(__file__).parents[2]
CONFIG = """{
  lr: std.parseJson(std.extVar('LEARNING_RATE')),
  seed: std.parseInt(std.extVar('SEED')),
  trainer: { num_epochs: 2 },
}
"""
SPACE = {
    "parameters": {"LEARNING_RATE": {"type": "categorical", "choices": [0.5, 0.7, 0.3]}},
    "seeds": {"name": "SEED", "values": [1, 2]},
}


@pytest.fixture
def files(tmp_path):
    """Arguments of `allennlp sweep`: a config, a space, a folder."""
    (tmp_path / "mine.jsonnet").write_text(CONFIG)
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    arguments = [tmp_path / "mine.jsonnet", tmp_path / "space.json"]
    return [*arguments, "--serialization-dir", tmp_path / "runs"]


@pytest.fixture
def sweep(files, allennlp_command, monkeypatch):
    """Runs `allennlp sweep` with fake training and no pictures, and gives `summary.json`."""
    monkeypatch.setattr(plots, "write_plots", lambda *_: ["no picture here"])
    monkeypatch.setattr(training_run, "train_command", fake_command)
    monkeypatch.setattr(training_run, "_POLL_SECONDS", 0.02)

    def run(*arguments):
        allennlp_command("sweep", *files, *arguments)
        return summary_in(files[-1])

    return run


def summary_in(folder):
    return json.loads((folder / "summary.json").read_text())


def states_in(folder, name="mine", storage=None):
    study = optuna.load_study(study_name=name, storage=storage or f"sqlite:///{folder}/study.db")
    return [trial.state.name for trial in study.get_trials()]


def numbers(summary, state="complete"):
    return sorted(
        trial["number"]
        for configuration in summary["configurations"]
        for trial in configuration["trials"]
        if trial["state"] == state
    )


def test_configurations_are_compared_over_the_same_seeds(sweep, tmp_path, capsys):
    summary = sweep("--trials", 6)
    assert [c["parameters"]["LEARNING_RATE"] for c in summary["configurations"]] == [0.7, 0.5, 0.3]
    for configuration in summary["configurations"]:
        rate = configuration["parameters"]["LEARNING_RATE"]
        assert sorted(trial["seed"] for trial in configuration["trials"]) == [1, 2]
        assert configuration["mean"] == pytest.approx(rate + 0.015)
        assert configuration["standard_deviation"] == pytest.approx(0.01 / 2**0.5)
    best = Path(summary["best"]["archive"])
    assert best.read_text() == "a model" and summary["best"]["metric"] == pytest.approx(0.72)
    printed = capsys.readouterr().out
    assert str(best) in printed and "no picture here" in printed
    with open(tmp_path / "runs" / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["LEARNING_RATE"] for row in rows] == ["0.7", "0.5", "0.3"]
    assert float(rows[0]["mean"]) == pytest.approx(0.715)
    for number in range(6):
        assert "training starts" in (tmp_path / "runs" / f"trial_{number}/train.log").read_text()


def test_checkpoints_are_removed_unless_they_are_wanted(sweep, tmp_path):
    sweep("--trials", 1)
    sweep("--trials", 2, "--keep-checkpoints")
    removed, kept = tmp_path / "runs/trial_0", tmp_path / "runs/trial_1"
    assert {file.name for file in removed.glob("*.th")} == {"best.th"}
    assert len(list(kept.glob("*.th"))) == 3


def test_a_tie_is_called_a_tie(sweep, files, capsys):
    assert sweep("--trials", 6)["num_tied_with_best"] == 0
    assert "a tie" not in capsys.readouterr().out
    parameters = {"LEARNING_RATE": {"type": "categorical", "choices": [0.5, 0.7, 0.70000001]}}
    files[1].write_text(json.dumps({**SPACE, "parameters": parameters}))
    files[-1] = files[-1].with_name("others")
    summary = sweep("--trials", 6, "--sampler", "grid")
    assert summary["num_tied_with_best"] == 1
    printed = capsys.readouterr().out
    assert "1 other configuration has the same mean as the best: a tie" in printed


def test_one_seed_has_no_standard_deviation(sweep, tmp_path):
    summary = sweep("--trials", 1)
    assert summary["configurations"][0]["standard_deviation"] is None
    with open(tmp_path / "runs" / "summary.csv", newline="") as file:
        assert next(csv.DictReader(file))["standard_deviation"] == ""


def test_running_again_goes_on_to_the_new_total_and_no_further(sweep, tmp_path):
    assert numbers(sweep("--trials", 1)) == [0]
    assert numbers(sweep("--trials", 3)) == [0, 1, 2]
    before = (tmp_path / "runs/trial_2/metrics.json").stat().st_mtime_ns
    assert numbers(sweep("--trials", 3)) == [0, 1, 2]
    assert numbers(sweep("--summary-only")) == [0, 1, 2]
    assert (tmp_path / "runs/trial_2/metrics.json").stat().st_mtime_ns == before


def test_the_metric_can_be_minimised(sweep):
    summary = sweep("--trials", 6, "--direction", "minimize")
    assert [c["parameters"]["LEARNING_RATE"] for c in summary["configurations"]] == [0.3, 0.5, 0.7]
    assert summary["best"]["metric"] == pytest.approx(0.31)


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_no_configuration_is_tried_twice(sweep, sampler, capsys):
    summary = sweep("--trials", 20, "--sampler", sampler)
    assert summary["num_complete"] == 6 and summary["num_failed"] == 0
    assert "All configurations of the search space are tried" in capsys.readouterr().out


def test_a_grid_is_tried_in_its_order(sweep):
    summary = sweep("--trials", 3, "--sampler", "grid", "--seeds", 5)
    trials = {c["trials"][0]["number"]: c["parameters"] for c in summary["configurations"]}
    assert [trials[i]["LEARNING_RATE"] for i in range(3)] == [0.5, 0.7, 0.3]
    assert {c["trials"][0]["seed"] for c in summary["configurations"]} == {5}


def test_a_range_is_sampled_within_it(sweep, files):
    space = {"parameters": {"LEARNING_RATE": {"type": "float", "low": 0.1, "high": 0.9}}}
    files[1].write_text(json.dumps({**space, "seeds": SPACE["seeds"]}))
    for sampler, total in (("random", 4), ("tpe", 6)):
        summary = sweep("--trials", total, "--sampler", sampler)
        rates = [c["parameters"]["LEARNING_RATE"] for c in summary["configurations"]]
        assert len(set(rates)) == total / 2 and all(0.1 <= rate <= 0.9 for rate in rates)
    with pytest.raises(ConfigurationError, match="sampler is grid, .*wanted choices"):
        sweep("--trials", 1, "--sampler", "grid")


def test_a_failed_trial_is_recorded_and_the_sweep_goes_on(sweep, monkeypatch, capsys):
    monkeypatch.setenv("BEHAVIOUR", "fail at 0.7")
    summary = sweep("--trials", 6)
    assert summary["num_failed"] == 2 and summary["num_complete"] == 4
    failed = summary["configurations"][-1]
    assert failed["parameters"]["LEARNING_RATE"] == 0.7 and failed["mean"] is None
    error = failed["trials"][0]["error"]
    assert "exit status 1" in error and "out of memory, say" in error
    assert error in capsys.readouterr().out


def test_a_sweep_without_any_success_ends_with_an_error(sweep, monkeypatch, tmp_path):
    monkeypatch.setenv("BEHAVIOUR", "fail")
    with pytest.raises(SystemExit) as ended:
        sweep("--trials", 2)
    assert ended.value.code == 1
    assert summary_in(tmp_path / "runs")["num_failed"] == 2


def test_a_metric_that_is_missing_fails_the_trial_and_names_the_others(sweep, tmp_path):
    with pytest.raises(SystemExit):
        sweep("--trials", 1, "--metric", "validation_f1")
    (trial,) = summary_in(tmp_path / "runs")["configurations"][0]["trials"]
    assert "validation_f1 is None" in trial["error"]
    assert "as of best_validation_accuracy" in trial["error"]


def test_a_run_that_promises_little_is_pruned_and_ended(sweep, monkeypatch, tmp_path):
    monkeypatch.setenv("BEHAVIOUR", "wait at 0.3")  # for ever, if it were not ended
    pruning = ["--pruner", "median", "--pruner-startup-trials", 1]
    summary = sweep("--trials", 3, "--sampler", "grid", "--seeds", 1, *pruning)
    assert numbers(summary) == [0, 1] and numbers(summary, "pruned") == [2]
    pid = int((tmp_path / "runs/trial_2/pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert summary["configurations"][-1]["num_pruned"] == 1


def test_two_studies_share_a_journal_file_but_no_folder(sweep, tmp_path):
    journal = ["--storage", tmp_path / "journal.log"]
    assert sweep("--trials", 2, *journal)["num_complete"] == 2
    with pytest.raises(ConfigurationError, match="has the runs of another study: wanted another"):
        sweep("--trials", 2, *journal, "--study-name", "other")
    with pytest.raises(ConfigurationError, match="is not where the runs of study 'mine' are"):
        sweep("--trials", 2, *journal, "--serialization-dir", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "changed, message",
    [
        ("mine.jsonnet", "the config .* is not what study 'mine' began with"),
        ("space.json", "the search space .* is not what study 'mine' began with"),
        ("metric", r"--metric is not what study 'mine' began with \('best_validation_accuracy'\)"),
        ("direction", "to maximize its metric: wanted --direction maximize"),
    ],
)
def test_a_study_is_not_resumed_as_another_sweep(sweep, tmp_path, changed, message):
    sweep("--trials", 1)
    arguments = {"metric": ["--metric", "loss"], "direction": ["--direction", "minimize"]}
    if changed not in arguments:
        file = tmp_path / changed
        file.write_text(file.read_text().replace("2", "3"))
    with pytest.raises(ConfigurationError, match=message):
        sweep("--trials", 2, *arguments.get(changed, []))


def test_a_comment_and_a_device_change_no_sweep(sweep, files):
    sweep("--trials", 1)
    files[0].write_text("// the same\n" + files[0].read_text())
    assert sweep("--trials", 2, "--overrides", '{"trainer.cuda_device": 1}')["num_complete"] == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--trials is missing: wanted it, or --summary-only"),
        (["--trials", 0], "--trials is 0: wanted at least 1"),
        (["--trials", 1, "--pruner-startup-trials", -1], "--pruner-startup-trials is -1"),
        (["--trials", 1, "--storage", "sqlite:////no/such/folder/a.db"], "cannot open --storage"),
        (["--trials", 1, "--storage", "nosuch://a"], "cannot open --storage 'nosuch://a'"),
        (["--summary-only"], "--study-name is 'mine', which is not in .* but there is none"),
    ],
)
def test_a_bad_argument_is_refused(sweep, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        sweep(*arguments)


def test_overrides_and_packages_are_handed_through(tmp_path):
    command = training_run.train_command(Path("a.jsonnet"), tmp_path, '{"a": 1}', ["one", "two"])
    end = command[command.index("train") :]
    assert end == [
        *["train", "a.jsonnet", "--serialization-dir", str(tmp_path), "--file-friendly-logging"],
        *["--overrides", '{"a": 1}', "--include-package", "one", "--include-package", "two"],
    ]


def test_other_commands_start_without_optuna():
    code = "import sys, sledgehammer_allennlp; print('optuna' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "False\n"


@pytest.fixture
def start(command_server):
    """Starts `allennlp sweep` as a process of its own."""

    def begin(*arguments, **variables):
        worker = ["-m", "tests.sweeps.worker", "sweep"]
        return subprocess.Popen(
            [*client_of("python"), *worker, *map(str, arguments)],
            cwd=ROOT,
            env=command_server.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def wait_for(path, process):
    while not path.exists():
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        time.sleep(0.02)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("storage", ["database", "journal"])
def test_the_trial_of_a_killed_worker_is_run_again_at_once(start, sweep, files, tmp_path, storage):
    url = {"database": f"sqlite:///{tmp_path}/runs/study.db", "journal": f"{tmp_path}/journal"}
    arguments = [*files, "--trials", 4, "--storage", url[storage]]
    worker = start(*arguments, BEHAVIOUR="wait")
    wait_for(tmp_path / "runs/trial_0/metrics_epoch_0.json", worker)
    worker.kill()
    worker.communicate(timeout=120)
    summary = sweep("--trials", 4, "--storage", url[storage])
    assert summary["num_complete"] == 4 and summary["num_failed"] == 0
    assert 0 not in numbers(summary) and not (tmp_path / "runs/trial_0/metrics.json").exists()
    assert sorted(
        sorted(trial["seed"] for trial in configuration["trials"])
        for configuration in summary["configurations"]
    ) == [[1, 2], [1, 2]]


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_worker_ends_its_run_and_queues_it_again(
    start, sweep, files, tmp_path, name, status
):
    worker = start(*files, "--trials", 1, BEHAVIOUR="wait")
    wait_for(tmp_path / "runs/trial_0/metrics_epoch_0.json", worker)
    worker.send_signal(getattr(signal, name))
    printed, _ = worker.communicate(timeout=120)
    assert worker.returncode == status and "The same command goes on." in printed
    assert not is_alive(int((tmp_path / "runs/trial_0/pid").read_text()))
    assert "FAIL" in states_in(tmp_path / "runs") and "RUNNING" not in states_in(tmp_path / "runs")
    assert sweep("--trials", 1)["num_complete"] == 1


def test_a_worker_leaves_alone_what_another_one_runs(start, sweep, files, tmp_path):
    worker = start(*files, "--trials", 3, BEHAVIOUR="wait")
    wait_for(tmp_path / "runs/trial_0/metrics_epoch_0.json", worker)
    summary = sweep("--trials", 3)
    assert summary["num_complete"] == 2 and summary["num_running"] == 1
    assert worker.poll() is None
    worker.terminate()
    worker.communicate(timeout=120)
    assert sweep("--trials", 3)["num_complete"] == 3


def test_training_ends_with_its_worker_however_that_died():
    process = subprocess.Popen(
        [sys.executable, "-m", "sledgehammer_allennlp.sweeps.training_process"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.stdin.close()
    assert process.wait(timeout=120) == -signal.SIGKILL


def test_two_workers_share_real_trainings_and_another_goes_on(start, tiny_bert, tsv, tmp_path):
    config = tiny_experiment(str(tiny_bert), tsv)
    config["trainer"]["num_epochs"] = 1
    text = json.dumps(
        {
            **config,
            "random_seed": "SEED",
            "dataset_reader": {**config["dataset_reader"], "max_instances": 16},
        }
    )
    text = text.replace('"lr": 0.001', "\"lr\": std.parseJson(std.extVar('LEARNING_RATE'))")
    text = text.replace('"SEED"', "std.parseInt(std.extVar('SEED'))")
    (tmp_path / "real.jsonnet").write_text(text)
    choices = {"type": "categorical", "choices": [1e-3, 1e-4]}
    (tmp_path / "space.json").write_text(
        json.dumps({"parameters": {"LEARNING_RATE": choices}, "seeds": SPACE["seeds"]})
    )
    folder, storage = tmp_path / "runs", f"sqlite:///{tmp_path}/shared.db"
    arguments = [tmp_path / "real.jsonnet", tmp_path / "space.json"]
    arguments += ["--serialization-dir", folder, "--storage", storage, "--trials"]
    workers = [start(*arguments, 2) for _ in range(2)]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    assert all(f"  in {folder}/trial_" in text for text in printed), printed  # both took part
    # As a user starts it, with nothing imported before.
    command = [sys.executable, "-m", "allennlp", "sweep", *map(str, arguments), "3"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    # What waits is the other seed of the third's configuration.
    assert states_in(folder, "real", storage) == ["COMPLETE"] * 3 + ["WAITING"]
    assert {path.name for path in folder.glob("trial_*")} == {f"trial_{i}" for i in range(3)}
    summary = summary_in(folder)
    assert sorted(c["num_seeds"] for c in summary["configurations"]) == [1, 2]
    seen = set()
    for configuration in summary["configurations"]:
        for trial in configuration["trials"]:
            run = Path(trial["folder"])
            used = json.loads((run / "config.json").read_text())
            assert used["random_seed"] == trial["seed"]
            rate = configuration["parameters"]["LEARNING_RATE"]
            assert used["trainer"]["optimizer"]["lr"] == rate
            metrics = json.loads((run / "metrics.json").read_text())
            assert trial["metric"] == metrics["best_validation_accuracy"]
            assert (run / "train.log").exists()
            seen.add((rate, trial["seed"]))
    assert len(seen) == 3
    assert (folder / "optimization_history.png").exists() and (folder / "slice.png").exists()
    assert load_archive(summary["best"]["archive"]).model.exit_layers == [-1, 0, 2, 3]
