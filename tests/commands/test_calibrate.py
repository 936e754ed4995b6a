import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.archives.model_card import base_model_line
from sledgehammer_allennlp.calibration import calibrate_exits
from sledgehammer_allennlp.commands.labelled_data import read_labelled, run_all_exits_on
from sledgehammer_allennlp.tradeoff.class_losses import ClassLoss
from sledgehammer_allennlp.training import model_calibration
from sledgehammer_allennlp.training.full_depth import class_curve_of, curve_of
from sledgehammer_allennlp.training.model_calibration import check_threshold_can_be_chosen
from tests.archives.test_model_card import rows_of
from tests.tiny import SENTENCES


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Data on which the exits of the trained model are less often right."""
    path = tmp_path_factory.mktemp("other") / "other.tsv"
    lines = [
        f"{'pos' if ('good' in text) != (i % 5 == 0) else 'neg'}\t{text}\n"
        for i, text in enumerate(SENTENCES * 3)
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def calibrate(trained, other_data, tmp_path, allennlp_command):
    """Runs `allennlp calibrate`, and gives the path of the archive it writes."""

    def run(*arguments, data=other_data, archive=trained["archive"]):
        output = tmp_path / "calibrated.tar.gz"
        allennlp_command("calibrate", archive, data, "--output-archive", output, *arguments)
        return output

    return run


def contents(archive):
    with tarfile.open(archive) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


def fitted(archive_file, data):
    """The temperatures that fit, computed from the archive's logits."""
    archive = load_archive(archive_file)
    model = archive.model.eval()
    found = run_all_exits_on(model, read_labelled(archive, model, str(data)), 64)
    return [c.temperature for c in calibrate_exits(found.logits, found.labels, model.exit_layers)]


def test_the_new_archive_has_the_fitted_temperatures_and_else_the_old_content(
    trained, calibrate, other_data, capsys
):
    before = Path(trained["archive"]).read_bytes()
    output = calibrate()
    wanted = fitted(trained["archive"], other_data)
    model = load_archive(output).model
    np.testing.assert_allclose(model.temperatures.numpy(), wanted, rtol=1e-5)
    assert (model.temperatures - trained["model"].temperatures).abs().min() > 1e-3
    old, new = contents(trained["archive"]), contents(output)
    assert set(old) == set(new)
    changed = {name for name in old if old[name] != new[name]}
    assert changed == {"weights.th", "calibration.json", "model_card.md"}
    weights = model.state_dict()
    for name, tensor in trained["model"].state_dict().items():
        assert name == "temperatures" or torch.equal(weights[name], tensor)
    assert Path(trained["archive"]).read_bytes() == before
    report = json.loads(new["calibration.json"])
    assert report["num_instances"] == 3 * 49
    assert [e["temperature"] for e in report["exits"]] == model.temperatures.tolist()
    old_temperatures = trained["model"].temperatures.tolist()
    assert [e["temperature_before"] for e in report["exits"]] == old_temperatures
    for exit_ in report["exits"]:
        assert exit_["nll_after"] < exit_["nll_before"]
    printed = capsys.readouterr().out
    for exit_ in report["exits"]:
        assert f"{exit_['nll_before']:.4f}  -> {exit_['nll_after']:.4f}" in printed
    assert str(output) in printed


@pytest.mark.parametrize("names", ["./", "links"])
def test_archives_are_understood_that_were_packed_by_hand(
    trained, calibrate, other_data, tmp_path, names
):
    folder = tmp_path / "unpacked"
    with tarfile.open(trained["archive"]) as tar:
        tar.extractall(folder, filter="data")
    archive = tmp_path / "packed.tar.gz"
    if names == "./":
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, arcname=".")
    else:
        (folder / "weights.th").rename(tmp_path / "elsewhere.th")
        (folder / "weights.th").symlink_to(tmp_path / "elsewhere.th")
        archive = folder
    output = calibrate(archive=archive)
    wanted = fitted(trained["archive"], other_data)
    np.testing.assert_allclose(load_archive(output).model.temperatures, wanted, rtol=1e-5)
    report = json.loads(contents(output)["calibration.json"])
    assert [e["temperature"] for e in report["exits"]] == pytest.approx(wanted, rel=1e-5)


def test_members_are_copied_as_plain_files_and_not_from_elsewhere(trained, calibrate, tmp_path):
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(trained["archive"]) as old, tarfile.open(archive, "w:gz") as new:
        for member in old:
            member.mode, member.uname = 0o6777, "somebody"
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        link = tarfile.TarInfo("alias.json")
        link.type, link.linkname = tarfile.LNKTYPE, "config.json"
        new.addfile(link)
    output = calibrate(archive=archive)
    assert contents(output)["alias.json"] == contents(trained["archive"])["config.json"]
    with tarfile.open(output) as tar:
        assert all(member.isfile() or member.isdir() for member in tar)
        assert all(member.mode & 0o6022 == 0 and member.uname == "" for member in tar)
    output.unlink()
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("secret")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ConfigurationError, match="its member 'secret' is a link to '/etc/passwd'"):
        calibrate(archive=archive)
    assert not output.exists()


def test_a_second_fit_changes_nothing(calibrate, other_data, tmp_path, allennlp_command):
    once = calibrate()
    twice = tmp_path / "twice.tar.gz"
    allennlp_command("calibrate", once, other_data, "--output-archive", twice)
    temperatures = [load_archive(archive).model.temperatures for archive in (once, twice)]
    assert torch.equal(*temperatures)


def test_exits_are_combined_if_told_or_if_they_were_and_not_if_told(
    calibrate, trained, tmp_path, capsys
):
    def combination_of(archive):
        report = json.loads(contents(archive)["calibration.json"])["exits"]
        weights = load_archive(archive).model.combination.weights
        combined = [exit_["combination"] for exit_ in report]
        assert weights == (combined[0] and [one["weights"] for one in combined])
        return weights, report

    assert combination_of(calibrate())[0] is None
    assert "Exits combined" not in capsys.readouterr().out
    combined = calibrate("--force", "--combine-exits").rename(tmp_path / "combined.tar.gz")
    printed = capsys.readouterr().out
    weights, report = combination_of(combined)
    assert [exit_["combination_before"] for exit_ in report] == [None] * 4
    for exit_ in report:
        combination = exit_["combination"]
        assert f"{exit_['nll_after']:.4f}  -> {combination['nll']:.4f}" in printed
    dev = trained["config"]["validation_data_path"]
    again, report = combination_of(calibrate(data=dev, archive=combined))
    assert [exit_["combination_before"]["weights"] for exit_ in report] == weights
    assert again is not None and again != weights
    without = calibrate("--force", "--no-combine-exits", archive=combined)
    alone, report = combination_of(without)
    assert alone is None
    assert [exit_["combination_before"]["weights"] for exit_ in report] == weights


def test_the_folder_of_a_run_can_be_calibrated(trained, calibrate, other_data, caplog):
    caplog.set_level("INFO", logger="sledgehammer_allennlp")
    from_archive, from_folder = calibrate(), calibrate("--force", archive=trained["run"])
    models = [load_archive(archive).model for archive in (from_archive, from_folder)]
    assert torch.equal(models[0].temperatures, models[1].temperatures)
    assert "Written: " not in caplog.text  # of the archive in between, which is removed


def test_the_default_output_is_beside_the_archive(trained, other_data, tmp_path, allennlp_command):
    archive = tmp_path / "model.tar.gz"
    shutil.copy(trained["archive"], archive)
    allennlp_command("calibrate", archive, other_data)
    assert (tmp_path / "model.calibrated.tar.gz").exists()
    assert archive.read_bytes() == Path(trained["archive"]).read_bytes()


def test_what_exists_is_replaced_only_if_told(trained, other_data, tmp_path, allennlp_command):
    archive = tmp_path / "model.tar.gz"
    shutil.copy(trained["archive"], archive)
    arguments = ["calibrate", archive, other_data, "--output-archive", archive]
    with pytest.raises(ConfigurationError, match="model.tar.gz' exists: wanted another"):
        allennlp_command(*arguments)
    assert archive.read_bytes() == Path(trained["archive"]).read_bytes()
    allennlp_command(*arguments, "--force")
    temperatures = load_archive(archive).model.temperatures
    np.testing.assert_allclose(temperatures, fitted(trained["archive"], other_data), rtol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["model.tar.gz"]


def test_a_failure_leaves_nothing_behind(calibrate, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("sledgehammer_allennlp.commands.calibrate._calibrated_weights", fail)
    with pytest.raises(ConfigurationError, match="cannot be written: .* no space left"):
        calibrate()
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_can_be_chosen_too(trained, calibrate, capsys):
    output = calibrate("--max-accuracy-drop", "0.3")
    model = load_archive(output).model
    report = json.loads(contents(output)["calibration.json"])
    assert model.confidence_threshold == report["recommended_threshold"] < 1
    assert f"Default threshold of the new archive: {model.confidence_threshold:g}" in (
        capsys.readouterr().out
    )


def test_a_threshold_is_not_chosen_where_the_config_has_one(calibrate):
    with pytest.raises(ConfigurationError, match="config has confidence_threshold 0.77"):
        calibrate("--max-accuracy-drop", 0.1, "--overrides", '{"model.confidence_threshold": 0.77}')


def test_an_old_threshold_stays_and_is_warned_of(trained, calibrate, tmp_path, caplog):
    chosen = calibrate("--max-accuracy-drop", "0.3").rename(tmp_path / "chosen.tar.gz")
    assert load_archive(calibrate(archive=chosen)).model.confidence_threshold < 1
    assert "was chosen with its old temperatures, and stays" in caplog.text


def test_data_of_one_class_is_refused(calibrate, tmp_path):
    (tmp_path / "one.tsv").write_text("pos\tgood\n" * 120)
    with pytest.raises(ConfigurationError, match="all 120 instances .* have the label 'pos'"):
        calibrate(data=tmp_path / "one.tsv")
    assert not (tmp_path / "calibrated.tar.gz").exists()


def test_little_data_is_warned_of(calibrate, tmp_path, caplog):
    lines = [f"{'pos' if i % 3 else 'neg'}\t{text}\n" for i, text in enumerate(SENTENCES)]
    (tmp_path / "few.tsv").write_text("".join(lines))
    calibrate(data=tmp_path / "few.tsv")
    assert "has only 49 instances: temperatures will be uncertain" in caplog.text


def test_an_unseen_label_is_refused(calibrate, tmp_path):
    (tmp_path / "new.tsv").write_text("pos\tgood\nneg\tbad\nso-so\tbad\n")
    with pytest.raises(ValueError, match="new.tsv, line 3: label 'so-so'"):
        calibrate(data=tmp_path / "new.tsv")


def test_an_archive_that_is_not_there_is_refused(calibrate, tmp_path):
    with pytest.raises(ConfigurationError, match="nowhere.tar.gz not found"):
        calibrate(archive=tmp_path / "nowhere.tar.gz")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    trained, other_data, tmp_path, allennlp_command
):
    for output in (tmp_path, tmp_path / "no" / "folder.tar.gz"):
        with pytest.raises(ConfigurationError, match="wanted a file in a folder that exists"):
            allennlp_command(
                "calibrate", trained["archive"], other_data, "--output-archive", output
            )


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"model.ensemble": "all"}, "change the model's ensemble, which the new archive will not"),
        ({"model.confidence": "patience"}, "change the model's confidence, which the new archive"),
        ({"model": {"confidence": "entropy"}}, "change the model's confidence"),
    ],
)
def test_no_threshold_is_chosen_for_a_rule_that_is_not_kept(calibrate, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        calibrate("--max-accuracy-drop", 0.1, "--overrides", json.dumps(overrides))


def test_no_threshold_is_chosen_where_nobody_leaves_early(trained):
    model = load_archive(trained["archive"], overrides={"model.ensemble": "all"}).model
    with pytest.raises(ConfigurationError, match='"all" exits, with which no instance exits early'):
        check_threshold_can_be_chosen(model)


@pytest.mark.parametrize("option", ["--max-recall-drop", "--metric"])
def test_a_threshold_can_be_chosen_by_the_recall_of_labels_and_by_macro_f1(
    trained, calibrate, other_data, capsys, option
):
    arguments = ["--max-accuracy-drop", "0.05", "--metric", "macro_f1"]
    if option == "--max-recall-drop":
        arguments = ["--max-recall-drop", "0.05"]
    output = calibrate(*arguments)
    archive = load_archive(output)
    model = archive.model.eval()
    threshold = model.confidence_threshold
    full_depth = run_all_exits_on(model, read_labelled(archive, model, str(other_data)), 64)
    curve = curve_of(model, full_depth)
    classes = class_curve_of(model, full_depth, curve)
    limited = classes.worst_recall_drop
    key = "max_recall_drop"
    if option == "--metric":
        limited, key = classes.macro_f1[-1] - classes.macro_f1, "max_macro_f1_drop"
    row = curve.row_of(threshold)
    assert limited[row] <= 0.05
    is_faster = curve.layer_equivalents < curve.layer_equivalents[row]
    assert (limited[is_faster] > 0.05).all()
    report = json.loads(contents(output)["calibration.json"])
    assert report[key] == 0.05 and report["recommended_threshold"] == threshold
    assert "max_accuracy_drop" not in report


def test_labels_that_lose_most_at_the_chosen_threshold_are_named(calibrate, capsys, monkeypatch):
    loss = ClassLoss("pos", 0.5, 0.9, 25, -0.01, 0.004)
    monkeypatch.setattr(model_calibration, "class_losses", lambda *given: [loss])
    calibrate("--max-accuracy-drop", "0.3")
    printed = capsys.readouterr().out
    assert "recall drops clearly more than accuracy of: 'pos' 0.900 -> 0.500 of 25" in printed


def test_two_drops_at_once_are_refused(calibrate):
    with pytest.raises(ConfigurationError, match="found max_accuracy_drop and max_recall_drop"):
        calibrate("--max-accuracy-drop", "0.3", "--max-recall-drop", "0.3")
    with pytest.raises(ConfigurationError, match="max_recall_drop: the recall drop is 2.0: wanted"):
        calibrate("--max-recall-drop", "2")


def test_what_is_unknown_to_the_exit_over_ngrams_is_learned_and_kept(
    trained_with_heads, other_data, tmp_path, allennlp_command, capsys
):
    output = tmp_path / "calibrated.tar.gz"
    allennlp_command("calibrate", trained_with_heads, other_data, "--output-archive", output)
    archive = load_archive(output)
    model = archive.model.eval()
    found = run_all_exits_on(model, read_labelled(archive, model, str(other_data)), 64)
    share = np.quantile(found.seen_share, 0.05)
    assert model.exits.min_seen_share == pytest.approx(share)
    assert load_archived_classifier(output).exits.min_seen_share == pytest.approx(share)
    report = json.loads(contents(output)["calibration.json"])
    assert report["min_seen_share"] == pytest.approx(share)
    assert (
        f"Of a text's n-grams, {100 * share:.0f} % must be known from training to exit at the "
        "exit over them; 5 % of these texts have fewer" in capsys.readouterr().out
    )

    classifier = load_archived_classifier(output, confidence_threshold=1e-3)
    classifier.exits.ngrams.min_seen_share = 0.5
    known, unknown = "it was a good day", "xyzzy qwrtp zzgh"
    assert [one["exit_layer"] for one in classifier.predict([known, unknown])] == [-1, 0]
    classifier.confidence_threshold = 0.0
    answers = classifier.predict([known, unknown])
    assert [one["exit_layer"] for one in answers] == [-1, -1]
    assert answers[1]["confidence"] == 0 < answers[0]["confidence"]


def test_archives_from_before_know_everything(trained_with_heads, tmp_path):
    with tarfile.open(trained_with_heads) as archive:
        archive.extractall(tmp_path / "old")
    weights = torch.load(tmp_path / "old" / "weights.th")
    del weights["exits.classifiers.0._extra_state"]
    torch.save(weights, tmp_path / "old" / "weights.th")
    assert load_archive(tmp_path / "old").model.exits.min_seen_share == 0
    assert load_archived_classifier(tmp_path / "old").exits.min_seen_share == 0


def test_a_new_archive_has_a_new_card(trained, calibrate, other_data, allennlp_command):
    output = calibrate()
    new = contents(output)
    card, report = new["model_card.md"].decode("utf-8"), json.loads(new["calibration.json"])
    rows = rows_of(card)
    (names,) = [row for row in rows if row[0] == "file"]
    assert names[1].endswith("/train.tsv`") and names[2] == f"`{other_data.parent.name}/other.tsv`"
    assert ["texts", "not known", str(3 * 49)] in rows
    for exit_ in report["exits"]:
        (row,) = [r for r in rows if r[0] == str(exit_["exit_layer"]) and len(r) == 5]
        assert row[-1] == f"{exit_['temperature']:.3f}"
    allennlp_command("check-archive", output)
    assert load_archived_classifier(output).predict(["a day"])


def test_an_archive_without_a_card_gets_one(trained, calibrate, tmp_path):
    archive = tmp_path / "without.tar.gz"
    with tarfile.open(trained["archive"]) as old, tarfile.open(archive, "w:gz") as new:
        for member in old:
            if member.name != "model_card.md":
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
    assert "model_card.md" not in contents(archive)
    assert b"# A text classifier" in contents(calibrate(archive=archive))["model_card.md"]


@pytest.mark.parametrize("is_named", [True, False])
def test_only_a_card_that_knows_the_hubs_name_hands_it_on(trained, calibrate, tmp_path, is_named):
    name = load_archive(trained["archive"]).config["model"]["transformer_model"]
    archive = tmp_path / "named.tar.gz"
    text = f"---\n{base_model_line(name if is_named else 'another')}\n---\n".encode()
    with tarfile.open(trained["archive"]) as old, tarfile.open(archive, "w:gz") as new:
        for member in old:
            file = old.extractfile(member) if member.isfile() else None
            if member.name == "model_card.md":
                member.size, file = len(text), io.BytesIO(text)
            new.addfile(member, file)
    card = contents(calibrate(archive=archive))["model_card.md"].decode("utf-8")
    assert (base_model_line(name) in card) is is_named


def test_overrides_of_the_fit_are_in_the_card(trained, calibrate):
    card = contents(calibrate("--overrides", '{"model.confidence": "margin"}'))["model_card.md"]
    assert b"overrides, which are not kept" in card and b'"margin"' in card
