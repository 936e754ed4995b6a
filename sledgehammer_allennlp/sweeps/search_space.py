"""What is searched: a file of parameters, what each is chosen from, and the seeds."""

import hashlib
import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Union

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sledgehammer_allennlp.files import check_regular

Value = Union[None, bool, int, float, str]

_KEYS_OF_TYPES = {
    "float": {"type", "low", "high", "log", "step"},
    "int": {"type", "low", "high", "log", "step"},
    "categorical": {"type", "choices"},
}
_MAX_CONFIGURATIONS = 10_000
_MAX_INTEGER = 2**53  # above, not every integer is exact in Jsonnet
_MAX_NUMBER = 1e300  # so that a range's length is finite


@dataclass(frozen=True)
class Seeds:
    """
    # Parameters

    name : `str`
        Of the variable that a config reads the seed from.
    values : `List[int]`
        Every configuration is trained with each.
    """

    name: str
    values: List[int]


@dataclass(frozen=True)
class SearchSpace:
    """
    # Parameters

    distributions : `Dict[str, BaseDistribution]`
        What each searched parameter is chosen from. Lists and objects stand as their JSON.
    fixed : `Dict[str, Value]`
        The parameters that are the same in all runs.
    seeds : `Optional[Seeds]`
    """

    distributions: Dict[str, BaseDistribution]
    fixed: Dict[str, Value]
    seeds: Optional[Seeds]

    def seed_values(self) -> List[Optional[int]]:
        """The seeds, or `None` alone where there are none."""
        return list(self.seeds.values) if self.seeds is not None else [None]

    def names(self) -> List[str]:
        """All variables that a run is given."""
        return [*self.distributions, *self.fixed, *([self.seeds.name] if self.seeds else [])]

    def variables(self, configuration: Dict[str, Value], seed: Optional[int]) -> Dict[str, str]:
        """The variables of a run, as text."""
        values: Dict[str, Value] = {**self.fixed, **configuration}
        if self.seeds is not None:
            values[self.seeds.name] = seed
        return {name: as_text(value) for name, value in values.items()}

    def digest(self) -> str:
        """Equal for search spaces with the same parameters, fixed values and seeds."""
        content = [
            {name: repr(distribution) for name, distribution in self.distributions.items()},
            self.fixed,
            [self.seeds.name, sorted(self.seeds.values)] if self.seeds is not None else None,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()

    def samples(self) -> List[Dict[str, Value]]:
        """Configurations in which each choice and each end of a range occurs at least once."""
        choices = {name: _ends(distribution) for name, distribution in self.distributions.items()}
        first = {name: values[0] for name, values in choices.items()}
        others = [
            {**first, name: value} for name, values in choices.items() for value in values[1:]
        ]
        return [first, *others]

    def configurations(self) -> Optional[List[Dict[str, Value]]]:
        """All configurations there are, or `None` if they are too many to be listed."""
        choices = []
        number = 1
        for distribution in self.distributions.values():
            values = _all_values(distribution)
            number *= len(values) if values is not None else _MAX_CONFIGURATIONS + 1
            if values is None or number > _MAX_CONFIGURATIONS:
                return None
            choices.append(values)
        return [dict(zip(self.distributions, values)) for values in itertools.product(*choices)]


def as_text(value: Any) -> str:
    """A value as a config's `std.extVar` sees it: text as it is, and anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def as_printed(configuration: Dict[str, Value]) -> Dict[str, str]:
    """Values as they are printed: numbers with few digits."""
    return {
        name: f"{value:.4g}" if isinstance(value, float) else as_text(value)
        for name, value in configuration.items()
    }


def key_of(configuration: Dict[str, Value]) -> str:
    """What two equal configurations share, whatever was lost in the last digits of a number."""
    return json.dumps(
        {
            name: f"{value:.12g}" if isinstance(value, float) else value
            for name, value in sorted(configuration.items())
        }
    )


def read_search_space(path: Path, seeds: Optional[Sequence[int]] = None) -> SearchSpace:
    """
    Reads and checks a search space.

    # Parameters

    path : `Path`
        A JSON or Jsonnet file with the keys `parameters` and, if wanted, `seeds`.
    seeds : `Optional[Sequence[int]]`
        Take the place of the file's, whose name stays; `SEED` if it has none.

    # Raises

    ConfigurationError
        If there is a mistake in the file, naming the key.
    """
    try:
        check_regular(str(path))
        found = Params.from_file(str(path)).as_dict(quiet=True)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"cannot read the search space '{path}': wanted a JSON or Jsonnet file. {error}"
        ) from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"'{path}' is {_shown(found)}: wanted an object with parameters")
    unknown = set(found) - {"parameters", "seeds"}
    if unknown:
        raise ConfigurationError(
            f"'{path}': no such key: {', '.join(sorted(unknown))}: wanted parameters and seeds"
        )
    if seeds is not None:
        named = found.get("seeds")
        name = named.get("name", "SEED") if isinstance(named, dict) else "SEED"
        found["seeds"] = {"name": name, "values": list(seeds)}
    parameters = found.get("parameters")
    if not isinstance(parameters, dict):
        raise ConfigurationError(
            f"'{path}': parameters is {_shown(parameters)}: wanted an object with a value or a "
            "distribution for each variable of the config"
        )
    space = SearchSpace({}, {}, _seeds(found["seeds"], f"'{path}'") if "seeds" in found else None)
    for name, given in parameters.items():
        where = f"'{path}': parameters.{name}"
        _check_name(name, where)
        if space.seeds is not None and name == space.seeds.name:
            raise ConfigurationError(f"{where} is the seeds' name, too: wanted it in one of them")
        if isinstance(given, dict):
            space.distributions[name] = _distribution(given, where)
        else:
            space.fixed[name] = _scalar(given)
    return space


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigurationError(
            f"{where}: {_shown(name)} cannot be a variable's name: wanted letters, digits and "
            "underscores"
        )


def _seeds(given: Any, where: str) -> Seeds:
    if not isinstance(given, dict) or set(given) != {"name", "values"}:
        raise ConfigurationError(
            f"{where}: seeds is {_shown(given)}: wanted an object with name and values"
        )
    _check_name(given["name"], f"{where}: seeds.name")
    values = given["values"]
    if not isinstance(values, list) or not values or not all(map(_is_int, values)):
        raise ConfigurationError(
            f"{where}: seeds.values is {_shown(values)}: wanted a list of one integer or more"
        )
    _check_different(values, f"{where}: seeds.values")
    return Seeds(given["name"], values)


def _distribution(given: Dict[str, Any], where: str) -> BaseDistribution:
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _KEYS_OF_TYPES:
        raise ConfigurationError(
            f"{where}.type is {_shown(kind)}: wanted one of {', '.join(_KEYS_OF_TYPES)}, or for a "
            "value that all runs share no object"
        )
    unknown = set(given) - _KEYS_OF_TYPES[kind]
    if unknown:
        wanted = sorted(_KEYS_OF_TYPES[kind] - {"type"})
        raise ConfigurationError(
            f"{where} has no key {', '.join(sorted(unknown))} as a {kind}: wanted "
            + ", ".join(wanted)
        )
    if kind == "categorical":
        return _categorical(given, where)
    return _range(given, where, kind)


def _categorical(given: Dict[str, Any], where: str) -> CategoricalDistribution:
    choices = given.get("choices")
    if not isinstance(choices, list) or not choices:
        raise ConfigurationError(
            f"{where}.choices is {_shown(choices)}: wanted a list of one value or more"
        )
    choices = [_scalar(choice) for choice in choices]
    _check_different(choices, f"{where}.choices")
    return CategoricalDistribution(choices)


def _range(given: Dict[str, Any], where: str, kind: str) -> BaseDistribution:
    is_right = _is_int if kind == "int" else _is_number
    wanted = f"a number of at most {_MAX_NUMBER:g} in size"
    if kind == "int":
        wanted = f"an integer of at most {_MAX_INTEGER:,} in size"
    for key in ("low", "high", "step"):
        if (key != "step" or given.get(key) is not None) and not is_right(given.get(key)):
            raise ConfigurationError(f"{where}.{key} is {_shown(given.get(key))}: wanted {wanted}")
    low, high, step, log = given["low"], given["high"], given.get("step"), given.get("log", False)
    if low > high:
        raise ConfigurationError(f"{where}.low is {low} and high {high}: wanted low at most high")
    if not isinstance(log, bool):
        raise ConfigurationError(f"{where}.log is {_shown(log)}: wanted true or false")
    if log and low <= 0:
        raise ConfigurationError(f"{where}.low is {low}: wanted more than 0, as log is true")
    if step is not None and step <= 0:
        raise ConfigurationError(f"{where}.step is {step}: wanted more than 0")
    if step is not None and log:
        raise ConfigurationError(f"{where} has step {step} and log: wanted one of them")
    if step is not None and not _divides(step, high - low):
        raise ConfigurationError(
            f"{where}.step is {step}: wanted one that divides high - low, {high - low:g}"
        )
    if kind == "int":
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _divides(step: float, length: float) -> bool:
    number = length / step
    return math.isfinite(number) and math.isclose(number, round(number), abs_tol=1e-8)


def _check_different(values: List[Any], where: str) -> None:
    seen: Set[Value] = set()
    for value in values:
        # True == 1 and 1 == 1.0: Optuna could not tell them apart.
        if value in seen:
            raise ConfigurationError(f"{where} has {_shown(value)} twice: wanted different values")
        seen.add(value)


def _scalar(value: Any) -> Value:
    return as_text(value) if isinstance(value, (list, dict)) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= _MAX_NUMBER


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _all_values(distribution: BaseDistribution) -> Optional[List[Value]]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    if distribution.low == distribution.high:
        return [distribution.low]
    if distribution.step is None:
        return None
    number = round((distribution.high - distribution.low) / distribution.step) + 1
    if number > _MAX_CONFIGURATIONS:
        return None
    return [distribution.low + i * distribution.step for i in range(number)]


def _ends(distribution: BaseDistribution) -> List[Value]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    return [distribution.low, distribution.high]
