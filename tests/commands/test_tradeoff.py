import argparse
import csv
import json
import tarfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.common.checks import ConfigurationError
from allennlp.data.data_loaders.data_collator import allennlp_collate
from allennlp.models import load_archive

from sledgehammer_allennlp import commands
from sledgehammer_allennlp.commands.tradeoff import Tradeoff, measure, tradeoff_from_args
from sledgehammer_allennlp.tradeoff import results as tradeoff_results
from sledgehammer_allennlp.tradeoff.better_exit import find_better_exit
from sledgehammer_allennlp.tradeoff.class_losses import ClassLoss
from sledgehammer_allennlp.training.full_depth import FullDepth, better_exit_of
from tests.tiny import needs_int8

FILES = {"tradeoff.csv", "tradeoff.json", "tradeoff.png", "reliability.png", "report.html"}


@pytest.fixture
def tradeoff(trained, tmp_path, allennlp_command):
    """Runs `allennlp tradeoff` on the development data and gives `tradeoff.json`."""

    def run(*arguments, data=None):
        data = data or trained["config"]["validation_data_path"]
        folder = tmp_path / "new" / "results"
        allennlp_command("tradeoff", trained["archive"], data, "--output-dir", folder, *arguments)
        return json.loads((folder / "tradeoff.json").read_text())

    return run


def row_of(results, threshold):
    """The first whose threshold is not below."""
    columns = results["thresholds"]
    return next(i for i, t in enumerate(columns["threshold"]) if t >= threshold)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.precision": "float32"},
        pytest.param({"model.precision": "int8"}, marks=needs_int8),
        {"model.confidence": "entropy"},
        {"model.ensemble": {"over": "reached", "weights": [1, 0, 2, 4]}},
    ],
    ids=str,
)
def test_every_threshold_gives_what_evaluate_gives(trained, tradeoff, overrides):
    results = tradeoff("--overrides", json.dumps(overrides))
    data, columns = trained["config"]["validation_data_path"], results["thresholds"]
    # Between the confidences of the data, where rounding makes no difference.
    middles = [0.0, *[(a + b) / 2 for a, b in zip(columns["threshold"], columns["threshold"][1:])]]
    wide = [
        (row, middle)
        for row, middle in enumerate(middles)
        if row == 0 or columns["threshold"][row] - columns["threshold"][row - 1] > 1e-4
    ]
    assert len(wide) > 20
    for row, threshold in [*wide[:: len(wide) // 6], (len(middles) - 1, 1.0)]:
        at_threshold = {**overrides, "model.confidence_threshold": threshold}
        metrics = evaluate_from_archive(
            trained["archive"], data, cmd_overrides=json.dumps(at_threshold)
        )
        assert columns["accuracy"][row] == pytest.approx(metrics["accuracy"])
        assert columns["macro_f1"][row] == pytest.approx(metrics["macro_f1"])
        assert columns["layer_equivalents"][row] == pytest.approx(metrics["layer_equivalents"])
        for layer, counts in zip((-1, 0, 2, 3), columns["exit_counts"]):
            assert counts[row] / 49 == pytest.approx(metrics[f"exit_rate_layer_{layer}"])


def test_with_patience_there_is_a_threshold_for_each_number_of_exits_that_agree(trained, tradeoff):
    overrides = {"model.confidence": "patience"}
    results = tradeoff("--overrides", json.dumps(overrides))
    columns, data = results["thresholds"], trained["config"]["validation_data_path"]
    assert set(columns["threshold"]) <= {float(np.float32(k / 3)) for k in range(4)}
    assert len(columns["threshold"]) > 2
    for row, threshold in enumerate(columns["threshold"]):
        metrics = evaluate_from_archive(
            trained["archive"],
            data,
            cmd_overrides=json.dumps({**overrides, "model.confidence_threshold": threshold}),
        )
        assert columns["accuracy"][row] == pytest.approx(metrics["accuracy"])
        assert columns["layer_equivalents"][row] == pytest.approx(metrics["layer_equivalents"])


def test_an_ensemble_over_all_exits_has_no_trade_off(tradeoff):
    with pytest.raises(ConfigurationError, match='"all" exits, with which no instance exits early'):
        tradeoff("--overrides", '{"model.ensemble": "all"}')


def test_heads_previous_logits_and_an_exit_on_ngrams_go_together(
    trained_with_heads, tsv, tmp_path, allennlp_command
):
    allennlp_command("tradeoff", trained_with_heads, tsv["dev"], "--output-dir", tmp_path)
    columns = json.loads((tmp_path / "tradeoff.json").read_text())["thresholds"]
    middle = len(columns["threshold"]) // 2
    threshold = (columns["threshold"][middle - 1] + columns["threshold"][middle]) / 2
    overrides = json.dumps({"model.confidence_threshold": threshold})
    metrics = evaluate_from_archive(trained_with_heads, tsv["dev"], cmd_overrides=overrides)
    assert columns["accuracy"][middle] == pytest.approx(metrics["accuracy"])
    assert columns["layer_equivalents"][middle] == pytest.approx(metrics["layer_equivalents"])


def test_the_exits_of_a_combined_model_are_shown_as_it_uses_them(
    trained_with_heads, tsv, tmp_path, allennlp_command
):
    allennlp_command("tradeoff", trained_with_heads, tsv["dev"], "--output-dir", tmp_path)
    results = json.loads((tmp_path / "tradeoff.json").read_text())
    weights = load_archive(trained_with_heads).model.combination.weights
    metrics = evaluate_from_archive(
        trained_with_heads, tsv["dev"], cmd_overrides='{"model.confidence_threshold": 1}'
    )
    assert results["full_depth"]["accuracy"] == pytest.approx(metrics["accuracy"])
    for exit_, row in zip(results["exits"], weights):
        combination = exit_["combination"]
        assert combination["weights"] == row
        accuracy = metrics[f"accuracy_layer_{exit_['exit_layer']}"]
        assert combination["accuracy"] == pytest.approx(accuracy)
        bins = exit_["reliability_after"]
        num_right = sum(n * (a or 0) for n, a in zip(bins["num_instances"], bins["accuracy"]))
        assert num_right / 49 == pytest.approx(accuracy)
        ece = sum(
            n / 49 * abs(c - a)
            for n, c, a in zip(*(bins[key] for key in ("num_instances", "confidence", "accuracy")))
            if n
        )
        assert combination["ece"] == pytest.approx(ece)
    report = (tmp_path / "report.html").read_text()
    assert 'id="combination"' in report and f"<td>{weights[0][0]:.3g}</td>" in report


def test_it_writes_all_files_and_says_so(tradeoff, tmp_path, capsys):
    results = tradeoff("--max-accuracy-drop", "0", "0.1", "--target-speedup", "1.5")
    assert {file.name for file in (tmp_path / "new" / "results").iterdir()} == FILES
    printed = capsys.readouterr().out
    for recommendation in results["recommendations"]:
        threshold = recommendation["point"]["threshold"]
        assert recommendation["overrides"] == {"model.confidence_threshold": threshold}
        assert f"--overrides '{json.dumps(recommendation['overrides'])}'" in printed
        assert f"predict-files: --threshold {threshold!r}".removesuffix(".0") in printed
    assert [r["wish"] for r in results["recommendations"]] == [
        *["max_accuracy_drop"] * 2,
        "target_speedup",
    ]
    assert "report.html" in printed
    assert results["num_instances"] == 49 and results["labels"] == ["neg", "pos"]
    assert results["command"].startswith("allennlp tradeoff ")
    assert [e["exit_layer"] for e in results["exits"]] == [-1, 0, 2, 3]


def test_classes_are_those_of_the_recommended_thresholds(tradeoff, capsys):
    results = tradeoff("--max-accuracy-drop", "0.1")
    threshold = results["recommendations"][0]["point"]["threshold"]
    assert [one["threshold"] for one in results["classes"]] == [threshold, 1.0]
    for one in results["classes"]:
        row = row_of(results, one["threshold"])
        (a, b), (c, d) = one["confusion_matrix"]
        assert (a + d) / 49 == pytest.approx(results["thresholds"]["accuracy"][row])
        assert one["recall"] == pytest.approx([a / (a + b), d / (c + d)])
        assert one["precision"] == pytest.approx([a / (a + c), d / (b + d)])
        f1 = [2 * a / (2 * a + b + c), 2 * d / (2 * d + b + c)]
        assert (
            one["macro_f1"] == results["thresholds"]["macro_f1"][row] == pytest.approx(np.mean(f1))
        )
    assert "macro F1" in capsys.readouterr().out


def test_a_class_that_loses_more_than_accuracy_is_named_everywhere(
    tradeoff, tmp_path, capsys, monkeypatch
):
    loss = ClassLoss("pos", 0.72, 0.976, 25, 0.01, 0.004)
    monkeypatch.setattr(tradeoff_results, "class_losses", lambda *given: [loss])
    results = tradeoff("--max-accuracy-drop", "0.1")
    assert results["classes"][0]["losing_more_than_accuracy"] == [asdict(loss)]
    report = (tmp_path / "new" / "results" / "report.html").read_text()
    for text in (capsys.readouterr().out, report.replace("&#39;", "'").replace("&gt;", ">")):
        assert "recall drops clearly more than accuracy, which drops by 1 point, of: " in text
        assert "'pos' 0.976 -> 0.720 of 25" in text


def test_an_exit_that_is_clearly_better_than_the_last_is_warned_of_everywhere(
    tradeoff, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(commands.tradeoff, "better_exit_of", lambda *given: None)
    assert tradeoff()["better_exit"] is None
    report = tmp_path / "new" / "results" / "report.html"
    assert "clearly more accurate" not in capsys.readouterr().out + report.read_text()

    better = find_better_exit(np.arange(49) < np.array([[20], [45], [45], [30]]), [-1, 0, 2, 3])
    monkeypatch.setattr(commands.tradeoff, "better_exit_of", lambda *given: better)
    found = tradeoff()["better_exit"]
    assert (found["exit_layer"], found["num_gained"], found["num_lost"]) == (0, 15, 0)
    assert found["accuracy"] == 45 / 49 and found["last_accuracy"] == 30 / 49
    assert better.warning().startswith("The exit after layer 0 is clearly more accurate than the")
    assert f"WARNING. {better.warning()}" in capsys.readouterr().out
    assert better.warning() in report.read_text()


def test_the_better_exit_is_that_of_the_predictions(trained):
    model = load_archive(trained["archive"]).model
    labels = np.arange(60) % 2
    logits = np.stack([np.eye(2)[labels]] * 4).astype(np.float32)
    logits[[0, 2, 3], :20] *= -1  # wrong at all but the second exit
    found = better_exit_of(model, FullDepth(logits, [None] * 4, labels))
    assert (found.exit_layer, found.accuracy, found.last_accuracy) == (0, 1, 40 / 60)
    assert better_exit_of(model, FullDepth(logits[[0, 2, 1, 1]], [None] * 4, labels)) is None


def test_the_csv_has_the_columns_of_the_json(tradeoff, tmp_path):
    columns = tradeoff()["thresholds"]
    with open(tmp_path / "new" / "results" / "tradeoff.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(columns["threshold"])
    for name in set(columns) - {"exit_counts"}:
        found = [None if row[name] == "" else float(row[name]) for row in rows]
        assert found == columns[name]
    for layer, counts in zip((-1, 0, 2, 3), columns["exit_counts"]):
        assert [int(row[f"num_leaving_layer_{layer}"]) for row in rows] == counts


def test_measuring_times_the_recommended_thresholds_and_gives_the_same_accuracy(tradeoff, capsys):
    results = tradeoff("--measure", "0.6", "--rounds", "1", "--target-speedup", "2")
    recommended = results["recommendations"][0]["point"]["threshold"]
    assert {m["threshold"] for m in results["measured"]} == {0.6, recommended, 1.0}
    for measured in results["measured"]:
        accuracy = results["thresholds"]["accuracy"][row_of(results, measured["threshold"])]
        assert measured["accuracy"] == pytest.approx(accuracy)
        assert measured["texts_per_second"] == pytest.approx(49 / measured["seconds"])
    assert results["measured"][-1]["speed_up"] == 1
    assert "texts/s" in capsys.readouterr().out


def test_measuring_without_thresholds_times_all_of_the_table(tradeoff):
    results = tradeoff("--measure", "--rounds", "1")
    assert {0.0, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0} <= {m["threshold"] for m in results["measured"]}


def test_wishes_of_classes_time_and_money(tradeoff, capsys):
    results = tradeoff(
        *("--metric", "macro_f1", "--max-accuracy-drop", "0.1", "--max-recall-drop", "0.1"),
        *("--max-milliseconds", "1e6", "1e-6", "--max-cost", "1e9", "--cpu-hour-price", "0.05"),
        *("--rounds", "1"),
    )
    found = results["recommendations"]
    assert [one["wish"] for one in found] == [
        *("max_macro_f1_drop", "max_recall_drop", "max_milliseconds", "max_milliseconds"),
        "max_cost",
    ]
    by_f1, by_recall, slow, fast, cheap = (row_of(results, r["point"]["threshold"]) for r in found)
    columns = results["thresholds"]
    assert columns["macro_f1"][-1] - columns["macro_f1"][by_f1] <= 0.1
    assert columns["worst_recall_drop"][by_recall] <= 0.1
    timed = [row_of(results, one["threshold"]) for one in results["measured"]]
    best = max(columns["macro_f1"][row] for row in timed)
    assert columns["macro_f1"][slow] == columns["macro_f1"][cheap] == best
    assert [one["is_satisfied"] for one in found] == [True, True, True, False, True]
    assert fast in timed
    assert "For at most 10 points of macro F1 lost: take" in capsys.readouterr().out


@needs_int8
def test_given_overrides_are_among_those_to_paste(tradeoff):
    results = tradeoff("--overrides", '{"model.precision": "int8"}')
    overrides = results["recommendations"][0]["overrides"]
    threshold = results["recommendations"][0]["point"]["threshold"]
    assert overrides == {
        "model.precision": "int8",
        "model.confidence_threshold": threshold,
    }
    assert results["precision"] == "int8"


@needs_int8
def test_a_threshold_goes_into_an_override_of_the_whole_model(trained, tradeoff):
    with tarfile.open(trained["archive"]) as archive:
        model = json.load(archive.extractfile("config.json"))["model"]
    results = tradeoff("--overrides", json.dumps({"model": {**model, "precision": "int8"}}))
    recommendation = results["recommendations"][0]
    loaded = load_archive(trained["archive"], overrides=json.dumps(recommendation["overrides"]))
    assert loaded.model.confidence_threshold == recommendation["point"]["threshold"]
    assert loaded.model.encoder.precision == "int8"


@pytest.mark.parametrize("fails", [False, True])
def test_measuring_leaves_the_models_threshold_as_it_was(trained, monkeypatch, fails):
    archive = load_archive(trained["archive"])
    model = archive.model.eval()
    model.confidence_threshold = 0.8
    instances = list(
        archive.validation_dataset_reader.read(trained["config"]["validation_data_path"])
    )

    def run(texts):
        if fails and model.confidence_threshold == 1:
            raise MemoryError
        return original(texts)

    original = model.run_early_exit
    monkeypatch.setattr(model, "run_early_exit", run)
    with pytest.raises(MemoryError) if fails else nullcontext():
        measure(model, instances, [0.5], rounds=1, batch_size=16)
    assert model.confidence_threshold == 0.8


def test_the_hardest_and_easiest_are_those_of_the_least_and_most_probable_labels(trained, tmp_path):
    parser = Tradeoff().add_subparser(argparse.ArgumentParser().add_subparsers())
    data = trained["config"]["validation_data_path"]
    arguments = [trained["archive"], data, "--output-dir", str(tmp_path), "--num-examples", "3"]
    results = tradeoff_from_args(parser.parse_args(arguments))
    archive = load_archive(trained["archive"])
    model, reader = archive.model.eval(), archive.validation_dataset_reader
    lines = Path(data).read_text().splitlines()
    difficulties = []
    for line in lines:
        label, text = line.split("\t")
        tokens = reader.text_to_instance(text)
        reader.apply_token_indexers(tokens)
        tokens.index_fields(model.vocab)
        with torch.no_grad():
            logits = model.all_exit_logits(allennlp_collate([tokens])["tokens"])[:, 0]
        probs = (logits / model.temperatures.unsqueeze(1)).softmax(-1)
        right = model.label_names().index(label)
        difficulties.append(float(-probs[:, right].log().mean()))
    ranked = sorted(difficulties)
    for examples, wanted in ((results.easiest, ranked[:3]), (results.hardest, ranked[::-1][:3])):
        assert [e.difficulty for e in examples] == pytest.approx(wanted, abs=1e-5)
        for example in examples:
            line = lines[example.number - 1].replace(" ", "")
            assert f"{example.label}\t{example.text}".replace(" ", "") == line
            assert difficulties[example.number - 1] == pytest.approx(example.difficulty, abs=1e-5)


def test_a_guarantee_that_this_data_cannot_give(tradeoff, capsys):
    results = tradeoff("--confidence-level", "0.95", "--max-accuracy-drop", "0.01")
    (recommendation,) = results["recommendations"]
    assert recommendation["point"]["threshold"] == 1
    assert "it takes at least 299 instances, here are 49" in capsys.readouterr().out


def test_the_batch_size_does_not_matter(tradeoff):
    wanted = tradeoff()["thresholds"]
    for batch_size in (1, 5, 1000):
        found = tradeoff("--batch-size", batch_size)["thresholds"]
        for name in ("accuracy_drop", "layer_equivalents"):
            assert found[name] == pytest.approx(wanted[name])
        assert found["threshold"] == pytest.approx(wanted["threshold"], abs=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--max-accuracy-drop", "1"], "accuracy drop is 1.0: wanted a share"),
        (["--target-speedup", "0.9"], "target speed-up is 0.9: wanted at least 1"),
        (["--confidence-level", "95"], "confidence level is 95.0: wanted a probability"),
        (["--confidence-level", "0.9999"], "confidence level is 0.9999: wanted .* at most 0.999"),
        (["--max-recall-drop", "1"], "recall drop is 1.0: wanted a share"),
        (["--max-milliseconds", "0"], "--max-milliseconds is 0.0: wanted a number above 0"),
        (["--max-cost", "1"], "one of --max-cost and --cpu-hour-price: wanted both"),
        (["--cpu-hour-price", "1"], "one of --max-cost and --cpu-hour-price: wanted both"),
        (
            ["--metric", "macro_f1", "--confidence-level", "0.9"],
            "a drop of macro_f1 cannot be guaranteed.* wanted --metric accuracy",
        ),
        (["--measure", "1.2"], "confidence_threshold is 1.2: wanted a number from 0 to 1"),
        (["--rounds", "0"], "--rounds is 0: wanted at least 1"),
        (["--batch-size", "0"], "--batch-size is 0: wanted at least 1"),
        (["--num-examples", "-1"], "--num-examples is -1: wanted at least 0"),
    ],
)
def test_a_bad_argument_is_refused(tradeoff, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        tradeoff(*arguments)


def test_an_output_folder_that_is_a_file_is_refused(trained, tmp_path, allennlp_command):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigurationError, match="cannot write to .* wanted another --output-dir"):
        allennlp_command(
            "tradeoff", trained["archive"], "data.tsv", "--output-dir", tmp_path / "file"
        )
    assert (tmp_path / "file").read_text() == "kept"


def test_data_with_an_unseen_label_is_refused(tradeoff, tmp_path):
    data = tmp_path / "new.tsv"
    data.write_text("pos\tgood\nso-so\tbad\n")
    with pytest.raises(
        ValueError, match=r"new.tsv, line 2: label 'so-so' .*wanted one of neg, pos"
    ):
        tradeoff(data=data)


def test_empty_data_is_refused(tradeoff, tmp_path):
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(Exception, match="empty.tsv"):
        tradeoff(data=tmp_path / "empty.tsv")


def test_an_archive_of_another_model_is_refused(tmp_path, tsv, allennlp_command):
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    config = {
        "dataset_reader": {"type": "labeled_tsv", "tokenizer": "whitespace"},
        "train_data_path": tsv["train"],
        "model": {
            "type": "basic_classifier",
            "text_field_embedder": {"token_embedders": {"tokens": {"embedding_dim": 2}}},
            "seq2vec_encoder": {"type": "boe", "embedding_dim": 2},
        },
        "data_loader": {"batch_size": 16},
        "trainer": {"num_epochs": 1, "optimizer": {"type": "sgd", "lr": 0.1}},
    }
    config["dataset_reader"]["token_indexers"] = {"tokens": "single_id"}
    train_model(Params(config), str(tmp_path / "run"))
    for trust, message in (
        ([], "model.type is 'basic_classifier': wanted multi_exit_classifier"),
        (["--trust-archive"], "class BasicClassifier: wanted a multi_exit"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            allennlp_command(
                "tradeoff",
                tmp_path / "run" / "model.tar.gz",
                tsv["dev"],
                "--output-dir",
                tmp_path / "new",
                *trust,
            )
