"""The service's addresses, and what is behind each. It knows HTTP, and of the model only jobs."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Optional

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from sledgehammer_allennlp.serving.answerer import Answerer, Job
from sledgehammer_allennlp.serving.bodies import read_json
from sledgehammer_allennlp.serving.exits import answer_of_each_exit
from sledgehammer_allennlp.serving.interfaces import (
    V2_INPUTS,
    Asked,
    read_embeddings_inference,
    read_own,
    read_v2,
    v2_outputs,
)
from sledgehammer_allennlp.serving.metrics import CONTENT_TYPE, Metrics
from sledgehammer_allennlp.serving.page import page
from sledgehammer_allennlp.serving.refusal import CLIENT_IS_GONE, CLOSING, FAILED, Refusal
from sledgehammer_allennlp.serving.schemas import ANSWER, EXITS, INFER, PREDICT

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """
    # Parameters

    model_name : `str`
        In the addresses of V2, and in `/info`.
    precision : `str`
        Of the model.
    max_body_bytes : `int`
    """

    model_name: str
    precision: str
    max_body_bytes: int


def create_app(answerer: Answerer, metrics: Metrics, settings: Settings) -> FastAPI:
    """
    The service. When it ends, it closes the answerer, which answers what it took.

    # Parameters

    answerer : `Answerer`
    metrics : `Metrics`
    settings : `Settings`
    """
    return _Service(answerer, metrics, settings).app


class _Service:
    def __init__(self, answerer: Answerer, metrics: Metrics, settings: Settings) -> None:
        self._answerer = answerer
        self._metrics = metrics
        self._settings = settings
        self._labels = answerer.classifier.labels
        self._at_exits = asyncio.Lock()
        self._is_closing = False
        # The page of /docs is ours too: FastAPI's own takes its scripts from another server.
        self.app = FastAPIOffline(
            title=settings.model_name,
            description="A text classifier with early exits. Its page: /",
            redoc_url=None,
            lifespan=self._lifespan,
        )
        self._add_routes()
        self.app.add_exception_handler(HTTPException, _http_error)
        self.app.add_exception_handler(RequestValidationError, _http_error)
        self.app.add_exception_handler(Exception, _unexpected)

    def _add_routes(self) -> None:
        post, get = self.app.post, self.app.get
        post("/answer", summary="Classify texts, as in lines of predict", openapi_extra=ANSWER)(
            self._counted("answer", self.answer)
        )
        for path in ("/predict", "/"):
            post(
                path,
                summary="As text-embeddings-inference",
                openapi_extra=PREDICT,
                include_in_schema=path != "/",
            )(self._counted("predict", self.predict))
        post("/v2/models/{name}/infer", summary="Open inference protocol V2", openapi_extra=INFER)(
            self._counted("v2", self.infer)
        )
        post("/exits", summary="What each exit would answer to one text", openapi_extra=EXITS)(
            self._counted("exits", self.exits)
        )
        get("/info", summary="The model and the service's settings")(self.info)
        get("/load", summary="Load, for the page")(self.load)
        get("/metrics", summary="For Prometheus")(self.metrics)
        get("/", response_class=HTMLResponse, include_in_schema=False)(self.page)
        for path in ("/health", "/v2/health/live"):
            get(path, summary="Whether the service runs")(self.live)
        for path in ("/v2/health/ready", "/v2/models/{name}/ready"):
            get(path, summary="Whether the service takes requests")(self.ready)
        get("/v2", summary="V2: the server")(self.v2_server)
        get("/v2/models/{name}", summary="V2: the model")(self.v2_model)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        yield
        self._is_closing = True
        await asyncio.to_thread(self._answerer.close)

    def _counted(
        self, interface: str, handle: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A handler whose value is written as JSON, and whose refusals are."""

        async def handler(request: Request) -> Response:
            try:
                response = _json(await handle(request))
            except Refusal as refusal:
                response = _refused(refusal)
            self._metrics.request(interface, response.status_code)
            return response

        return handler

    async def answer(self, request: Request) -> Any:
        """Our own interface."""
        value = await read_json(request, self._settings.max_body_bytes)
        return await self._answered(request, read_own(value, self._labels))

    async def predict(self, request: Request) -> Any:
        """That of text-embeddings-inference."""
        value = await read_json(request, self._settings.max_body_bytes)
        return await self._answered(request, read_embeddings_inference(value, self._labels))

    async def infer(self, request: Request) -> Any:
        """That of V2."""
        self._check_name(request)
        if "inference-header-content-length" in request.headers:
            raise Refusal(
                422, "the inputs are binary data after the JSON: wanted them in the JSON, as texts"
            )
        value = await read_json(request, self._settings.max_body_bytes)
        asked = read_v2(value, self._settings.model_name, len(self._labels))
        return await self._answered(request, asked)

    async def exits(self, request: Request) -> Any:
        """What each exit would answer, one request at a time, outside of the queue."""
        value = await read_json(request, self._settings.max_body_bytes)
        (question,) = read_own([value], self._labels).questions
        async with self._at_exits:
            return await asyncio.to_thread(
                answer_of_each_exit, self._answerer.classifier, question.texts
            )

    async def _answered(self, request: Request, asked: Asked) -> Any:
        if not asked.questions:
            return []
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def on_done(job: Job) -> None:
            loop.call_soon_threadsafe(_set_done, done)

        job = Job(asked.questions, on_done)
        self._answerer.submit(job)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not done.done():
                self._answerer.drop(job)
        if not done.done():
            raise Refusal(CLIENT_IS_GONE, "the client is gone")
        if job.error is not None:
            raise job.error
        answers = job.answers
        self._metrics.answered(job, answers, time.monotonic())
        return asked.write(answers)

    async def info(self) -> Response:
        answerer, control = self._answerer, self._answerer.control
        classifier = answerer.classifier
        return _json(
            {
                "model_name": self._settings.model_name,
                "labels": self._labels,
                "exit_layers": classifier.exits.exit_layers,
                "precision": self._settings.precision,
                "threshold": control.highest,
                "lowest_threshold": control.lowest,
                "latency_target_ms": None if control.target is None else control.target * 1000,
                "max_tokens": answerer.max_tokens,
                "max_body_bytes": self._settings.max_body_bytes,
            }
        )

    async def load(self) -> Response:
        """What the page shows of the present load."""
        return _json(
            {
                "queued_tokens": self._answerer.num_queued_tokens,
                "threshold": self._answerer.threshold,
                "expected_wait_ms": self._answerer.expected_wait * 1000,
                **self._metrics.summary(),
            }
        )

    async def metrics(self) -> Response:
        answerer = self._answerer
        written = self._metrics.written(
            answerer.num_queued_tokens,
            answerer.threshold,
            answerer.expected_wait,
            answerer.cut.num_cut,
        )
        return Response(written, media_type=CONTENT_TYPE)

    async def page(self) -> HTMLResponse:
        return page()

    async def live(self) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        try:
            self._check_name(request)
        except Refusal as refusal:
            return _refused(refusal)
        return _json({"ready": not self._is_closing}, CLOSING if self._is_closing else 200)

    async def v2_server(self) -> Response:
        return _json({"name": "sledgehammer_allennlp", "extensions": []})

    async def v2_model(self, request: Request) -> Response:
        try:
            self._check_name(request)
        except Refusal as refusal:
            return _refused(refusal)
        return _json(
            {
                "name": self._settings.model_name,
                "platform": "sledgehammer_allennlp",
                "inputs": V2_INPUTS,
                "outputs": v2_outputs(len(self._labels)),
            }
        )

    def _check_name(self, request: Request) -> None:
        name: Optional[str] = request.path_params.get("name")
        if name is not None and name != self._settings.model_name:
            raise Refusal(404, f"the model is {name[:200]!r}: wanted {self._settings.model_name!r}")


def _set_done(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: Any, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Response:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:  # of a model whose logits are not numbers
        return _error(FAILED, "the model's answer is not a number")
    # A lone surrogate becomes an escape of JSON.
    body = text.encode("utf-8", "backslashreplace")
    return Response(body, status, headers, media_type="application/json")


def _error(status: int, message: str, headers: Optional[Dict[str, str]] = None) -> Response:
    return _json({"error": message}, status, headers)


def _refused(refusal: Refusal) -> Response:
    return _error(refusal.status, refusal.message, refusal.headers())


async def _http_error(request: Request, error: Any) -> Response:
    status = getattr(error, "status_code", 422)
    what = {
        404: "found nothing at this address",
        405: f"found the method {request.method}, which this address does not take",
    }
    message = f"{what.get(status, 'the request cannot be answered')}: see /docs"
    return _error(status, message, getattr(error, "headers", None))


async def _unexpected(request: Request, error: Exception) -> Response:
    return _error(FAILED, f"the request failed by an error of the service ({type(error).__name__})")
