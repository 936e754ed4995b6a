import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")


def test_the_command_of_allennlp_answers_files(trained, tmp_path, allennlp_command, capsys):
    (tmp_path / "in.txt").write_text("the film was good\n" * 3)
    options = ["--output-dir", tmp_path / "out", "--format", "jsonl", "--threshold", "0"]
    allennlp_command("predict-files", trained["archive"], tmp_path / "in.txt", *options)
    assert "3 rows, 0 of them bad" in capsys.readouterr().out
    (part,) = (tmp_path / "out" / "parts").iterdir()
    lines = part.read_text().splitlines()
    assert len(lines) == 3 and '"exit_layer": -1' in lines[0]


def test_errors_of_the_user_are_short_messages(trained, tmp_path, allennlp_command, capsys):
    with pytest.raises(SystemExit) as exit_:
        allennlp_command("predict-files", trained["archive"], "none", "--output-dir", tmp_path)
    assert exit_.value.code == 2
    assert "predict-files: error: there is no input 'none'" in capsys.readouterr().err
