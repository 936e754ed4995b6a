"""What clients and signals may do to a service, in processes of their own."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from sledgehammer_allennlp.serving.command import _listening
from tests.serving.processes import ServiceProcess, start
from tests.tiny import SENTENCES

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")


def connected(service):
    return socket.create_connection((service.host, service.port), timeout=60)


def post(path, body, length=None):
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


def assert_answers(service):
    assert service.send("/answer", {"sentence": SENTENCES[0]})[0] == 200


def test_many_clients_get_each_their_own_answers(service, alone):
    wanted = {threshold: alone(SENTENCES, threshold) for threshold in (0.0, 0.5, 0.7, 0.8, 1.0)}
    asked = [(i, t) for t in wanted for i in range(len(SENTENCES))] * 2

    def ask(one):
        i, threshold = one
        return service.send("/answer", {"sentence": SENTENCES[i], "threshold": threshold})

    with ThreadPoolExecutor(16) as clients:
        found = list(clients.map(ask, asked))
    for (i, threshold), (status, answer) in zip(asked, found):
        assert status == 200
        assert answer["threshold"] == threshold
        assert answer["exit_layer"] == wanted[threshold][i]["exit_layer"]
        assert answer["probs"] == pytest.approx(wanted[threshold][i]["probs"], abs=1e-5)


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(service):
    status, found = service.send("/answer", raw=b'{"sentence": "' + b"a" * 200_000 + b'"}')
    assert status == 413
    assert found["error"].endswith("wanted at most 200000 bytes")
    with connected(service) as client:  # of a length that only the end of it tells
        client.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
        for _ in range(7):
            client.sendall(chunk)
        assert client.recv(20).startswith(b"HTTP/1.1 413")
    with connected(service) as client:  # before it is sent
        client.sendall(post("/answer", b"{", length=100_000_000))
        assert client.recv(20).startswith(b"HTTP/1.1 413")
    assert_answers(service)


def test_half_a_body_and_half_a_head_hold_up_nobody(service):
    with connected(service) as half_body, connected(service) as half_head:
        half_body.sendall(post("/answer", b'{"sent', length=1000))
        half_head.sendall(b"POST /ans")
        assert_answers(service)
    assert_answers(service)


def test_a_slow_client_is_answered(service):
    body = json.dumps({"sentence": SENTENCES[0]}).encode()
    request = post("/answer", body)
    with connected(service) as client:
        for i in range(len(request)):
            client.sendall(request[i : i + 1])
        assert client.recv(20).startswith(b"HTTP/1.1 200")


def test_clients_that_never_read_hold_up_nobody(service):
    many = [{"sentence": text, "threshold": 0} for text in SENTENCES * 40]
    request = post("/answer", json.dumps(many).encode())
    clients = [connected(service) for _ in range(3)]
    for client in clients:
        client.sendall(request)
    assert_answers(service)
    for client in clients:
        client.close()
    assert_answers(service)


def test_a_client_that_goes_away_is_dropped(service):
    many = [{"sentence": text, "threshold": 1} for text in SENTENCES * 45]
    with connected(service) as client:
        client.sendall(post("/answer", json.dumps(many).encode()))
        while service.send("/load")[1]["queued_tokens"] == 0:
            pass  # until it was taken
    while service.send("/load")[1]["queued_tokens"] != 0:
        pass
    _, written = service.send("/metrics")
    assert 'sledgehammer_requests_total{interface="answer",status="499"}' in written


def test_idle_connections_hold_up_nobody(service):
    # More than the files that its process may have open when it starts.
    clients = [connected(service) for _ in range(300)]
    assert_answers(service)
    for client in clients:
        client.close()


def test_connections_send_small_pieces_at_once():
    with _listening("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_hostile_bytes_are_no_end_of_it(service):
    for junk in (
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /answer HTTP/1.1\r\nX: \xff\r\n\r\n",
    ):
        with connected(service) as client:
            client.sendall(junk)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
    assert_answers(service)


@pytest.fixture(scope="module")
def holding(served):
    """A service that holds a latency, in which little may wait. The last test ends it."""
    options = ("--threshold", 1, "--lowest-threshold", 0, "--latency-target", 200)
    limits = ("--max-queued-tokens", 2000, "--log-format", "json")
    with ServiceProcess(served, *options, *limits) as process:
        yield process


def test_with_a_target_the_threshold_falls_while_much_waits_and_rises_again(holding, alone):
    assert holding.send("/info")[1]["lowest_threshold"] == 0
    own = {"sentence": SENTENCES[0], "threshold": 1}
    found = []
    with ThreadPoolExecutor(64) as clients:
        for _ in range(4):
            sent = [{"sentence": text} for text in SENTENCES] + [own]
            found += zip(sent, clients.map(lambda one: holding.send("/answer", one), sent))
    assert {status for _, (status, _) in found} <= {200, 429}
    thresholds = set()
    for sent, (status, answer) in found:
        if status == 200:
            if "threshold" in sent:
                assert answer["threshold"] == 1
            thresholds.add(answer["threshold"])
            (wanted,) = alone([sent["sentence"]], answer["threshold"])
            assert answer["exit_layer"] == wanted["exit_layer"]
            assert answer["probs"] == pytest.approx(wanted["probs"], abs=1e-5)
    assert min(thresholds) < 1
    assert holding.send("/answer", {"sentence": SENTENCES[0]})[1]["threshold"] == 1


def test_when_too_much_waits_requests_are_refused_until_it_does_not(holding):
    many = [{"sentence": text, "threshold": 1} for text in SENTENCES * 40]
    asking = threading.Thread(target=lambda: holding.send("/answer", many))
    asking.start()
    while holding.send("/load")[1]["queued_tokens"] < 2000:
        pass
    status, found, headers = holding.send_for_headers("/answer", {"sentence": "good"})
    assert status == 429
    assert "too much is waiting" in found["error"]
    assert int(headers["retry-after"]) >= 1
    asking.join()
    assert_answers(holding)


def test_told_to_end_it_answers_what_it_took_and_takes_no_more(holding, alone):
    many = [{"sentence": text, "threshold": 1} for text in SENTENCES * 20]
    found = []
    asking = threading.Thread(target=lambda: found.append(holding.send("/answer", many)))
    asking.start()
    while holding.send("/load")[1]["queued_tokens"] == 0:
        pass
    assert holding.end(signal.SIGTERM) == 0
    asking.join()
    ((status, answers),) = found
    assert status == 200
    wanted = [answer["label"] for answer in alone(SENTENCES, 1.0)]
    assert [answer["label"] for answer in answers] == 20 * wanted
    logged = [json.loads(line) for line in holding.log if line.startswith("{")]
    assert logged[-1]["message"] == "Ended: all requests that were taken are answered"
    assert {line["level"] for line in logged} == {"info"}
    with pytest.raises(OSError):
        connected(holding)


@pytest.mark.parametrize(
    "options, wanted",
    [
        (("--threshold", 2), "confidence_threshold is 2.0: wanted a number from 0 to 1"),
        (("--max-body-bytes", 0), "--max-body-bytes is 0: wanted a positive integer"),
        (("--port", 70_000), "--port is 70000: wanted a number from 0 to 65535"),
    ],
)
def test_settings_that_cannot_be_are_refused(served, capsys, options, wanted):
    from sledgehammer_allennlp.__main__ import main

    assert main(["serve", str(served), *map(str, options)]) == 2
    assert wanted in capsys.readouterr().err


def test_an_archive_that_may_run_code_is_not_served(tmp_path, capsys):
    from sledgehammer_allennlp.__main__ import main

    assert main(["serve", str(tmp_path)]) == 2
    assert "serve: error: " in capsys.readouterr().err


def test_an_address_that_is_taken_is_said(served, service, capsys):
    from sledgehammer_allennlp.__main__ import main

    assert main(["serve", str(served), "--port", str(service.port)]) == 2
    assert f"cannot listen at 127.0.0.1, port {service.port}" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_log_that_cannot_be_written_stops_nothing(served):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with open("/dev/full", "wb") as full:
        process = start(served, "--port", port, stderr=full)
    try:
        for _ in range(600):
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as found:
                assert json.load(found) == {"live": True}
                break
            assert process.poll() is None
            time.sleep(0.1)
        else:
            pytest.fail("the service did not answer")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
