"""The page of settings, from the comments of `multi_exit.libsonnet`."""

import re
from dataclasses import dataclass
from typing import List

from sledgehammer_allennlp.configs import SETTINGS_FILE

HEAD = """# Settings

All settings of a config that imports `multi_exit.libsonnet`, with their defaults. A config changes
those that differ,

```jsonnet
(import 'multi_exit.libsonnet') + { dataset:: 'mine', num_epochs:: 3 }
```

and a setting that does not exist is an error. `new-config` writes such a config for your data.
"""
_SETTING = re.compile(r"^  (\w+):: (.+),$")
_COMMENT = re.compile(r"^  // ?(.*)$")


@dataclass(frozen=True)
class Setting:
    """
    # Parameters

    name : `str`
    default : `str`
        In jsonnet.
    text : `str`
        What stands above it.
    """

    name: str
    default: str
    text: str


@dataclass(frozen=True)
class Group:
    """
    # Parameters

    title : `str`
    settings : `List[Setting]`
    """

    title: str
    settings: List[Setting]


def read_settings(text: str) -> List[Group]:
    """
    Settings and what stands above each. A comment with an empty line below it begins a group.

    # Raises

    ValueError
        If a setting has no comment above it, or stands before the first group.
    """
    groups: List[Group] = []
    comment: List[str] = []
    for line in text.splitlines():
        said, setting = _COMMENT.match(line), _SETTING.match(line)
        if said:
            comment.append(said.group(1))
        elif setting:
            name, default = setting.groups()
            if not comment or not groups:
                raise ValueError(f"{SETTINGS_FILE.name}: wanted a comment above {name}, in a group")
            groups[-1].settings.append(Setting(name, default, " ".join(comment)))
            comment = []
        elif line.startswith("  local"):  # what follows is made of the settings
            break
        elif comment and not line:
            groups.append(Group(" ".join(comment), []))
            comment = []
    return groups


def settings_page() -> str:
    """A section for each group of settings."""
    parts = [HEAD]
    for group in read_settings(SETTINGS_FILE.read_text(encoding="utf-8")):
        parts.append(f"## {group.title}\n")
        for setting in group.settings:
            default = "must be set" if setting.default.startswith("error ") else setting.default
            shown = default if default == "must be set" else f"default `{default}`"
            parts.append(f"`{setting.name}`\n: {shown}. {setting.text}\n")
    return "\n".join(parts)
