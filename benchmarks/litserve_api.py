"""A service by LitServe, whose worker is a process that imports this module."""

from typing import Any, Dict, List

import litserve

from benchmarks.serving_baselines import answers_of

MAX_BATCH, BATCH_SECONDS = 32, 0.005
"""LitServe's batches: of so many texts at most, after waiting so long for company."""


class Answers(litserve.LitAPI):
    """
    Answers batches as `answers_of` does.

    # Parameters

    kind, archive, threshold
        See `serving_baselines.serve_baseline`.
    """

    def __init__(self, kind: str, archive: str, threshold: float) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_SECONDS, api_path="/answer")
        self._what = (kind, archive, threshold)

    def setup(self, device: str) -> None:
        self._answer_all = answers_of(*self._what)
        self._answer_all(["warm up"])

    def decode_request(self, request: Dict[str, Any]) -> str:
        text: str = request["sentence"]
        return text

    def batch(self, inputs: List[str]) -> List[str]:
        return list(inputs)

    def predict(self, texts: List[str]) -> List[Dict[str, Any]]:
        return self._answer_all(texts)

    def unbatch(self, output: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        return output

    def encode_response(self, output: Dict[str, Any]) -> Dict[str, Any]:
        return output


def serve(kind: str, archive: str, threshold: float, port: int) -> None:
    """Listens until it is ended; one worker, which uses all cores."""
    server = litserve.LitServer(Answers(kind, archive, threshold), accelerator="cpu")
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)
