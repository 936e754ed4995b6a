"""`python -m sledgehammer_allennlp`, where AllenNLP is not installed, and where it is."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import List

import pytest

from sledgehammer_allennlp import archives
from sledgehammer_allennlp.__main__ import COMMANDS, main
from sledgehammer_allennlp.archives import command as check_archive

WITHOUT_ALLENNLP = """
import sys
sys.modules["allennlp"] = None
from sledgehammer_allennlp.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def without_allennlp(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_ALLENNLP, *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"\n    {name}" in printed and " ".join(command.HELP.split()[:3]) in printed


def test_without_a_command_there_is_help(capsys):
    assert main([]) == 2
    printed = capsys.readouterr().err
    assert all(f"\n    {name}" in printed for name in COMMANDS)


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["no-such"])
    assert exit_.value.code == 2
    assert "invalid choice: 'no-such'" in capsys.readouterr().err


def test_ctrl_c_and_errors_of_the_user_are_short_messages(monkeypatch, capsys):
    def failing(error: BaseException):
        def run(args):
            raise error

        return run

    for error, status in ((KeyboardInterrupt(), 130), (ValueError("no good"), 2)):
        monkeypatch.setattr(COMMANDS["check-archive"], "run", failing(error))
        assert main(["check-archive", "x"]) == status
    assert capsys.readouterr().err == (
        "check-archive: interrupted\ncheck-archive: error: no good\n"
    )


def test_output_that_nothing_reads_is_no_error_of_the_user(tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_ALLENNLP, "check-archive", str(tmp_path)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert (found.returncode, found.stderr) == (141, "")


def test_an_archive_is_checked_without_allennlp(trained):
    found = without_allennlp("check-archive", trained["archive"])
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert "'weights.th'" in found.stdout and "'config.json'" in found.stdout
    assert "  'model': multi_exit_classifier (ArchivedClassifier)" in lines
    assert lines[-1].startswith("load_archived_classifier can load it: nothing of it is run.")
    assert "AllenNLP is not installed" in lines[-1]


def test_with_allennlp_the_check_is_that_of_its_command(trained, capsys):
    assert main(["check-archive", trained["archive"]]) == 0
    assert capsys.readouterr().out.endswith("\nIt can be loaded: nothing of it is run.\n")


def changed(trained, folder: Path, change) -> Path:
    """The run with a changed config."""
    shutil.copytree(trained["run"], folder / "run", ignore=shutil.ignore_patterns("*.tar.gz"))
    config = json.loads((folder / "run" / "config.json").read_text())
    change(config)
    (folder / "run" / "config.json").write_text(json.dumps(config))
    return folder / "run"


def _other_model(config):
    config["model"]["type"] = "basic_classifier"


def _no_transformer(config):
    del config["model"]["transformer_model"]


def _other_transformer(config):
    config["model"]["transformer_model"] = "/etc"


def _tokenizer_runs_code(config):
    settings = config["dataset_reader"]["tokenizer"]
    settings["tokenizer_kwargs"] = {"trust_remote_code": True}


def _labels_elsewhere(config):
    config["model"]["label_namespace"] = "../../secret"


def _model_is_a_list(config):
    config["model"] = [1]


def _reader(key, value):
    def change(config):
        config["dataset_reader"][key] = value

    return change


def _reader_is_a_word(config):
    config["dataset_reader"] = "x"


def _included_is_a_number(config):
    config["include_in_archive"] = 5


@pytest.mark.parametrize(
    "change, problem",
    [
        (_labels_elsewhere, "model.label_namespace is '../../secret', which would be elsewhere as"),
        (_reader_is_a_word, "config key dataset_reader is 'x': wanted a dictionary"),
        (_reader("tokenizer", "x"), "key dataset_reader.tokenizer is 'x': wanted a dictionary"),
        (_reader("token_indexers", [1]), "dataset_reader.token_indexers is [1]: wanted a dict"),
        (
            _reader("tokenizer", {"type": "pretrained_transformer"}),
            "config key dataset_reader.tokenizer.model_name is None: wanted a name",
        ),
        (_included_is_a_number, "config key include_in_archive is 5: wanted a list of names"),
        (_model_is_a_list, "config key model is [1]: wanted a dictionary"),
        (_other_model, "model is of type 'basic_classifier': wanted 'multi_exit_classifier'"),
        (_no_transformer, "config has no key model.transformer_model"),
        (_other_transformer, "it has no config.json of '/etc'"),
        (_tokenizer_runs_code, "tokenizer_kwargs.trust_remote_code is True"),
    ],
)
def test_what_it_refuses_is_what_loading_refuses(trained, tmp_path, change, problem, capsys):
    run = changed(trained, tmp_path, change)
    (found,) = archives.check_archive(run).problems
    assert problem in found
    args = type("Arguments", (), {"archive_file": str(run)})
    assert check_archive.run(args) == 1
    assert f"It should not be loaded:\n  - {found}\n" in capsys.readouterr().out
    with pytest.raises(ValueError) as refused:
        archives.load_archived_classifier(run)
    assert problem in str(refused.value)


def test_weights_that_are_missing_or_a_program_are_refused(trained, tmp_path):
    run = changed(trained, tmp_path, lambda config: None)
    (run / "best.th").write_bytes(b"not weights")
    (problem,) = archives.check_archive(run).problems
    assert "cannot read the weights" in problem
    (run / "best.th").unlink()
    assert archives.check_archive(run).problems == [
        "found no weights: wanted one of weights.th, best.th"
    ]


@pytest.mark.parametrize("bad", ["missing", "text", "escaping"])
def test_what_is_no_archive_is_refused_without_allennlp(tmp_path, bad):
    archive = tmp_path / "model.tar.gz"
    wanted: List[str] = ["there is no archive"]
    if bad == "text":
        archive.write_text("text")
        wanted = ["cannot read the archive"]
    elif bad == "escaping":
        with tarfile.open(archive, "w:gz") as tar:
            member = tarfile.TarInfo("../escaped")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        wanted = ["its member '../escaped' would be elsewhere"]
    check = archives.check_archive(archive)
    assert len(check.problems) == 1 and wanted[0] in check.problems[0]
    assert not (tmp_path.parent / "escaped").exists()
