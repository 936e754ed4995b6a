"""What clients send and get: our own interface, that of text-embeddings-inference, and V2.

Each function takes a request's JSON value, and gives the questions in it and how their answers are
written. What cannot be answered raises a `Refusal` that names the field, the value and what was
wanted.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from sledgehammer_allennlp.json_texts import texts_in
from sledgehammer_allennlp.serving.answerer import Question, Texts
from sledgehammer_allennlp.serving.refusal import bad_value
from sledgehammer_allennlp.serving.schemas import ANSWER_KEYS
from sledgehammer_allennlp.values import is_number, short_repr

Answers = Sequence[Dict[str, Any]]


class Asked(NamedTuple):
    """The questions of a request, and what their answers, in the same order, are written as."""

    questions: List[Question]
    write: Callable[[Answers], Any]


def read_own(value: Any, labels: Sequence[str]) -> Asked:
    """
    An object, or a list of objects, as in the lines of `predict`, which may have a `threshold`,
    `keep` (keys that are passed through) and `top_labels` (how many labels). The answer is what
    `predict` writes, with the threshold; with `top_labels`, in place of `logits` and `probs`, a
    list of labels and probabilities, the most probable first.
    """
    is_list = isinstance(value, list)
    objects = value if is_list else [value]
    questions = []
    for i, one in enumerate(objects):
        at = f"[{i}]: " if is_list else ""
        try:
            texts = tuple(texts_in(one, at))
        except ValueError as error:
            raise bad_value(str(error)) from error
        questions.append(Question(texts, _threshold_in(one, at)))
        _check_kept(one, at)
        _check_top_labels(one, at)

    def write(answers: Answers) -> Any:
        written = [_own_answer(one, answer, labels) for one, answer in zip(objects, answers)]
        return written if is_list else written[0]

    return Asked(questions, write)


def _own_answer(
    asked: Dict[str, Any], answer: Dict[str, Any], labels: Sequence[str]
) -> Dict[str, Any]:
    num_top = asked.get("top_labels")
    if num_top is not None:
        answer = {key: value for key, value in answer.items() if key not in ("logits", "probs")} | {
            "top_labels": _descending(labels, answer["probs"], "probability")[:num_top]
        }
    return {**answer, **{key: asked[key] for key in asked.get("keep") or ()}}


def _descending(labels: Sequence[str], numbers: Sequence[float], key: str) -> List[Dict[str, Any]]:
    """Labels and numbers, the largest number first; of equal ones, the first label."""
    in_order = sorted(zip(labels, numbers), key=lambda pair: -pair[1])
    return [{"label": label, key: number} for label, number in in_order]


def _threshold_in(given: Dict[str, Any], at: str = "") -> Optional[float]:
    threshold = given.get("threshold")
    if threshold is None:
        return None
    if not is_number(threshold) or not 0 <= threshold <= 1:
        raise bad_value(
            f"{at}'threshold' is {short_repr(threshold)}: wanted a number from 0 to 1, or none"
        )
    return float(threshold)


def _check_kept(given: Dict[str, Any], at: str) -> None:
    kept = given.get("keep")
    if kept is None:
        return
    if not isinstance(kept, list) or not all(isinstance(key, str) for key in kept):
        raise bad_value(f"{at}'keep' is {short_repr(kept)}: wanted a list of keys of the object")
    for key in kept:
        if key not in given:
            raise bad_value(f"{at}'keep' has {short_repr(key)}, which is no key of the object")
        if key in ANSWER_KEYS:
            raise bad_value(
                f"{at}'keep' has {short_repr(key)}, which is a key of the answer: wanted others"
            )


def _check_top_labels(given: Dict[str, Any], at: str) -> None:
    number = given.get("top_labels")
    is_integer = isinstance(number, int) and not isinstance(number, bool)
    if number is not None and not (is_integer and number >= 1):
        raise bad_value(f"{at}'top_labels' is {short_repr(number)}: wanted a positive integer")


_WANTED_INPUTS = (
    'wanted a text, a pair of texts ["first", "second"], or a list of lists of one or two texts'
)


def read_embeddings_inference(value: Any, labels: Sequence[str]) -> Asked:
    """
    As `/predict` of text-embeddings-inference. `inputs` is a text; a list of two texts, which is a
    *pair*, not two texts; or a list of lists of one or two texts, which is a batch. The answer is a
    list of labels and scores, the highest first; of a batch, a list of such lists.

    `raw_scores` asks for logits, `truncate: false` refuses texts that are too long. A client of
    Hugging Face's inference sends `parameters`, with `top_k` perhaps, and gets a list of lists.
    """
    if not isinstance(value, dict) or "inputs" not in value:
        raise bad_value(
            f"the request is {short_repr(value)}: wanted an object with 'inputs'; {_WANTED_INPUTS}"
        )
    inputs = value["inputs"]
    is_batch = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)
    if is_batch:
        all_texts = [_texts_of_input(one, f"'inputs'[{i}]") for i, one in enumerate(inputs)]
    else:
        all_texts = [_texts_of_input(inputs, "'inputs'")]
    raw_scores = _flag_in(value, "raw_scores", False)
    truncate = _flag_in(value, "truncate", True)
    threshold = _threshold_in(value)
    parameters = value.get("parameters")
    num_top: Optional[int] = None
    if parameters is not None:
        num_top = _top_k_in(parameters)
    questions = [Question(texts, threshold, refuse_long=not truncate) for texts in all_texts]

    def write(answers: Answers) -> Any:
        key = "logits" if raw_scores else "probs"
        scores = [_descending(labels, answer[key], "score")[:num_top] for answer in answers]
        return scores if is_batch or parameters is not None else scores[0]

    return Asked(questions, write)


def _texts_of_input(given: Any, where: str) -> Texts:
    texts = [given] if isinstance(given, str) else given
    is_good = (
        isinstance(texts, list)
        and len(texts) in (1, 2)
        and all(isinstance(text, str) for text in texts)
    )
    if not is_good:
        raise bad_value(f"{where} is {short_repr(given)}: {_WANTED_INPUTS}")
    return tuple(texts)


def _flag_in(given: Dict[str, Any], key: str, default: bool) -> bool:
    found = given.get(key)
    if found is None:
        return default
    if not isinstance(found, bool):
        raise bad_value(f"'{key}' is {short_repr(found)}: wanted true or false")
    return found


def _top_k_in(parameters: Any) -> Optional[int]:
    if not isinstance(parameters, dict):
        raise bad_value(f"'parameters' is {short_repr(parameters)}: wanted an object")
    top_k = parameters.get("top_k")
    is_integer = isinstance(top_k, int) and not isinstance(top_k, bool)
    if top_k is not None and not (is_integer and top_k >= 1):
        raise bad_value(f"'top_k' is {short_repr(top_k)}: wanted a positive integer")
    return top_k


TEXT, TEXT_PAIR = "text", "text_pair"

V2_INPUTS = [
    {"name": TEXT, "datatype": "BYTES", "shape": [-1]},
    {"name": TEXT_PAIR, "datatype": "BYTES", "shape": [-1], "optional": True},
]


def v2_outputs(num_labels: int) -> List[Dict[str, Any]]:
    """The names, types and shapes of what a V2 inference gives."""
    return [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "confidence", "datatype": "FP32", "shape": [-1]},
        {"name": "exit_layer", "datatype": "INT64", "shape": [-1]},
        {"name": "probs", "datatype": "FP32", "shape": [-1, num_labels]},
        {"name": "logits", "datatype": "FP32", "shape": [-1, num_labels]},
        {"name": "threshold", "datatype": "FP64", "shape": [-1]},
    ]


def read_v2(value: Any, model_name: str, num_labels: int) -> Asked:
    """
    An inference request of the open inference protocol V2, in JSON: the input `text`, of BYTES, and
    for pairs `text_pair` of the same shape; the parameter `threshold`. The label of a model that
    abstains is an empty text.
    """
    if not isinstance(value, dict) or not isinstance(value.get("inputs"), list):
        raise bad_value(
            f"the request is {short_repr(value)}: wanted an object with a list 'inputs'"
        )
    texts: Dict[str, List[str]] = {}
    for i, tensor in enumerate(value["inputs"]):
        name, data = _v2_tensor(tensor, f"'inputs'[{i}]")
        if name in texts:
            raise bad_value(f"'inputs' has {name!r} twice: wanted it once")
        texts[name] = data
    if TEXT not in texts:
        raise bad_value(
            f"'inputs' has {sorted(texts)}: wanted '{TEXT}', and for pairs '{TEXT_PAIR}'"
        )
    if TEXT_PAIR in texts and len(texts[TEXT_PAIR]) != len(texts[TEXT]):
        raise bad_value(
            f"'{TEXT}' has {len(texts[TEXT])} texts and '{TEXT_PAIR}' {len(texts[TEXT_PAIR])}: "
            "wanted as many"
        )
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad_value(f"'parameters' is {short_repr(parameters)}: wanted an object")
    threshold = _threshold_in(parameters)
    outputs = _v2_wanted_outputs(value.get("outputs"), num_labels)
    each = zip(*(texts[name] for name in (TEXT, TEXT_PAIR) if name in texts))
    questions = [Question(tuple(one), threshold) for one in each]

    def write(answers: Answers) -> Any:
        written: Dict[str, Any] = {"model_name": model_name, "outputs": []}
        if isinstance(value.get("id"), str):
            written["id"] = value["id"]
        for output in outputs:
            data = [answer[output["name"]] for answer in answers]
            if output["name"] == "label":  # BYTES have no null, which an abstaining model gives
                data = ["" if label is None else label for label in data]
            if len(output["shape"]) == 2:
                data = [number for row in data for number in row]
            shape = [len(answers), *output["shape"][1:]]
            written["outputs"].append({**output, "shape": shape, "data": data})
        return written

    return Asked(questions, write)


def _v2_tensor(tensor: Any, where: str) -> Tuple[str, List[str]]:
    if not isinstance(tensor, dict):
        raise bad_value(f"{where} is {short_repr(tensor)}: wanted an object")
    name = tensor.get("name")
    if name not in (TEXT, TEXT_PAIR):
        raise bad_value(f"{where}.name is {short_repr(name)}: wanted '{TEXT}' or '{TEXT_PAIR}'")
    if tensor.get("datatype") != "BYTES":
        raise bad_value(f"{where}.datatype is {short_repr(tensor.get('datatype'))}: wanted 'BYTES'")
    data = tensor.get("data")
    if data is None:
        raise bad_value(
            f"{where} has no 'data': wanted texts in the JSON, not binary data after it"
        )
    if isinstance(data, list):
        data = [text for one in data for text in (one if isinstance(one, list) else [one])]
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise bad_value(f"{where}.data is {short_repr(data)}: wanted a list of texts")
    shape = tensor.get("shape")
    if shape not in ([len(data)], [len(data), 1], [1, len(data)]):
        raise bad_value(f"{where}.shape is {short_repr(shape)}: wanted [{len(data)}], as of 'data'")
    return name, data


def _v2_wanted_outputs(given: Any, num_labels: int) -> List[Dict[str, Any]]:
    every = v2_outputs(num_labels)
    if given is None:
        return every
    by_name = {output["name"]: output for output in every}
    names = [one.get("name") if isinstance(one, dict) else None for one in given or []]
    if not isinstance(given, list) or any(name not in by_name for name in names):
        raise bad_value(
            f"'outputs' is {short_repr(given)}: wanted a list of objects with a 'name', of "
            f"{', '.join(by_name)}"
        )
    return [by_name[name] for name in names]
