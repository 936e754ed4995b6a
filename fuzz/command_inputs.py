"""
Fuzzes what the subcommands take besides data: search spaces, `--overrides`, numbers such as
thresholds, and settings of the model, by overrides, of any JSON.

    python -m fuzz.command_inputs -max_total_time=60

Takes libFuzzer's arguments. The first byte of an input chooses which of them it is.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, Callable

import atheris

from fuzz.harness import INSTRUMENTED, fuzz, refused

SEEDS = [
    b'\x00{"parameters": {"A": {"type": "float", "low": 0, "high": 0.3, "step": 0.1}}}',
    b'\x00{"parameters": {"A": {"type": "int", "low": 1, "high": 9, "log": true}, "B": [1]}}',
    b'\x00{"parameters": {"A": {"type": "categorical", "choices": [1, "a", null]}}, "seeds": '
    b'{"name": "SEED", "values": [1, 2]}}',
    b'\x01{"model.confidence_threshold": 0.9, "model": {"ensemble": "reached"}}',
    b"\x021e999",
    b"\x03[0, 3, 5]",
    b'\x03{"over": "reached", "weights": [1, 0, 2]}',
    b'\x03{"type": "ngrams", "max_n": 2}',
]
WORDS = ["1e308", "nan", "-0", "true", "null", '"type"', '"low"', '"high"', '"step"', "std.extVar"]


def main() -> None:
    with atheris.instrument_imports(include=INSTRUMENTED):
        from sledgehammer_allennlp.commands.calibrate import _check_overrides
        from sledgehammer_allennlp.commands.labelled_data import overrides_in
        from sledgehammer_allennlp.engine import chunks, ensemble, exit_rule
        from sledgehammer_allennlp.exits import building
        from sledgehammer_allennlp.sweeps.search_space import read_search_space
        from sledgehammer_allennlp.tradeoff import recommendation

    path = Path(tempfile.mkdtemp()) / "space.jsonnet"

    def space(data: bytes) -> None:
        path.write_bytes(data)
        found = read_search_space(path)
        json.loads(json.dumps([found.configurations(), found.digest()]))
        for configuration in found.samples():
            for text in found.variables(configuration, found.seed_values()[0]).values():
                assert isinstance(text, str)

    def overrides(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")  # as of a command line
        if "\0" not in text:  # which a command line cannot have
            _check_overrides(overrides_in(argparse.Namespace(overrides=text)))

    def number(data: bytes) -> None:
        try:
            value = float(data)
        except ValueError:
            return
        each(
            value,
            exit_rule.check_threshold,
            recommendation.check_accuracy_drop,
            recommendation.check_target_speedup,
            recommendation.check_confidence_level,
        )

    def setting(data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        each(
            value,
            exit_rule.check_threshold,
            chunks.check_token_budget,
            lambda x: building.check_exit_layers(x, 12, "bert"),
            lambda x: ensemble.check_ensemble(x, 3),
            building._check_embedding_exit,
            lambda x: building.check_size_for_tokens("alignment", x),
        )

    def each(value: Any, *checks: Callable[[Any], Any]) -> None:
        for check in checks:
            try:
                check(value)
            except Exception as error:
                refused(error)

    kinds = (space, overrides, number, setting)

    def take(data: bytes) -> None:
        try:
            kinds[data[0] % len(kinds) if data else 0](data[1:])
        except Exception as error:
            refused(error)

    fuzz(take, SEEDS, WORDS)


if __name__ == "__main__":
    main()
