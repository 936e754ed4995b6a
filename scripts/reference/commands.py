"""The page of commands, from their own parsers."""

import argparse
import re
from typing import Any, Dict, List, Tuple

from allennlp.commands.subcommand import Subcommand

from scripts.reference.public_names import PACKAGE
from sledgehammer_allennlp import __main__ as without_allennlp

HEAD = """# Commands

Each is made from what the command itself says with `--help`. Those of `allennlp` are found where a
file `.allennlp_plugins` in the current folder, or `~/.allennlp/plugins`, has the line
`sledgehammer_allennlp`. Those of `python -m sledgehammer_allennlp` need no AllenNLP.
"""
_WIDTH = 88


def commands_page() -> str:
    """A section for each command, by name; one that can be typed in both ways has one section."""
    found: Dict[str, List[argparse.ArgumentParser]] = {}
    for name, parser in [*_of_allennlp(), *_of_the_package()]:
        found.setdefault(name, []).append(parser)
    return "\n".join([HEAD, *(_section(name, found[name]) for name in sorted(found))])


def _of_allennlp() -> List[Tuple[str, argparse.ArgumentParser]]:
    subparsers = argparse.ArgumentParser(prog="allennlp").add_subparsers()
    names = [
        name
        for name in Subcommand.list_available()
        if Subcommand.by_name(name).__module__.startswith(PACKAGE)
    ]
    return [(name, Subcommand.by_name(name)().add_subparser(subparsers)) for name in names]


def _of_the_package() -> List[Tuple[str, argparse.ArgumentParser]]:
    parsers = []
    for name, command in without_allennlp.COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE} {name}")
        command.add_arguments(parser)
        parsers.append((name, parser))
    return parsers


def _section(name: str, parsers: List[argparse.ArgumentParser]) -> str:
    parser = parsers[-1]
    options = [_option(parser, action) for action in parser._actions if action.dest != "help"]
    usages = "\n".join(_usage(one) for one in parsers)
    return "\n".join(
        [
            f"## {name}\n",
            f"{_escaped(parser.description or '')}\n",
            f"```text\n{usages}```\n",
            *options,
        ]
    )


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=_WIDTH)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, "")
    return formatter.format_help()


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """What is typed, and what it does, with its default."""
    formatter = argparse.HelpFormatter(parser.prog, width=_WIDTH)
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    value = re.sub(r"\s+", " ", value)
    if action.option_strings:
        typed = ", ".join(action.option_strings) + (f" {value}" if value else "")
    else:
        typed = str(action.metavar or action.dest)
    facts = [_escaped(formatter._expand_help(action)) if action.help else ""]
    if action.required and action.option_strings:
        facts.append("Required")
    if action.choices and "{" not in typed:
        facts.append(f"One of {', '.join(f'`{choice}`' for choice in action.choices)}")
    default = _default(action)
    if default and "default" not in facts[0]:
        facts.append(f"Default: `{default}`")
    text = ". ".join(_sentence(fact) for fact in facts if fact)
    return f"`{typed}`\n: {text or 'Off by default'}.\n"


def _sentence(text: str) -> str:
    """With a capital, unless the first word is a file's name."""
    return text[0].upper() + text[1:] if re.match(r"\w+\b(?!\.)", text) else text


def _default(action: argparse.Action) -> str:
    default: Any = action.default
    if default in (None, False, argparse.SUPPRESS, [], ""):
        return ""
    return " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)


def _escaped(text: str) -> str:
    """Help is plain text: what Markdown would take for its own stays as it is typed."""
    return re.sub(r"([*_`<>\[\]{}\\])", r"\\\1", text)
