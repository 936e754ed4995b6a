"""Prints what `allennlp predict` wrote beside what it was given."""

import json
import sys
from pathlib import Path


def main() -> None:
    inputs, predictions = (
        [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
        for name in sys.argv[1:3]
    )
    for given, predicted in zip(inputs, predictions):
        text = given.get("sentence") or f"{given['premise']} / {given['hypothesis']}"
        print(
            f"  {predicted['label']:<15} confidence {predicted['confidence']:.3f}  "
            f"exit layer {predicted['exit_layer']:>2}  {text}"
        )


if __name__ == "__main__":
    main()
