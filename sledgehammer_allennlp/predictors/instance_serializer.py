"""What `allennlp evaluate --predictions-output-file` writes: one line for each instance."""

import json
from typing import Any, Callable, Dict, Optional

from allennlp.common.util import sanitize
from allennlp.data import DataLoader
from allennlp.evaluation.serializers.serializers import Serializer


@Serializer.register("instances")
class InstanceSerializer(Serializer):
    """
    Writes a JSON object a line for each instance that a `multi_exit_classifier` has answered, and
    not, as AllenNLP's own, one for each batch with its token ids: what is in the instance's
    `metadata` (of `labeled_tsv`, the number of the line that it was read from, and its label
    there), and what the model answered.

    The order is that in which the data was run.

    Registered as a `Serializer` with name "instances". It has no parameters.
    """

    def __call__(
        self,
        batch: Dict[str, Any],
        output_dict: Dict[str, Any],
        data_loader: DataLoader,
        output_postprocess_function: Optional[Callable] = None,
    ) -> str:
        if output_postprocess_function is not None:
            output_dict = output_postprocess_function(output_dict)
        outputs = sanitize(output_dict)
        if "best_label" in outputs:  # where it is null, AllenNLP writes "None"
            outputs["label"] = output_dict["label"]
        num_instances = len(outputs["exit_layer"])
        metadata = sanitize(batch.get("metadata")) or [{}] * num_instances
        lines = []
        for i in range(num_instances):
            about = metadata[i] if isinstance(metadata[i], dict) else {}
            answer = {key: value[i] for key, value in outputs.items() if isinstance(value, list)}
            lines.append(json.dumps({**about, **answer}))
        return "\n".join(lines)

    def _to_params(self) -> Dict[str, Any]:
        return {"type": "instances"}
