"""The text of a config: settings with the reasons for them."""

import json
import textwrap
from typing import Any, List, Sequence

from sledgehammer_allennlp.configs.choices import Choice

_WIDTH = 100


def config_text(head: Sequence[str], choices: Sequence[Choice]) -> str:
    """
    A config that imports `multi_exit.libsonnet` from its own folder.

    # Parameters

    head : `Sequence[str]`
        Paragraphs of the comment before it. One that starts with spaces is not filled.
    choices : `Sequence[Choice]`
        In the order in which they are to stand. One without a reason stands with the one before.
    """
    lines: List[str] = []
    for paragraph in head:
        lines += [*comment(paragraph), "//"]
    lines = lines[:-1]
    lines.append("(import 'multi_exit.libsonnet') + {")
    for i, choice in enumerate(choices):
        if choice.reason:
            lines += [""] * (i > 0) + [f"  {line}" for line in comment(choice.reason, _WIDTH - 2)]
        colon = "::" if choice.is_setting else ":"
        lines.append(f"  {choice.name}{colon} {literal(choice.value)},")
    lines.append("}")
    return "\n".join(lines) + "\n"


def comment(text: str, width: int = _WIDTH) -> List[str]:
    """A text as lines of a comment, whatever characters it has."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    if text.startswith(" "):
        return [f"// {text}"]
    filled = textwrap.wrap(text, width - len("// "), break_long_words=False, break_on_hyphens=False)
    return [f"// {line}" for line in filled]


def literal(value: Any) -> str:
    """A value as jsonnet has it. JSON is jsonnet; its strings have no other escapes."""
    return json.dumps(value, ensure_ascii=False)
