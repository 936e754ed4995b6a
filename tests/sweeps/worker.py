"""
`allennlp` for the tests of sweeps. Training is what `fake_training.py` does, where BEHAVIOUR is
set; else the command server runs it, too.
"""

import os
import sys
from pathlib import Path
from typing import Any, List

from sledgehammer_allennlp.sweeps import training_run
from tests.command_server import client_of


def fake_command(config: Path, folder: Path, *_: Any) -> List[str]:
    """Instead of `train_command`."""
    return [sys.executable, str(Path(__file__).with_name("fake_training.py")), str(folder)]


def served_command(*arguments: Any) -> List[str]:
    """What `train_command` gives, run by the command server."""
    python, *rest = _train_command(*arguments)
    assert python == sys.executable
    return [*client_of("python"), *rest]


if __name__ == "__main__":
    _train_command = training_run.train_command
    training_run.train_command = fake_command if "BEHAVIOUR" in os.environ else served_command
    from allennlp.__main__ import run

    run()
