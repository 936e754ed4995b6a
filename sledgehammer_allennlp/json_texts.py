"""The texts in a JSON object, of a line of `predict` or a request to a service."""

from itertools import islice
from typing import Any, List

from sledgehammer_allennlp.values import short_repr

TEXT_KEYS = ("sentence", "premise", "hypothesis")
WANTED = 'wanted {"sentence": …} or {"premise": …, "hypothesis": …}, with texts as values'


def texts_in(json_dict: Any, at: str = "") -> List[str]:
    """
    The sentence, or premise and hypothesis. Other keys are ignored.

    # Parameters

    json_dict : `Any`
    at : `str`, optional (default = `""`)
        Where it stands, which an error says first.

    # Raises

    ValueError
        If it is no object, has not these keys, or other values than texts under them.
    """
    if not isinstance(json_dict, dict):
        raise ValueError(f"{at}the input is {short_repr(json_dict)}: {WANTED}")
    if "sentence" in json_dict:
        keys = ["sentence"]
    elif "premise" in json_dict and "hypothesis" in json_dict:
        keys = ["premise", "hypothesis"]
    else:
        found = ", ".join(short_repr(key) for key in islice(json_dict, 20)) or "none"
        found += ", …" * (len(json_dict) > 20)
        raise ValueError(f"{at}the input has the keys {found}: {WANTED}")
    for key in keys:
        if not isinstance(json_dict[key], str):
            value = short_repr(json_dict[key])
            raise ValueError(f"{at}the value of '{key}' is {value}: {WANTED}")
    return [json_dict[key] for key in keys]
