"""Prints the table of supported families, in Markdown, as it stands in the reference."""

from typing import List

from sledgehammer_allennlp.encoders.families import FAMILIES


def family_table() -> str:
    """A line for each family, by what the code says of it."""
    lines: List[str] = [
        "| family | `model_type` | positions | pretrained pooler | transformers |",
        "|---|---|---|---|---|",
    ]
    for model_type, family in FAMILIES.items():
        cells = [
            family.title,
            f"`{model_type}`",
            family.positions,
            "none" if family.pool is None else "yes",
            "any" if family.since is None else f"{family.since} and newer",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(family_table())
