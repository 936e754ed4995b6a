"""A block that does not do what a page says fails, with its place and what came out."""

import json
from pathlib import Path
from typing import Callable

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.reader import Failed, Reader
from tests.docs.workspace import ROWS

TRADEOFF = "allennlp tradeoff runs/mine/model.tar.gz data/mine/dev.tsv --output-dir runs/t"


@pytest.fixture
def run(tmp_path: Path, make_reader: Callable[[], Reader]) -> Callable[[str], Path]:
    """Runs a page; gives the folder it ran in."""

    def run(text: str) -> Path:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        make_reader().run(blocks_of(page))
        return tmp_path / "reader"

    return run


def test_a_page_runs_in_order_in_one_folder(run):
    folder = run(f"""
```bash
python -m sledgehammer_allennlp predict-files runs/mine/model.tar.gz data/*.csv \\
  --output-dir runs/answers --format jsonl --threshold 0.9
cat runs/answers/parts/*.jsonl | wc -l > count
```

<!-- not run: it would fail -->
```bash
exit 1
```

```python
from pathlib import Path

count = int(Path("count").read_text())
```

```python
Path("twice").write_text(str(2 * count))
```

```bash
{TRADEOFF} > printed.txt && test -f runs/t/report.html
```
""")
    assert (folder / "twice").read_text() == str(2 * ROWS)
    assert "thresholds differ" in (folder / "printed.txt").read_text()


def test_requests_are_answered_by_the_page_s_own_service(run):
    folder = run("""
```bash
python -m sledgehammer_allennlp serve runs/mine/model.tar.gz --threshold 0.9
```

```bash
curl -d '{"sentence": "the film was good"}' http://127.0.0.1:8000/answer > answer.json
```
""")
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["label"] == "pos" and answer["threshold"] == 0.9


def test_what_the_page_trains_itself_is_not_there_before(run):
    folder = run("""
```bash
python -m sledgehammer_allennlp new-config mine.jsonnet --train data/mine/train.tsv \\
    --dev data/mine/dev.tsv --model data/minilm
allennlp train mine.jsonnet -s runs/mine --include-package sledgehammer_allennlp \\
    --overrides '{"trainer.num_epochs": 1, "dataset_reader.max_instances": 100}'
```
""")
    assert (folder / "runs/mine/model.tar.gz").exists()
    trained = json.loads((folder / "runs/mine/config.json").read_text())
    assert trained["model"]["transformer_model"] == "data/minilm"


def test_configs_are_evaluated_with_what_an_ellipsis_hides(run):
    run("""
```jsonnet
(import 'training_config/sst2.jsonnet') + { num_epochs:: 3 }
```

```jsonnet
(import 'multi_exit.libsonnet') + {
  …
  num_epochs:: 3,
}
```

```jsonnet
dataset_reader+: { type: 'labeled_table', text_column: 'review' },
```

```jsonnet
(import 'training_config/sweep.jsonnet') + { dropout:: 0.2 }
```

```json
{"sentence": "one"}
{"sentence": "two"}
```
""")


@pytest.mark.parametrize(
    "language, text, error",
    [
        ("bash", "false\ntrue", "page.md, line 2: ended with 1"),
        ("bash", "cat missing | sort", "ended with 1:\ncat: missing: No such file"),
        ("bash", "allennlp evaluate runs/none data/mine/dev.tsv", "ended with 1"),
        ("bash", "python -m sledgehammer_allennlp serve none.tar.gz", "service does not run:"),
        ("bash", "pip install .", "pip is not run here: wanted the block marked"),
        ("bash", "python -m pip install .", "pip is not run here: wanted the block marked"),
        ("python", "import sledgehammer_allennlp.nothing", "No module named"),
        ("python", "x = ", "SyntaxError"),
        ("json", '{"a": …}', "not JSON"),
        ("jsonnet", "(import 'multi_exit.libsonnet') + { epochs:: 1 }", "no such setting: epochs"),
        ("jsonnet", "(import 'multi_exit.libsonnet') + {}", "must set dataset"),
        ("jsonnet", "model+: { a: }", "expected"),
    ],
)
def test_what_does_not_run_fails_with_its_place(run, language, text, error):
    with pytest.raises(Failed) as found:
        run(f"\n```{language}\n{text}\n```\n")
    assert "page.md, line 2: " in str(found.value)
    assert error in str(found.value)


def test_a_refused_request_fails(run):
    with pytest.raises(Failed, match="line 5: ended with 22"):
        run("""
```bash
python -m sledgehammer_allennlp serve runs/mine/model.tar.gz
```
```bash
curl -d '{"sentence": 7}' http://127.0.0.1:8000/answer
```
""")
