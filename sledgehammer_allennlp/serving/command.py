"""`serve`, also without AllenNLP: an archive as a service over HTTP."""

import argparse
import json
import logging
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.archives.archived_classifier import ArchivedClassifier
from sledgehammer_allennlp.encoders.layer_products import PRECISIONS
from sledgehammer_allennlp.encoders.onnx_layers import RUNTIMES, TORCH
from sledgehammer_allennlp.engine import cost_of_exits
from sledgehammer_allennlp.engine.exit_rule import check_threshold
from sledgehammer_allennlp.serving.floor import floor_by_drop
from sledgehammer_allennlp.tradeoff.results import shortest

if TYPE_CHECKING:
    import uvicorn

    from sledgehammer_allennlp.serving.answerer import Answerer

logger = logging.getLogger(__name__)

HELP = "Answer requests over HTTP."

DESCRIPTION = (
    "Serve a trained multi_exit_classifier over HTTP. Texts of different requests run together; "
    "with a latency target, texts exit a little earlier when there are many. Code of the archive "
    "is not run. SIGTERM ends the service when all that it took is answered."
)

SECONDS_TO_END = 30
"""After SIGTERM, for what was taken; connections that are still open then are closed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("archive_file", help="model.tar.gz, or the folder of a training run")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    parser.add_argument(
        "--threshold", type=float, help="confidence threshold; default: what the archive has"
    )
    parser.add_argument(
        "--latency-target",
        type=float,
        metavar="MS",
        help="milliseconds within which requests are to be answered: as more wait, the threshold "
        "falls to the lowest; after that requests are refused",
    )
    lowest = parser.add_mutually_exclusive_group()
    lowest.add_argument(
        "--lowest-threshold", type=float, help="how low the threshold may fall with a target"
    )
    lowest.add_argument(
        "--max-accuracy-drop",
        type=float,
        metavar="DROP",
        help="the same by the share of accuracy that may be lost, 0.01 for one point",
    )
    parser.add_argument(
        "--tradeoff",
        metavar="FILE",
        help="the tradeoff.json by which the drop is judged; default: what the archive's "
        "calibration kept",
    )
    parser.add_argument(
        "--precision", choices=sorted(PRECISIONS), help="default: what the archive has"
    )
    parser.add_argument(
        "--runtime", choices=RUNTIMES, help="what runs the layers; default: what the archive has"
    )
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument(
        "--token-budget", type=int, metavar="TOKENS", help="about how many tokens run together"
    )
    parser.add_argument(
        "--max-queued-tokens",
        type=int,
        default=200_000,
        metavar="TOKENS",
        help="refuse requests while so many tokens wait; default: 200000",
    )
    parser.add_argument(
        "--max-body-bytes", type=int, default=2**20, metavar="BYTES", help="default: 1048576"
    )
    parser.add_argument("--model-name", help="in the answers; default: the archive's folder")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end; gives the exit status."""
    try:
        import uvicorn

        from sledgehammer_allennlp.serving.answerer import Answerer
        from sledgehammer_allennlp.serving.app import Settings, create_app
        from sledgehammer_allennlp.serving.latency import LatencyControl
        from sledgehammer_allennlp.serving.metrics import Metrics
    except ImportError as error:
        raise ValueError(
            f"a library is missing: {error}. `pip install sledgehammer_allennlp[serve]` gets it"
        ) from error
    _check(args)
    _log_to_stderr(args.log_format)
    _allow_many_connections()
    classifier = load_archived_classifier(
        args.archive_file,
        confidence_threshold=args.threshold,
        precision=args.precision,
        device=args.device,
        runtime=args.runtime,
        # Else a lone request could not run in ONNX Runtime, which takes the weights of the archive.
        inference_only=args.runtime == TORCH,
    )
    target = None if args.latency_target is None else args.latency_target / 1000
    lowest = _lowest_threshold(args, classifier.confidence_threshold)
    control = LatencyControl(classifier.confidence_threshold, lowest, target)
    costs = cost_of_exits(classifier.encoder, classifier.exits)
    metrics = Metrics(dict(zip(classifier.exits.exit_layers, costs)))
    _warm_up(classifier)
    with _listening(args.host, args.port) as listening:
        answerer = Answerer(
            classifier,
            control,
            args.token_budget,
            args.max_queued_tokens,
            metrics.step,
            in_thread=False,
        )
        settings = Settings(
            args.model_name or _name_of(args.archive_file),
            classifier.encoder.precision,
            args.max_body_bytes,
        )
        app = create_app(answerer, metrics, settings)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        server = uvicorn.Server(config)
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        logger.info("Serving %s at %s (its page), %s/docs", settings.model_name, address, address)
        _run(server, listening, answerer)
    cut = answerer.cut.sentence()
    if cut:
        logger.warning("%s.", cut)
    logger.info("Ended: all requests that were taken are answered")
    return 0


def _lowest_threshold(args: argparse.Namespace, highest: float) -> Optional[float]:
    """As it was given, or by the accuracy that may be lost; `None` if neither was given."""
    if args.max_accuracy_drop is None:
        if args.tradeoff is not None:
            raise ValueError("--tradeoff was given without --max-accuracy-drop: wanted both")
        lowest: Optional[float] = args.lowest_threshold
        return lowest
    floor = floor_by_drop(args.archive_file, args.max_accuracy_drop, args.tradeoff)
    logger.info("The lowest threshold is %s: %s", shortest(floor.threshold), floor.reason)
    return min(floor.threshold, highest)


def _check(args: argparse.Namespace) -> None:
    if args.threshold is not None:
        check_threshold(args.threshold)
    for name in ("max_queued_tokens", "max_body_bytes", "token_budget"):
        value: Optional[int] = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is {value}: wanted a positive integer")
    if not 0 <= args.port < 2**16:
        raise ValueError(f"--port is {args.port}: wanted a number from 0 to 65535")


def _name_of(archive_file: str) -> str:
    """Of runs/mine/model.tar.gz, and of runs/mine: mine."""
    path = Path(archive_file).absolute()
    return path.parent.name if path.name.endswith(".tar.gz") else path.name


def _warm_up(classifier: ArchivedClassifier) -> None:
    """Runs texts of some lengths through all layers, so that the first request finds all set up."""
    threshold = classifier.confidence_threshold
    classifier.confidence_threshold = 1.0
    for num_words in (1, 8, 64):
        classifier.predict([" ".join(["word"] * num_words)])
    classifier.predict(["a few words", "and some others"] * 8)
    classifier.confidence_threshold = threshold


def _allow_many_connections() -> None:
    """Each takes an open file, of which a process has 1,024 as a rule, and may have many more."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS, of unlimited files
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ValueError(f"cannot listen at {host}, port {port}: {error.strerror}") from error
    # What connections take over. asyncio sets it only for sockets whose protocol was named; without
    # it, an answer in two pieces waits for clients that put off their acknowledgement, 40 ms.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with made:
        yield made


def _run(server: "uvicorn.Server", listening: socket.socket, answerer: "Answerer") -> None:
    """Has another thread serve, and this one, the main thread, run layers and take signals."""

    def serve() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            answerer.close()  # as it has, but after a second Ctrl-C and after errors

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    serving = threading.Thread(target=serve, name="serving", daemon=True)
    serving.start()
    try:
        answerer.run_layers()
    finally:
        server.should_exit = True
        serving.join()


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_to_stderr(log_format: str) -> None:
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, stops nothing
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if log_format == "json" else text)
    handlers: List[logging.Handler] = [handler]
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    for name in ("uvicorn.error", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
