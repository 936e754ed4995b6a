"""The page of the service's addresses, from its description in OpenAPI."""

import json
from types import SimpleNamespace
from typing import Any, Dict, List

from sledgehammer_allennlp.serving.app import Settings, create_app

HEAD = """# HTTP

What `python -m sledgehammer_allennlp serve` answers, made from its own description, which a running
service has at `/openapi.json` and shows at `/docs`. At `/` it has a page to try it on.
"""


def http_page() -> str:
    """A section for each address."""
    parts = [HEAD]
    for path, methods in description()["paths"].items():
        for method, about in methods.items():
            parts.append(_section(f"{method.upper()} {path}", about))
    return "\n".join(parts)


def description() -> Dict[str, Any]:
    """The service's. It does not depend on what the service answers with."""
    answerer: Any = SimpleNamespace(classifier=SimpleNamespace(labels=[]))
    metrics: Any = None
    return create_app(answerer, metrics, Settings("NAME", "float32", 0)).openapi()


def _section(title: str, about: Dict[str, Any]) -> str:
    parts = [f"## `{title}`\n", f"{about['summary']}.\n"]
    if "requestBody" in about:
        (content,) = about["requestBody"]["content"].values()
        parts += ["**Takes** JSON:\n", *_fields(content["schema"])]
        parts.append(f"For example\n\n```json\n{json.dumps(content['example'], indent=2)}\n```\n")
    answers = about["responses"]
    parts.append("**Answers**\n")
    parts += [f"`{status}`\n: {answer['description']}\n" for status, answer in answers.items()]
    return "\n".join(parts)


def _fields(schema: Dict[str, Any]) -> List[str]:
    if "oneOf" in schema:
        (one,) = (kind for kind in schema["oneOf"] if kind["type"] == "object")
        return ["an object, or a list of such objects, with\n", *_fields(one)]
    required = schema.get("required", [])
    parts = []
    for name, field in schema["properties"].items():
        facts = [_kind(field)]
        if name in required:
            facts.append("required")
        if "default" in field:
            facts.append(f"default `{json.dumps(field['default'])}`")
        if "minimum" in field:
            least, most = field["minimum"], field.get("maximum")
            facts.append(f"at least {least:g}" if most is None else f"from {least:g} to {most:g}")
        text = ", ".join(facts) + "."
        parts.append(f"`{name}`\n: {text} {field.get('description', '')}\n")
    return parts


def _kind(field: Dict[str, Any]) -> str:
    if "oneOf" in field:
        return " or ".join(_kind(one) for one in field["oneOf"])
    if field["type"] == "array":
        return f"list of {_kind(field['items'])}"
    return str(field["type"])
