"""`--include-package sledgehammer_allennlp` where extras are not installed."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib.abc, sys

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, NotInstalled())
from allennlp.common.util import import_module_and_submodules
from allennlp.models import Model
import_module_and_submodules("sledgehammer_allennlp")
print(Model.by_name("multi_exit_classifier").__name__)
"""


@pytest.mark.parametrize(
    "missing, status",
    [
        (("fastapi", "uvicorn", "prometheus_client", "pyarrow", "fsspec", "ray"), 0),
        (("optuna",), 1),  # which training needs
    ],
)
def test_modules_of_missing_extras_are_passed_over_and_no_others(missing, status):
    program = PROGRAM.replace("{missing}", repr(set(missing)))
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == status, found.stderr
    assert ("MultiExitClassifier" in found.stdout) == (status == 0)
