"""`allennlp` in which training is what `fake_training.py` does."""

import sys
from pathlib import Path
from typing import Any, List

from sledgehammer_allennlp.sweeps import training_run


def fake_command(config: Path, folder: Path, *_: Any) -> List[str]:
    """Instead of `train_command`."""
    return [sys.executable, str(Path(__file__).with_name("fake_training.py")), str(folder)]


if __name__ == "__main__":
    training_run.train_command = fake_command
    from allennlp.__main__ import run

    run()
