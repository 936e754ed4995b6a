import json
import shutil

import pytest


def test_a_trained_archive_can_be_loaded(trained, allennlp_command, capsys):
    allennlp_command("check-archive", trained["archive"])
    printed = capsys.readouterr().out
    assert "'weights.th'" in printed and "'config.json'" in printed
    assert "'model': multi_exit_classifier (sledgehammer_allennlp.models." in printed
    assert "'dataset_reader.tokenizer': pretrained_transformer (sledgehammer_allennlp" in printed
    assert printed.endswith("It can be loaded: nothing of it is run.\n")


def test_a_hostile_one_is_refused_with_all_reasons(trained, tmp_path, allennlp_command, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained["run"], run, ignore=shutil.ignore_patterns("*.tar.gz"))
    config = json.loads((run / "config.json").read_text())
    config["model"]["loss"] = {"type": "os.mkdir", "path": str(tmp_path / "marker")}
    config["dataset_reader"]["type"] = "evil\n\nIt can be loaded: nothing of it is run."
    (run / "config.json").write_text(json.dumps(config))
    (run / "evil.py").write_text("")
    (run / ".allennlp_plugins").write_text("evil")
    with pytest.raises(SystemExit) as exit_:
        allennlp_command("check-archive", run)
    assert exit_.value.code == 1
    printed = capsys.readouterr().out
    assert "It should not be loaded:\n" in printed
    assert "  - config key model.loss.type is 'os.mkdir', which is imported and called" in printed
    assert "\nIt can be loaded" not in printed
    assert "Loading it does not run these" in printed and "  'evil.py'\n" in printed
    assert "  '.allennlp_plugins'\n" in printed
    assert not (tmp_path / "marker").exists()


def test_what_cannot_be_read_is_refused(trained, tmp_path, allennlp_command, capsys):
    with open(trained["archive"], "rb") as whole:
        (tmp_path / "cut.tar.gz").write_bytes(whole.read()[:5000])
    for archive, message in (("cut.tar.gz", "it is cut off"), ("none.tar.gz", "none.tar.gz")):
        with pytest.raises(SystemExit) as exit_:
            allennlp_command("check-archive", tmp_path / archive)
        assert exit_.value.code == 1
        assert message in capsys.readouterr().out
