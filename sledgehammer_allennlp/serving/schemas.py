"""What the page `/docs` says of each request's body, as OpenAPI."""

from typing import Any, Dict

_TEXT = {"type": "string"}
_THRESHOLD = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "description": "Exit at the first exit of at least this confidence; by default the service's.",
}
_OBJECT: Dict[str, Any] = {
    "type": "object",
    "properties": {
        "sentence": {**_TEXT, "description": "The text; or premise and hypothesis, of a pair."},
        "premise": _TEXT,
        "hypothesis": _TEXT,
        "threshold": _THRESHOLD,
        "keep": {
            "type": "array",
            "items": _TEXT,
            "description": "Keys of the object that are passed through to the answer.",
        },
        "top_labels": {
            "type": "integer",
            "minimum": 1,
            "description": "So many labels with probabilities in place of logits and probs.",
        },
    },
}
_TEXTS: Dict[str, Any] = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}


def _body(schema: Dict[str, Any], example: Any) -> Dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    errors = {
        "400": "Not JSON.",
        "413": "The body, or a text with truncate false, is too large.",
        "422": "A field has a value that cannot be answered: the error names it.",
        "429": "Too much is waiting: Retry-After says when to try again.",
        "503": "The service is shutting down.",
    }
    return {
        "requestBody": {"required": True, "content": content},
        "responses": {status: {"description": text} for status, text in errors.items()},
    }


ANSWER = _body(
    {"oneOf": [_OBJECT, {"type": "array", "items": _OBJECT}]},
    {"sentence": "A quick answer, please.", "threshold": 0.9, "top_labels": 1},
)

EXITS = _body(_OBJECT, {"sentence": "A quick answer, please."})

PREDICT = _body(
    {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {
                "description": "A text; a list of two texts, which is a PAIR; or a batch: a list "
                "of lists of one or two texts.",
                "oneOf": [_TEXT, _TEXTS, {"type": "array", "items": _TEXTS}],
            },
            "raw_scores": {"type": "boolean", "default": False, "description": "Give logits."},
            "truncate": {
                "type": "boolean",
                "default": True,
                "description": "False refuses texts that are too long.",
            },
            "threshold": _THRESHOLD,
        },
    },
    {"inputs": [["A quick answer, please."], ["Another one."]]},
)

INFER = _body(
    {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "items": {"type": "object"}},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": {"type": "object", "properties": {"threshold": _THRESHOLD}},
        },
    },
    {
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["A quick answer, please."]}
        ]
    },
)
