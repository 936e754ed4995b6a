"""The layers of an encoder in ONNX Runtime: faster than torch for up to three short
texts.

There, what torch takes to call each operation is more than the arithmetic. Above some hundred
tokens torch's own products are as fast.
"""

from functools import lru_cache
from importlib.util import find_spec
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from sledgehammer_allennlp.encoders.layer_parts import EncoderParts, LayerParts
from sledgehammer_allennlp.encoders.onnx_session import OnnxSession
from sledgehammer_allennlp.encoders.token_batch import Run, Segment

AUTO, TORCH, ONNXRUNTIME = RUNTIMES = ("auto", "torch", "onnxruntime")
"""What can run the layers at inference; `"auto"` is the faster one."""

HIDDEN, MEAN_WEIGHTS, LENGTHS = "hidden", "mean_weights", "lengths"
"""
The graph's inputs: what enters a block of layers, `(texts, tokens, hidden_size)`; what a token's
share in the mean of its text is, `(texts, 1, tokens)`; how many tokens each text has, `(texts,)`.
"""

_PRECISIONS = ("float32", "int8")

_MOST_TOKENS = 128
"""Up to so many, ONNX Runtime is the faster one."""

_MOST_WORK = {"float32": {2: 1.2e8, 3: 7.1e7}, "int8": {2: 1.8e8, 3: 4.5e7}}
"""
By precision and number of texts, multiply-adds of a layer for the longest text: up to so many, the
texts are faster in ONNX Runtime one after the other than together in torch, whose operations take
longer to call. On two cores, as shares of torch's time, MiniLM-L6 with 12, 25, 40 and 64 tokens:
two texts .64 .76 .83 .94 in float32 and .61 .73 .84 .94 in int8, three .79 .95 .97 1.07 and .84 .95
1.09 1.18, four from .95 on; BERT-base in int8 with 6, 12 and 25 tokens: two .70 .78 .95, three .94
1.04 1.25.
"""
_BYTES_OF_A_WEIGHT = {"float32": 4, "int8": 1}
_MOST_BYTES_OF_A_LAYER = 1e7
"""
With larger ones texts are not run one after the other: two took 1.16 to 1.25 of torch's time with
BERT-base in float32, where reading the weights, once for each text, takes most time.
"""

_PACKAGES = ("onnx", "onnxruntime")

_RUNS, _DOES_NOT_RUN = np.array(True), np.array(False)


def check_runtime_name(runtime: str) -> None:
    """
    # Raises

    ValueError
        If there is no such runtime.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime is {runtime!r}: wanted one of {', '.join(RUNTIMES)}")


def why_no_onnx(
    layers: Sequence[LayerParts], precision: str, device: torch.device
) -> Optional[str]:
    """Why these layers cannot run in ONNX Runtime; `None` if they can."""
    missing = _missing_packages()
    if missing:
        return f"{' and '.join(missing)} is not installed: pip install {' '.join(missing)}"
    if device.type != "cpu":
        return f"it runs on a CPU here, and the model is on '{device}'"
    if precision not in _PRECISIONS:
        return f"it computes in {' or '.join(_PRECISIONS)} here, and the precision is {precision}"
    from sledgehammer_allennlp.encoders.onnx_graph import why_no_graph

    return why_no_graph(layers)


@lru_cache(maxsize=1)
def _missing_packages() -> List[str]:
    return [package for package in _PACKAGES if find_spec(package) is None]


def runs_faster_in_onnx(lengths: torch.Tensor, precision: str) -> bool:
    """
    Whether ONNX Runtime is faster than torch for texts of these numbers of tokens: for a single
    one, if it is short. What runs beside the layers of several texts, in torch, is shared among
    torch's threads, which those of ONNX Runtime keep from the cores.
    """
    return lengths.numel() == 1 and precision in _PRECISIONS and int(lengths) <= _MOST_TOKENS


def runs_faster_one_by_one(lengths: torch.Tensor, precision: str, work_of_layer: int) -> bool:
    """
    Whether texts of these numbers of tokens are faster one after the other in ONNX Runtime than
    together in torch: two or three, if they are short and the layers small. `work_of_layer` is in
    multiply-adds for one token, which are as many as the layer's weights.
    """
    most_work = _MOST_WORK.get(precision, {}).get(lengths.numel())
    if most_work is None or work_of_layer * _BYTES_OF_A_WEIGHT[precision] > _MOST_BYTES_OF_A_LAYER:
        return False
    longest = max(lengths.tolist())
    return longest <= _MOST_TOKENS and longest * work_of_layer <= most_work


class BlockOutput(NamedTuple):
    """
    What a block of layers gives, without padding: the output of the last layer, `(num_tokens,
    hidden_size)`, or `(num_texts, hidden_size)` where only first tokens are computed; what enters
    the last layer, `None` if it is not asked for; and one vector a layer, each `(num_texts,
    hidden_size)`: the means of what enters the layers, or their outputs' first tokens.
    """

    hidden: torch.Tensor
    entering: Optional[torch.Tensor]
    layer_vectors: Tuple[torch.Tensor, ...]


class OnnxLayers(OnnxSession):
    """
    Layers from exit to exit, in one session with its own copy of the weights.

    # Parameters

    encoder : `EncoderParts`
    exit_layers : `Sequence[int]`
        After which layers there are exits, ascending; -1 is passed over. Of the last one only the
        first tokens are computed.
    """

    def __init__(self, encoder: EncoderParts, exit_layers: Sequence[int]) -> None:
        from sledgehammer_allennlp.encoders import onnx_graph as graph

        ends = [layer for layer in exit_layers if layer >= 0]
        starts = [0, *(end + 1 for end in ends)]
        blocks = [
            graph.Block(first, last, first_tokens_only=last == ends[-1])
            for first, last in zip(starts, ends)
        ]
        super().__init__(graph.build_graph(encoder, blocks))
        self._block_ending_at = {block.last: number for number, block in enumerate(blocks)}
        self._blocks = blocks
        self._outputs = [graph.outputs_of(number) for number in range(len(blocks))]
        self._condition_names = [graph.condition_of(number) for number in range(len(blocks))]

    def run_to(
        self, layer: int, hidden: torch.Tensor, texts: "PaddedTexts", pooling: str, entering: bool
    ) -> BlockOutput:
        """
        Runs the layers after an exit up to the next.

        # Parameters

        layer : `int`
            The next exit's.
        hidden : `torch.Tensor`
            `(num_tokens, hidden_size)`, what enters the first of these layers, in float32.
        texts : `PaddedTexts`
            Where the texts lie.
        pooling : `str`
            `"mean"` or `"first"`: which vectors are given.
        entering : `bool`
            Whether what enters the last layer is asked for.
        """
        number = self._block_ending_at[layer]
        output, what_enters, means, first_tokens = self._outputs[number]
        wanted = [output, means if pooling == "mean" else first_tokens]
        if entering:
            wanted.append(what_enters)
        feeds = {HIDDEN: texts.pad(hidden), **texts.feeds, **self._conditions(number)}
        found, vectors, *rest = map(torch.from_numpy, self.run(wanted, feeds))
        return BlockOutput(
            found.squeeze(1) if self._blocks[number].first_tokens_only else texts.unpad(found),
            texts.unpad(rest[0]) if rest else None,
            vectors.unbind(1),
        )

    def _conditions(self, running: int) -> Dict[str, np.ndarray]:
        """That the block with this number runs."""
        return {
            name: _RUNS if number == running else _DOES_NOT_RUN
            for number, name in enumerate(self._condition_names)
        }


class PaddedTexts:
    """
    Where texts lie among their tokens, for `OnnxLayers`; the same for all layers.

    # Parameters

    lengths : `torch.Tensor`
        `(num_texts,)`, the tokens of each text.
    """

    def __init__(self, lengths: torch.Tensor) -> None:
        as_list = lengths.tolist()
        is_padded = len(set(as_list)) > 1
        self._num_texts, self._length = len(as_list), max(as_list)
        self._segment: Optional[Segment] = None
        if is_padded:
            run = Run(self._num_texts, is_padded)
            self._segment = Segment.of(lengths, run, torch.device("cpu"))
        self.feeds = {
            MEAN_WEIGHTS: self._mean_weights(),
            LENGTHS: np.array(as_list, dtype=np.int32),
        }

    def _mean_weights(self) -> np.ndarray:
        """Each token's share in the mean of its text, `(num_texts, 1, length)`."""
        if self._segment is None or self._segment.mask is None:
            shape = (self._num_texts, 1, self._length)
            return np.full(shape, 1 / self._length, np.float32)
        mask = self._segment.mask.squeeze(1).float()
        weights: np.ndarray = (mask / mask.sum(-1, keepdim=True)).numpy()
        return weights

    def pad(self, tokens: torch.Tensor) -> np.ndarray:
        """From `(num_tokens, size)` to `(num_texts, length, size)`."""
        if self._segment is not None:
            tokens = self._segment.pad(tokens)
        padded: np.ndarray = tokens.numpy().reshape(self._num_texts, self._length, -1)
        return padded

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """From `(num_texts, length, size)` to `(num_tokens, size)`."""
        return padded.flatten(0, 1) if self._segment is None else self._segment.unpad(padded)
