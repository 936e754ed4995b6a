"""What the page `/docs` says of each request's body and of its answer, as OpenAPI."""

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


_NUMBERS: Dict[str, Any] = {"type": "array", "items": {"type": "number"}}
_LABEL: Dict[str, Any] = {"type": ["string", "null"]}
_LAYER = {"type": "integer", "description": "The exit's layer, from 0; -1 before the first."}
_PROBS = {**_NUMBERS, "description": "Calibrated probabilities, in the order of /info's labels."}
_CONFIDENCE = {"type": "number", "minimum": 0, "maximum": 1}

_OWN_ANSWER: Dict[str, Any] = {
    "type": "object",
    "required": ["label", "confidence", "exit_layer", "threshold"],
    "properties": {
        "label": {
            **_LABEL,
            "description": "The most probable; null where a model that abstains is not so sure.",
        },
        "best_label": {**_TEXT, "description": "The most probable, of a model that may abstain."},
        "confidence": {**_CONFIDENCE, "description": "Of the exit at which the text exited."},
        "exit_layer": _LAYER,
        "probs": _PROBS,
        "logits": {**_NUMBERS, "description": "Before calibration, in the same order."},
        "threshold": {"type": "number", "description": "At which the text was answered."},
        "top_labels": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "probability"],
                "properties": {"label": _TEXT, "probability": {"type": "number"}},
            },
            "description": "With top_labels, in place of probs and logits: the most probable "
            "first.",
        },
        "windows": {"type": "integer", "description": "Of a text that is read in windows."},
        "windows_read": {"type": "integer", "description": "How many of them were read."},
    },
    "description": "Keys that were kept stand beside these.",
}
ANSWER_KEYS = tuple(_OWN_ANSWER["properties"])
"""Those of an answer of `/answer`, which are never those of a key that is kept."""

_AT_EXIT: Dict[str, Any] = {
    "type": "object",
    "required": ["exit_layer", "label", "confidence", "probs", "layer_equivalents"],
    "properties": {
        "exit_layer": _LAYER,
        "label": _TEXT,
        "confidence": _CONFIDENCE,
        "probs": _PROBS,
        "layer_equivalents": {"type": "number", "description": "What it costs to exit there."},
    },
}
_SCORES: Dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["label", "score"],
        "properties": {"label": _TEXT, "score": {"type": "number"}},
    },
}
_OUTPUT: Dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape", "data"],
    "properties": {
        "name": _TEXT,
        "datatype": _TEXT,
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array", "items": {}},
    },
}
_ERROR: Dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": _TEXT},
}
_ERRORS = {
    "400": "Not JSON.",
    "413": "The body, or a text with truncate false, is too large.",
    "422": "A field has a value that cannot be answered: the error names it.",
    "429": "Too much is waiting: Retry-After says when to try again.",
    "503": "The service is shutting down.",
}


def _json(schema: Dict[str, Any], **more: Any) -> Dict[str, Any]:
    return {"application/json": {"schema": schema, **more}}


def _body(schema: Dict[str, Any], example: Any, answer: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": _json(schema, example=example)},
        "responses": {
            "200": {"description": "The answer.", "content": _json(answer)},
            **{
                status: {"description": text, "content": _json(_ERROR)}
                for status, text in _ERRORS.items()
            },
        },
    }


def _one_or_list(schema: Dict[str, Any]) -> Dict[str, Any]:
    return {"oneOf": [schema, {"type": "array", "items": schema}]}


ANSWER = _body(
    _one_or_list(_OBJECT),
    {"sentence": "A quick answer, please.", "threshold": 0.9, "top_labels": 1},
    _one_or_list(_OWN_ANSWER),
)

EXITS = _body(
    _OBJECT, {"sentence": "A quick answer, please."}, {"type": "array", "items": _AT_EXIT}
)

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
    _one_or_list(_SCORES),
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
    {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "id": _TEXT,
            "model_name": _TEXT,
            "outputs": {"type": "array", "items": _OUTPUT},
        },
    },
)
