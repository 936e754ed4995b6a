"""What looks like `allennlp train` from outside, takes no time, and does what its variables say.

LEARNING_RATE is the metric, SEED is added to it in hundredths. BEHAVIOUR: `fail` ends with an
error; `wait` waits after the first epoch until the worker ends it, or dies; `go on at RATE` trains
as long as it is let, and ends with its worker as `allennlp train` does. ALIVE: a pipe that it has
open as long as it lives.
"""

import json
import os
import signal
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PROCESS = Path(__file__).parents[2] / "sledgehammer_allennlp/sweeps/training_process.py"


def go_on() -> None:
    """Without importing the package, which takes seconds."""
    spec = spec_from_file_location("training_process", PROCESS)
    training_process = module_from_spec(spec)
    spec.loader.exec_module(training_process)
    training_process.end_with_the_worker()
    while True:
        signal.pause()


def train(folder: Path) -> None:
    print("training starts")
    if "ALIVE" in os.environ:
        os.open(os.environ["ALIVE"], os.O_WRONLY)
    behaviour = os.environ.get("BEHAVIOUR", "")
    rate, seed = float(os.environ["LEARNING_RATE"]), int(os.environ.get("SEED", "0"))
    if behaviour == "fail" or behaviour == f"fail at {rate}":
        sys.exit("out of memory, say")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"trainer": {"num_epochs": 2}}))
    (folder / "pid").write_text(str(os.getpid()))
    metrics = {"best_validation_accuracy": rate + seed / 100, "note": "text"}
    for epoch in range(2):
        text = json.dumps({**metrics, "epoch": epoch})
        (folder / f".{epoch}").write_text(text)
        (folder / f".{epoch}").rename(folder / f"metrics_epoch_{epoch}.json")
        if behaviour == "wait" or behaviour == f"wait at {rate}":
            os.read(0, 1)
            return
        if behaviour == f"go on at {rate}":
            go_on()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("model_state_e1_b0.th", "training_state_e1_b0.th", "best.th"):
        (folder / name).write_text("large")
    (folder / "model.tar.gz").write_text("a model")


if __name__ == "__main__":
    train(Path(sys.argv[1]))
