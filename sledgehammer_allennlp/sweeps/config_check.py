"""Does a config take what a search space gives, and is it the config the sweep began with?"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict

from allennlp.common.checks import ConfigurationError
from allennlp.common.params import evaluate_file, parse_overrides, with_overrides

from sledgehammer_allennlp.files import check_regular
from sledgehammer_allennlp.sweeps.search_space import SearchSpace


def check_config(config: Path, space: SearchSpace, overrides: str) -> str:
    """
    Evaluates a config with values of the space, so that mistakes are found before any training.

    # Returns

    `str`
        A digest of all settings of these configs, except the device that they run on.

    # Raises

    ConfigurationError
        If the config cannot be evaluated, or never reads a parameter of the space.
    """
    try:
        check_regular(str(config))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot read the config '{config}': wanted what `allennlp train` takes. {error}"
        ) from error
    seed = space.seed_values()[0]
    samples = [space.variables(configuration, seed) for configuration in space.samples()]
    evaluated = [_evaluated(config, variables, overrides) for variables in samples]
    for name in space.names():
        if not any(_reads(config, variables, name) for variables in samples):
            raise ConfigurationError(
                f"'{config}' never reads {name}: wanted std.extVar('{name}') in it, or no {name} "
                "in the search space"
            )
    return hashlib.sha256(json.dumps(evaluated, sort_keys=True).encode("utf-8")).hexdigest()


def _evaluated(config: Path, variables: Dict[str, str], overrides: str) -> Dict[str, Any]:
    ext_vars = {**_environment(), **variables}
    try:
        evaluated = json.loads(evaluate_file(str(config), ext_vars=ext_vars))
        changes = parse_overrides(overrides, ext_vars=variables)
        evaluated = with_overrides(evaluated, changes) if changes else evaluated
    except (RuntimeError, ValueError) as error:
        values = " ".join(f"{name}={value}" for name, value in sorted(variables.items()))
        raise ConfigurationError(
            f"cannot evaluate '{config}' with {values}: wanted a config for which each variable it "
            f"reads is in the search space or in the environment. {error}"
        ) from error
    if not isinstance(evaluated, dict):
        raise ConfigurationError(f"the config '{config}' is not an object: wanted one")
    if isinstance(evaluated.get("trainer"), dict):
        evaluated["trainer"].pop("cuda_device", None)
    return evaluated


def _reads(config: Path, variables: Dict[str, str], name: str) -> bool:
    ext_vars = {**_environment(), **variables}
    del ext_vars[name]
    try:
        evaluate_file(str(config), ext_vars=ext_vars)
    except RuntimeError:
        return True
    return False


def _environment() -> Dict[str, str]:
    """The environment's variables that Jsonnet takes."""
    return {key: value for key, value in os.environ.items() if _is_utf8(key + value)}


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
