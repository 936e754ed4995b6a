"""What a reader says of texts that are cut, or written in a script that the tokenizer lacks."""

from itertools import zip_longest
from logging import WARNING

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.encoders.unknown_pieces import UnknownPieces
from tests.data.test_labeled_tsv import make_reader, write
from tests.tiny import tiny_experiment

LABELS = [("pos", "good"), ("neg", "bad")]


def warnings_of(reader, folder, content, caplog):
    caplog.clear()
    list(reader.read(write(folder, content)))
    return said_in(caplog)


def said_in(caplog):
    """Our own warnings."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= WARNING and record.name.startswith("sledgehammer_allennlp")
    ]


@pytest.mark.parametrize("pretrained", ["tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize("second", ["", "\tgood"])
def test_cut_texts_are_counted_by_file(pretrained, second, request, tmp_path, caplog):
    reader = make_reader(request.getfixturevalue(pretrained), max_length=12)
    lines = [f"pos\t{'good ' * number}film{second}\n" for number in range(20)]
    whole = make_reader(request.getfixturevalue(pretrained), max_length=50)
    num_longer = sum(
        len(instance["tokens"]) > 12 for instance in whole.read(write(tmp_path, "".join(lines)))
    )
    (warning,) = warnings_of(reader, tmp_path, "".join(lines), caplog)
    assert 0 < num_longer < 20
    assert f"data.tsv: {num_longer} of 20 texts were cut to 12 word pieces" in warning


def test_the_same_file_is_warned_of_once_and_files_are_counted_apart(tiny_bert, tmp_path, caplog):
    reader = make_reader(tiny_bert, max_length=5)
    long, short = "pos\tgood good good good\n", "pos\tgood\n"
    (_,) = warnings_of(reader, tmp_path, long, caplog)
    reader.text_to_instance("good " * 30)
    assert warnings_of(reader, tmp_path, long, caplog) == []
    (warning,) = warnings_of(reader, tmp_path, long + short, caplog)
    assert "1 of 2 texts was cut" in warning
    assert warnings_of(reader, tmp_path, short, caplog) == []


def test_two_files_that_are_read_in_turns_are_counted_apart(tiny_bert, tmp_path, caplog):
    reader = make_reader(tiny_bert, max_length=5)
    for name, text in (("a", "good " * 9), ("b", "good")):
        (tmp_path / name).write_text(f"pos\t{text}\n" * 3)
    for _ in zip_longest(*(reader.read(str(tmp_path / name)) for name in "ba")):
        pass
    (warning,) = said_in(caplog)
    assert "/a: 3 of 3 texts were cut" in warning


def test_above_the_share_of_unknown_pieces_words_are_named_and_what_to_do(
    tiny_bert, tmp_path, caplog
):
    reader = make_reader(tiny_bert)
    known = "pos\t" + "good " * 19
    # Of 20 pieces one; special tokens do not count.
    assert warnings_of(reader, tmp_path, f"{known}映\n", caplog) == []
    (warning,) = warnings_of(reader, tmp_path, f"{known}ก{'ข' * 60}\tgood 映\n", caplog)
    assert "data.tsv: 9.1% of the word pieces are [UNK]" in warning  # 2 of 22
    assert f"for example in 'ก{'ข' * 19}…', '映'. " in warning
    assert "multilingual" in warning


def test_of_tokenizers_of_bytes_no_piece_is_unknown(tiny_roberta, tmp_path, caplog):
    reader = make_reader(tiny_roberta)
    assert warnings_of(reader, tmp_path, "pos\tกขค 映画\n", caplog) == []


def test_a_tokenizer_without_an_unknown_token_is_not_warned_of(tiny_roberta):
    tokenizer = make_reader(tiny_roberta)._tokenizer.tokenizer
    counts = UnknownPieces(tokenizer)
    counts._unknown_id = None
    counts.add([0, 3, 3, 2], "xx")
    assert (counts.num_unknown, counts.num_pieces, counts.warning()) == (0, 2, None)


def test_a_max_length_above_the_models_positions_is_as_that_of_the_positions(tiny_bert, tmp_path):
    """The reader does not know the model: what is too long is cut where the model runs."""
    train = tmp_path / "train.tsv"
    train.write_text("".join(f"{label}\t{word} {'a ' * 90}\n" for label, word in LABELS * 4))
    answers = {}
    for max_length in (64, 100):
        config = tiny_experiment(str(tiny_bert), {"train": str(train), "dev": str(train)})
        config["dataset_reader"]["tokenizer"]["max_length"] = max_length
        config["trainer"]["num_epochs"] = 1
        config["model"]["embedding_exit"] = "ngrams"
        folder = tmp_path / str(max_length)
        train_model(Params(config), str(folder))
        log = (folder / "out.log").read_text()
        assert log.count("8 of 8 texts were cut to 64") == (max_length == 64)
        classifier = load_archived_classifier(folder / "model.tar.gz")
        answers[max_length] = classifier.predict(["good " + "a " * 90, "bad " * 70, "good"])
    for one, other in zip(answers[64], answers[100]):
        assert one["exit_layer"] == other["exit_layer"]
        assert one["probs"] == pytest.approx(other["probs"], abs=1e-5)
