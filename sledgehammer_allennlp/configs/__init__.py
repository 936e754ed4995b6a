"""A first config for data and a pretrained model. It needs no AllenNLP.

`multi_exit.libsonnet` has every setting of a training run with its default. `new-config` writes a
file that changes those that depend on the data and the model.
"""

from pathlib import Path

SETTINGS_FILE = Path(__file__).parent / "multi_exit.libsonnet"
"""The settings that every config changes a few of."""
