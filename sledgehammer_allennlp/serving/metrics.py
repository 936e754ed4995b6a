"""What a service measures of itself, for Prometheus."""

from collections import deque
from typing import Any, Deque, Dict, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sledgehammer_allennlp.serving.answerer import Job

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

_NUM_RECENT = 200

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """
    # Parameters

    exit_costs : `Dict[int, float]`
        Of each exit layer, the layer-equivalents of exiting there.
    """

    def __init__(self, exit_costs: Dict[int, float]) -> None:
        self._exit_costs = exit_costs
        self._registry = CollectorRegistry()
        made: Dict[str, Any] = {"registry": self._registry}
        self._requests = Counter(
            "sledgehammer_requests", "Requests.", ["interface", "status"], **made
        )
        self._texts = Counter("sledgehammer_texts", "Texts, or pairs, answered.", **made)
        self._cut = Counter(
            "sledgehammer_texts_cut", "Texts, or pairs, that were too long and were cut.", **made
        )
        exits = Counter("sledgehammer_exits", "Texts that exited here.", ["exit_layer"], **made)
        self._exits = {layer: exits.labels(str(layer)) for layer in exit_costs}
        self._cost = Counter(
            "sledgehammer_layer_equivalents",
            "Compute of the texts answered, in layers over the same tokens.",
            **made,
        )
        seconds = Histogram(
            "sledgehammer_seconds",
            "Seconds of a request until it is started (queue) and answered (total); of a step of "
            "the layers (step).",
            ["stage"],
            buckets=_SECONDS,
            **made,
        )
        self._queue, self._total, self._step = (
            seconds.labels(stage) for stage in ("queue", "total", "step")
        )
        self._recent: Deque[float] = deque(maxlen=_NUM_RECENT)
        self._queued_tokens = Gauge(
            "sledgehammer_queued_tokens", "Tokens of texts that are not answered yet.", **made
        )
        self._threshold = Gauge(
            "sledgehammer_threshold", "That of a text that comes now without its own.", **made
        )
        self._expected_wait = Gauge(
            "sledgehammer_expected_wait_seconds", "Of a text that comes now.", **made
        )

    def step(self, seconds: float) -> None:
        """A step of the layers took so long."""
        self._step.observe(seconds)

    def request(self, interface: str, status: int) -> None:
        """A request was answered, with this status."""
        self._requests.labels(interface, str(status)).inc()

    def answered(self, job: Job, answers: Sequence[Dict[str, Any]], now: float) -> None:
        """A job is done without error."""
        self._texts.inc(len(answers))
        layers = [answer["exit_layer"] for answer in answers]
        for layer in layers:
            self._exits[layer].inc()
        spent_at = job.windows_exits.elements() if job.windows_exits else layers
        self._cost.inc(sum(self._exit_costs[layer] for layer in spent_at))
        if job.started_at is not None:
            self._queue.observe(job.started_at - job.came_at)
        self._total.observe(now - job.came_at)
        self._recent.append(now - job.came_at)

    def written(
        self, queued_tokens: int, threshold: float, expected_wait: float, num_cut: int
    ) -> bytes:
        """In Prometheus' text format, with the present state."""
        self._cut.inc(num_cut - self._cut._value.get())
        self._queued_tokens.set(queued_tokens)
        self._threshold.set(threshold)
        self._expected_wait.set(expected_wait)
        return bytes(generate_latest(self._registry))

    def summary(self) -> Dict[str, Any]:
        """Of all that was answered so far: how many texts at each exit, and how fast."""
        texts = {layer: int(counter._value.get()) for layer, counter in self._exits.items()}
        return {
            "texts_by_exit": [{"exit_layer": k, "texts": number} for k, number in texts.items()],
            "layer_equivalents": self._cost._value.get(),
            "recent_ms": [seconds * 1000 for seconds in self._recent],
        }
