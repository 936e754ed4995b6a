import pytest

from sledgehammer_allennlp.__main__ import COMMANDS
from sledgehammer_allennlp.commands import serve


def test_it_is_the_command_that_needs_no_allennlp(allennlp_command, monkeypatch):
    given = []
    monkeypatch.setattr(serve, "run", lambda args: given.append(args) or 0)
    allennlp_command("serve", "model.tar.gz", "--threshold", 0.9, "--port", 0)
    (args,) = given
    assert (args.archive_file, args.threshold, args.port) == ("model.tar.gz", 0.9, 0)
    assert (args.host, args.max_body_bytes) == ("127.0.0.1", 2**20)
    assert COMMANDS["serve"].HELP == serve.HELP


def test_an_error_of_the_user_is_one_line(allennlp_command, tmp_path):
    pytest.importorskip("uvicorn")
    with pytest.raises(SystemExit, match="^serve: error: confidence_threshold is 2.0: wanted"):
        allennlp_command("serve", tmp_path, "--threshold", 2)
