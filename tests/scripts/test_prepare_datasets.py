import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from allennlp.data import Token, Tokenizer
from allennlp.data.token_indexers import SingleIdTokenIndexer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scripts import prepare_datasets
from scripts.prepare_datasets import DATASETS, divide, main, one_line
from sledgehammer_allennlp.data import LabeledTsvReader


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


class WholeText(Tokenizer):
    def tokenize(self, text):
        return [Token(text)]


def read_back(path: Path):
    """Labels and texts as the reader of the configs has them."""
    reader = LabeledTsvReader(
        WholeText(), token_indexers={"tokens": SingleIdTokenIndexer(token_min_padding_length=0)}
    )
    return [
        (instance["label"].label, tuple(token.text for token in instance["tokens"]))
        for instance in reader.read(str(path))
    ]


def instances_of(name: str, split: str, num: int = 12):
    """Labels and texts of a split, each label in turn."""
    description = DATASETS[name]
    return [
        (
            description.labels[i % len(description.labels)],
            tuple(f"{split} {column} number {i}" for column in description.columns),
        )
        for i in range(num)
    ]


def as_dataset(name: str, instances) -> datasets.Dataset:
    description = DATASETS[name]
    columns = {
        column: [texts[i] for _, texts in instances] for i, column in enumerate(description.columns)
    }
    columns["label"] = [
        description.labels.index(label) if label in description.labels else label
        for label, _ in instances
    ]
    features = {column: datasets.Value("string") for column in description.columns}
    features["label"] = datasets.ClassLabel(names=list(description.labels))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def write_clone(name: str, folder: Path, of_split=instances_of):
    """As the hub's repository."""
    subfolder = folder / {"imdb": "plain_text", "snli": "plain_text"}.get(name, "data")
    subfolder.mkdir(parents=True)
    for split in DATASETS[name].splits.values():
        file = subfolder / f"{split.name}-00000-of-00001.parquet"
        as_dataset(name, of_split(name, split.name)).to_parquet(file)


def write_saved(name: str, folder: Path):
    """As `save_to_disk` writes it."""
    datasets.DatasetDict(
        {
            split.name: as_dataset(name, instances_of(name, split.name))
            for split in DATASETS[name].splits.values()
        }
    ).save_to_disk(folder)


def write_original(name: str, folder: Path):
    """As the original distribution."""
    labels = DATASETS[name].labels
    for split in DATASETS[name].splits.values():
        file = folder / split.original
        file.parent.mkdir(parents=True, exist_ok=True)
        instances = instances_of(name, split.name)
        if name == "ag_news":
            rows = [(labels.index(label) + 1, *text.split(" ", 1)) for label, (text,) in instances]
            file.write_text("".join('"{}","{}","{}"\n'.format(*row) for row in rows))
        elif name == "imdb":
            for i, (label, (text,)) in enumerate(instances):
                (file.parent / label).mkdir(exist_ok=True)
                (file.parent / label / f"{i}_7.txt").write_text(text)
        elif name == "sst2":
            rows = [f"{text} \t{labels.index(label)}\n" for label, (text,) in instances]
            file.write_text("sentence\tlabel\n" + "".join(rows))
        else:
            pairs = [
                {"gold_label": label, "sentence1": texts[0], "sentence2": texts[1]}
                for label, texts in instances
            ]
            file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


WRITERS = {"clone": write_clone, "saved": write_saved, "original": write_original}


def prepare(name: str, tmp_path: Path, *options: str) -> Path:
    """The folder of what is made of the copy in `tmp_path / "copy"`."""
    copy = ["--from", str(tmp_path / "copy"), "--allow-other-counts"]
    main([name, "--output-dir", str(tmp_path / "data"), *copy, *options])
    return tmp_path / "data" / name


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("format", WRITERS)
def test_every_format_is_read_back_by_the_reader(name, format, tmp_path):
    WRITERS[format](name, tmp_path / "copy" / name)
    folder = prepare(name, tmp_path)
    found = {part: read_back(folder / f"{part}.tsv") for part in DATASETS[name].parts}
    for part, split in DATASETS[name].splits.items():
        wanted = instances_of(name, split.name)
        got = found[part]
        if DATASETS[name].dev_size:
            got = got + (found["dev"] if part == "train" else [])
            assert sorted(got) == sorted(wanted)
        else:
            assert got == wanted
    assert (folder / "test.tsv").exists() == (name != "sst2")


@pytest.mark.parametrize("name", DATASETS)
def test_the_files_do_not_depend_on_the_format(name, tmp_path):
    written = []
    for format, write_copy in WRITERS.items():
        write_copy(name, tmp_path / format / "copy")
        folder = prepare(name, tmp_path / format)
        written.append([(folder / f"{part}.tsv").read_text() for part in DATASETS[name].parts])
    assert written[0] == written[1] == written[2]


def test_what_the_hub_gives_is_written(tmp_path, monkeypatch):
    asked = []

    def load_dataset(*arguments):
        asked.append(arguments)
        names = ["train", "validation_matched", "validation_mismatched", "test_matched"]
        return {split: as_dataset("mnli", instances_of("mnli", split)) for split in names}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    main(["mnli", "--output-dir", str(tmp_path), "--allow-other-counts"])
    assert asked == [("nyu-mll/glue", "mnli")]
    for part, split in DATASETS["mnli"].splits.items():
        assert read_back(tmp_path / "mnli" / f"{part}.tsv") == instances_of("mnli", split.name)


def test_without_network_the_error_says_what_to_do_and_leaves_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["ag_news", "--output-dir", str(tmp_path / "data")])
    for wanted in ("fancyzhx/ag_news could not be loaded", "where there is network", "--from"):
        assert wanted in str(stopped.value)
    assert not (tmp_path / "data").exists()


def test_a_missing_copy_is_told_with_what_was_looked_for(tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(SystemExit) as stopped:
        prepare("snli", tmp_path)
    for wanted in ("parquet", "dataset_dict.json", "snli_1.0_train.jsonl", str(tmp_path / "copy")):
        assert wanted in str(stopped.value)


def test_other_counts_than_published_are_refused(tmp_path):
    write_original("sst2", tmp_path / "copy")
    with pytest.raises(SystemExit, match="found 12 labelled instances: wanted 67,349"):
        main(["sst2", "--output-dir", str(tmp_path / "data"), "--from", str(tmp_path / "copy")])
    assert not (tmp_path / "data").exists()


def test_the_published_counts_are_taken_without_an_option(tmp_path, monkeypatch, capsys):
    splits = {
        part: dataclasses.replace(split, num_labelled=12)
        for part, split in DATASETS["sst2"].splits.items()
    }
    tiny = dataclasses.replace(DATASETS["sst2"], splits=splits)
    monkeypatch.setitem(prepare_datasets.DATASETS, "sst2", tiny)
    write_original("sst2", tmp_path / "copy")
    main(["sst2", "--output-dir", str(tmp_path / "data"), "--from", str(tmp_path / "copy")])
    assert "; published:" not in capsys.readouterr().out


@pytest.mark.parametrize("unlabelled", [-1, "-"])
def test_pairs_without_a_gold_label_are_left_out_and_counted(unlabelled, tmp_path, capsys):
    if unlabelled == -1:

        def with_unlabelled(name, split):
            return instances_of(name, split) + [(-1, ("a", "b"))] * 2

        write_clone("snli", tmp_path / "copy", with_unlabelled)
    else:
        write_original("snli", tmp_path / "copy")
        for file in (tmp_path / "copy").glob("*.jsonl"):
            pair = json.dumps({"gold_label": "-", "sentence1": "a", "sentence2": "b"})
            file.write_text(file.read_text() + f"{pair}\n{pair}\n")
    folder = prepare("snli", tmp_path)
    assert len(read_back(folder / "train.tsv")) == 12
    out = capsys.readouterr().out
    assert "split train: 2 without a label, left out" in out
    assert "split train: 12 labelled; published: 549,367" in out


def test_an_unknown_label_is_refused_with_its_place(tmp_path):
    write_original("ag_news", tmp_path / "copy")
    file = tmp_path / "copy" / "train.csv"
    file.write_text(file.read_text() + '"0","No such","label"\n')
    with pytest.raises(SystemExit, match="split train .* instance 13: found the label '0': wanted"):
        prepare("ag_news", tmp_path)
    assert not (tmp_path / "data").exists()


def test_a_copy_of_another_data_set_is_refused(tmp_path):
    write_clone("ag_news", tmp_path / "copy")
    with pytest.raises(SystemExit, match="found the labels World.*: wanted neg, pos"):
        prepare("imdb", tmp_path)


def test_a_pointer_of_git_lfs_is_told(tmp_path):
    write_clone("sst2", tmp_path / "copy")
    for file in (tmp_path / "copy" / "data").glob("train*"):
        file.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SystemExit, match="git lfs pull"):
        prepare("sst2", tmp_path)


def test_a_known_header_of_ag_news_is_no_instance(tmp_path):
    write_original("ag_news", tmp_path / "copy")
    file = tmp_path / "copy" / "test.csv"
    file.write_text("Class Index,Title,Description\n" + file.read_text())
    assert len(read_back(prepare("ag_news", tmp_path) / "test.tsv")) == 12


def test_whitespace_and_breaks_become_single_spaces_and_are_counted(tmp_path, capsys):
    write_original("imdb", tmp_path / "copy")
    review = "\ufeffOne.<br /><br />Two\x85\x85\u2028three\t\r\nfour.\x00 "
    (tmp_path / "copy" / "test" / "pos" / "99_9.txt").write_text(review, encoding="utf-8")
    found = read_back(prepare("imdb", tmp_path) / "test.tsv")
    assert ("pos", ("\ufeffOne. Two three four.",)) in found
    out = capsys.readouterr().out
    assert "split test: 1 with whitespace, control characters or <br /> changed" in out


def test_an_empty_text_is_left_out_and_counted(tmp_path, capsys):
    write_original("mnli", tmp_path / "copy")
    file = tmp_path / "copy" / "multinli_1.0_train.jsonl"
    pair = {"gold_label": "neutral", "sentence1": "a", "sentence2": " \n"}
    file.write_text(file.read_text() + json.dumps(pair) + "\n")
    assert len(read_back(prepare("mnli", tmp_path) / "train.tsv")) == 12
    assert "split train: 1 with an empty text, left out" in capsys.readouterr().out


def test_texts_that_look_missing_stay(tmp_path):
    write_original("snli", tmp_path / "copy")
    file = tmp_path / "copy" / "snli_1.0_dev.jsonl"
    pair = {"gold_label": "neutral", "sentence1": "null", "sentence2": "n/a"}
    file.write_text(json.dumps(pair) + "\n")
    assert read_back(prepare("snli", tmp_path) / "dev.tsv") == [("neutral", ("null", "n/a"))]


def test_dev_has_each_labels_share_and_shares_no_text_with_train():
    # Texts may occur twice, with the same label or another.
    texts = [("neg", (f"bad {i}",)) for i in range(600)]
    texts += [("pos", (f"good {i % 200}" if i < 250 else f"bad {i}",)) for i in range(300)]
    parts = divide(texts, 0.1)
    labels = [label for label, _ in parts["dev"]]
    assert (labels.count("neg"), labels.count("pos")) == (60, 30)
    assert sorted(parts["train"] + parts["dev"]) == sorted(texts)
    assert not {text for _, text in parts["train"]} & {text for _, text in parts["dev"]}
    assert set(divide(texts[::-1], 0.1)["dev"]) == set(parts["dev"])


@pytest.mark.parametrize("name", ["ag_news", "imdb"])
def test_published_sizes_give_the_dev_of_the_paper(name):
    description = DATASETS[name]
    texts = [
        (description.labels[i % len(description.labels)], (str(i),))
        for i in range(description.splits["train"].num_labelled)
    ]
    parts = divide(texts, description.dev_size / len(texts))
    assert len(parts["dev"]) == 5_000
    assert len(parts["train"]) == {"ag_news": 115_000, "imdb": 20_000}[name]


def test_texts_of_test_that_are_in_train_are_counted(tmp_path, capsys):
    write_original("snli", tmp_path / "copy")
    copy = tmp_path / "copy"
    (copy / "snli_1.0_test.jsonl").write_bytes((copy / "snli_1.0_train.jsonl").read_bytes())
    prepare("snli", tmp_path)
    out = capsys.readouterr().out
    assert "texts of dev that are in train too: 0" in out
    assert "texts of test that are in train too: 12" in out


def test_an_interrupted_run_goes_on_with_what_is_missing(tmp_path, monkeypatch, capsys):
    write_original("ag_news", tmp_path / "copy")
    write_whole = prepare_datasets.write_whole

    def interrupt_at_dev(path, content):
        if path.name == "dev.tsv":
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr(prepare_datasets, "write_whole", interrupt_at_dev)
    with pytest.raises(KeyboardInterrupt):
        prepare("ag_news", tmp_path)
    folder = tmp_path / "data" / "ag_news"
    assert sorted(file.name for file in folder.iterdir()) == ["prepared.json", "train.tsv"]
    train = (folder / "train.tsv").stat()

    monkeypatch.setattr(prepare_datasets, "write_whole", write_whole)
    prepare("ag_news", tmp_path)
    assert (folder / "train.tsv").stat().st_mtime_ns == train.st_mtime_ns
    resumed = {file.name: file.read_text() for file in folder.iterdir()}
    assert sorted(resumed) == ["dev.tsv", "prepared.json", "test.tsv", "train.tsv"]
    prepare("ag_news", tmp_path, "--force")
    assert resumed == {file.name: file.read_text() for file in folder.iterdir()}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "train.tsv"
    path.write_text("old")
    monkeypatch.setattr(prepare_datasets.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare_datasets.write_whole(path, b"new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("train.tsv", "old")]


def test_what_is_written_needs_no_source_any_more(tmp_path, capsys):
    write_original("sst2", tmp_path / "copy")
    prepare("sst2", tmp_path)
    said = capsys.readouterr().out
    for file in (tmp_path / "copy").iterdir():
        file.unlink()
    prepare("sst2", tmp_path)
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("content", ["0\tmine\n", "changed"])
def test_files_of_others_are_replaced_by_force_only(content, tmp_path):
    write_original("sst2", tmp_path / "copy")
    if content == "changed":
        prepare("sst2", tmp_path)
    file = tmp_path / "data" / "sst2" / "dev.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    with pytest.raises(SystemExit, match="dev.tsv is not what this command wrote: --force"):
        prepare("sst2", tmp_path)
    assert file.read_text() == content
    prepare("sst2", tmp_path, "--force")
    assert read_back(file) == instances_of("sst2", "validation")


def test_parts_of_two_sources_are_not_mixed(tmp_path):
    write_original("sst2", tmp_path / "copy")
    prepare("sst2", tmp_path)
    with pytest.raises(SystemExit, match="was made from .*copy, not nyu-mll/glue sst2: --force"):
        main(["sst2", "--output-dir", str(tmp_path / "data")])


def test_all_names_every_config_to_train(tmp_path, capsys):
    for name in DATASETS:
        write_original(name, tmp_path / "copy" / DATASETS[name].original_folder)
    prepare("all", tmp_path)
    out = capsys.readouterr().out
    configs = Path(__file__).parents[2] / "training_config"
    for name in DATASETS:
        assert f"allennlp train training_config/{name}.jsonnet -s runs/{name}" in out
        assert (configs / f"{name}.jsonnet").exists()
        # Another folder than the configs' own.
        assert f'"train_data_path": "{tmp_path}/data/{name}/train.tsv"' in out


def test_help_needs_no_heavy_import():
    code = (
        "import sys; from scripts import prepare_datasets as p\n"
        "try: p.main(['--help'])\n"
        "except SystemExit: print({'datasets', 'torch', 'allennlp'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stderr


@given(st.lists(st.text(st.characters()), min_size=1, max_size=2))
@example(["\ud800 lone \udfff", "\x00"])
@example(["a\tb\r\nc\x0b\x0c\x1c\x85\u2028\u2029d"])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_one_line_that_the_reader_accepts(tmp_path, texts):
    name = "snli" if len(texts) == 2 else "imdb"
    labels = DATASETS[name].labels
    instances, notes = prepare_datasets.clean([(0, texts), (1, ["plain"] * len(texts))], labels)
    file = tmp_path / "any.tsv"
    content = "".join(map(prepare_datasets._line, instances)).encode("utf-8")
    prepare_datasets.write_whole(file, content)
    wanted = [(labels[0], tuple(map(one_line, texts)))] if all(map(one_line, texts)) else []
    assert read_back(file) == wanted + [(labels[1], ("plain",) * len(texts))]
    assert content.count(b"\n") == len(instances)
    assert notes.get("with an empty text, left out", 0) == 2 - len(instances)


@given(st.text(st.characters()))
def test_a_text_keeps_its_words(text):
    once = one_line(text)
    assert one_line(once) == once
    assert once.split(" ") == once.split() or not once
    kept = [c for c in text if c.isprintable() and not c.isspace()]
    if "<br" not in text:
        assert [c for c in once if c.isprintable() and not c.isspace()] == kept
