"""What is kept of the input is called as it was there, unless an answer has that name."""

OTHER_KEYS = "other_keys"
"""What holds the keys of a row that have no column of their own."""

ANSWER_NAMES = (
    *("label", "confidence", "exit_layer", "probs", "logits", "top_labels", "top_probs"),
    *("best_label", "error", "line", "windows", "windows_read"),
)


def kept_name(name: str) -> str:
    """What a kept column, or key, is called beside the answers: `label` is `input_label`."""
    return f"input_{name}" if name in (*ANSWER_NAMES, OTHER_KEYS) else name
