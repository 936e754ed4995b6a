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
    answers = dict(about["responses"])
    if "requestBody" in about:
        (content,) = answers.pop("200")["content"].values()
        parts += ["**Answers** with JSON:\n", *_fields(content["schema"]), "**Or with**\n"]
    else:
        parts.append("**Answers**\n")
    parts += [f"`{status}`\n: {answer['description']}\n" for status, answer in answers.items()]
    return "\n".join(parts)


def _fields(schema: Dict[str, Any]) -> List[str]:
    if "oneOf" in schema:
        one, _ = schema["oneOf"]
        return [f"{_what(one)}, or a list of such, with\n", *_fields(_object(one))]
    if schema["type"] == "array":
        return [f"{_what(schema)} with\n", *_fields(_object(schema))]
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
        parts.append(f"`{name}`\n: {text} {field.get('description', '')}".rstrip() + "\n")
    return parts


def _object(schema: Dict[str, Any]) -> Dict[str, Any]:
    """A schema's objects."""
    return _object(schema["items"]) if schema["type"] == "array" else schema


def _what(schema: Dict[str, Any]) -> str:
    return "a list of objects" if schema["type"] == "array" else "an object"


def _kind(field: Dict[str, Any]) -> str:
    if "oneOf" in field:
        return " or ".join(_kind(one) for one in field["oneOf"])
    if field["type"] == "array":
        return f"list of {_kind(field['items'])}"
    if isinstance(field.get("type"), list):
        return " or ".join(field["type"])
    return str(field.get("type", "any value"))
