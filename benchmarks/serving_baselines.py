"""
Services that a user would write instead of `serve`, with the weights of the same archive. Each says
on stderr where it will listen, and answers `{"sentence": ...}` at `/answer`.
"""

import asyncio
import socket
import sys
from typing import Any, Callable, Dict, List

import torch

from benchmarks.subjects import FullDepth, OnnxRuntime
from sledgehammer_allennlp import load_archived_classifier

BASELINES = ("plain", "classifier", "litserve onnx int8", "litserve classifier")

AnswerAll = Callable[[List[str]], List[Dict[str, Any]]]


def serve_baseline(kind: str, archive: str, threshold: float) -> None:
    """
    Listens on a free port until it is ended.

    # Parameters

    kind : `str`
        One of `BASELINES`.
    archive : `str`
    threshold : `float`
        Of those that exit early.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listening.getsockname()[1]
    if kind.startswith("litserve"):
        listening.close()  # LitServe takes a number
        _say(port)
        try:
            from benchmarks.litserve_api import serve
        except ImportError as error:
            raise SystemExit(f"{error}: run this by make benchmark-serving, which installs it")
        serve(kind, archive, threshold, port)
    else:
        answer_all = answers_of(kind, archive, threshold)
        answer_all(["warm up"])
        _say(port)
        _serve_one_by_one(answer_all, listening)


def _say(port: int) -> None:
    print(f"Serving at http://127.0.0.1:{port} ", file=sys.stderr, flush=True)


def answers_of(kind: str, archive: str, threshold: float) -> AnswerAll:
    """What answers texts."""
    exits_early = kind.endswith("classifier")
    classifier = load_archived_classifier(
        archive, confidence_threshold=threshold, inference_only=exits_early
    )
    if exits_early:
        return classifier.predict
    tokenizer = classifier.tokenizer
    assert tokenizer is not None
    full_depth = FullDepth(classifier).eval()

    def tokenized(texts: List[str]) -> Dict[str, torch.Tensor]:
        tokens = tokenizer(
            texts, return_tensors="pt", truncation=True, max_length=512, padding=True
        )
        return dict(tokens)

    if kind == "plain":

        @torch.no_grad()
        def by_transformers(texts: List[str]) -> List[Dict[str, Any]]:
            return [{"logits": row} for row in full_depth(**tokenized(texts)).tolist()]

        return by_transformers
    session = OnnxRuntime(full_depth, int8=True)

    def by_onnx(texts: List[str]) -> List[Dict[str, Any]]:
        inputs = {name: x.numpy() for name, x in tokenized(texts).items()}
        return [{"logits": row} for row in session.logits(inputs).tolist()]

    return by_onnx


def _serve_one_by_one(answer_all: AnswerAll, listening: socket.socket) -> None:
    """FastAPI; texts are answered in a thread, one at a time: more would only share the cores."""
    from concurrent.futures import ThreadPoolExecutor

    import uvicorn
    from fastapi import FastAPI, Request

    app = FastAPI()
    one_at_a_time = ThreadPoolExecutor(1)

    @app.post("/answer")
    async def answer(request: Request) -> Dict[str, Any]:
        text = (await request.json())["sentence"]
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(one_at_a_time, answer_all, [text]))[0]

    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])
