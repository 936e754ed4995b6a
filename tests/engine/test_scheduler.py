"""Requests that come and go: answers are those of a run of their own, whatever the company."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.engine.active_instances import ActiveInstances
from sledgehammer_allennlp.engine.requests import Request
from sledgehammer_allennlp.engine.scheduler import ONE_BY_ONE, Scheduler
from sledgehammer_allennlp.exits.confidence import max_probability
from tests.engine.plain_computation import (
    all_logits,
    length_lists,
    make_case,
    plain_combined,
    plain_logits,
    plain_rule,
    rule,
    thresholds,
)
from tests.tiny import HAS_ONNX, needs_onnx, random_inputs, texts_of

EXIT_LAYERS = [-1, 0, 1, 3]


class Service:
    """A scheduler whose steps the test makes itself, and which requests are done."""

    def __init__(self, with_ngrams=False, token_budget=64, max_passed=4, runtime="torch"):
        self.case = make_case("bert", "mean", EXIT_LAYERS, with_ngrams)
        self.case.encoder.runtime = runtime
        self.done = []
        self.scheduler = Scheduler(
            self.case.encoder,
            self.case.exits,
            rule(self.case.temperatures, max_probability, 0.5),
            token_budget,
            max_passed,
        )

    def add(self, lengths, threshold=1.0, seed=0):
        request = Request([threshold] * len(lengths), self.done.append)
        self.scheduler.add([request], texts_of(random_inputs(lengths, seed=seed)))
        return request

    def run_all(self):
        while self.scheduler.step():
            pass

    def assert_answered_as_alone(self, request, lengths, threshold, seed):
        wanted = self.case.run(random_inputs(lengths, seed=seed), threshold)
        found = request.output()
        assert found.exit_index.tolist() == wanted.exit_index.tolist()
        torch.testing.assert_close(found.probs, wanted.probs, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.logits, wanted.logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.confidence, wanted.confidence, atol=1e-5, rtol=0)


def is_near_a_threshold(case, lengths, threshold, seed):
    """Whether rounding may decide."""
    logits = all_logits(case, random_inputs(lengths, seed=seed))
    confidences = (logits / case.temperatures[:, None, None]).softmax(-1).amax(-1)
    return threshold not in (0, 1) and bool((confidences - threshold).abs().min() < 1e-4)


requests_lists = st.lists(
    st.tuples(length_lists, thresholds, st.integers(0, 1000), st.integers(0, 3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(
    given_requests=requests_lists,
    with_ngrams=st.booleans(),
    token_budget=st.sampled_from([1, 12, 30, 64, None]),
    max_passed=st.integers(0, 5),
    runtime=st.sampled_from(["torch", "auto"] if HAS_ONNX else ["torch"]),
)
@torch.no_grad()
def test_an_answer_is_that_of_the_request_alone_whatever_the_company(
    given_requests, with_ngrams, token_budget, max_passed, runtime
):
    service = Service(with_ngrams, token_budget, max_passed, runtime)
    for lengths, threshold, seed, _ in given_requests:
        assume(not is_near_a_threshold(service.case, lengths, threshold, seed))
    added = []
    for lengths, threshold, seed, num_steps in given_requests:
        added.append(service.add(lengths, threshold, seed))
        for _ in range(num_steps):
            service.scheduler.step()
    service.run_all()
    assert {id(request) for request in service.done} == {id(request) for request in added}
    assert len(service.done) == len(added)
    for request, (lengths, threshold, seed, _) in zip(added, given_requests):
        service.assert_answered_as_alone(request, lengths, threshold, seed)
    assert len(service.scheduler.texts) == service.scheduler.texts.num_tokens == 0


def test_a_lone_request_runs_at_once_through_each_exit():
    service = Service()
    service.add([5])
    for num_steps in range(1, len(EXIT_LAYERS)):
        assert service.scheduler.step()
        assert service.scheduler.num_steps == num_steps
        assert service.done == []
    assert service.scheduler.step()
    assert len(service.done) == 1
    assert not service.scheduler.step()


@needs_onnx
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("with_ngrams", [False, True])
def test_a_lone_short_text_runs_in_one_step(with_ngrams, threshold):
    service = Service(with_ngrams, runtime="auto")
    request = service.add([5], threshold)
    if not service.done:
        assert service.scheduler.step()
        assert service.scheduler.num_tokens_done == 5
        assert request.started_at is not None
    assert service.done == [request]
    assert not service.scheduler.step()
    service.case.encoder.runtime = "torch"
    service.assert_answered_as_alone(request, [5], threshold, 0)


@needs_onnx
def test_few_texts_that_can_run_alone_run_one_after_the_other():
    service = Service(runtime="auto", token_budget=512)
    lengths = [5, 6, 7]
    requests = [service.add([length], seed=length) for length in lengths]
    done_after = []
    while service.scheduler.step():
        done_after.append(len(service.done))
    assert done_after == [1, 2, 3]
    assert service.done == requests
    service.case.encoder.runtime = "torch"
    for request, length in zip(requests, lengths):
        service.assert_answered_as_alone(request, [length], 1.0, length)


@needs_onnx
def test_texts_of_one_request_run_together():
    service = Service(runtime="auto", token_budget=512)
    service.add([5, 6, 7])
    service.run_all()
    assert service.scheduler.num_steps == len(EXIT_LAYERS)


@needs_onnx
def test_more_texts_run_together_though_each_could_run_alone():
    service = Service(runtime="auto", token_budget=512)
    requests = [service.add([5], seed=seed) for seed in range(ONE_BY_ONE + 1)]
    service.scheduler.step()
    assert service.done == []
    late = service.add([5])  # few are new now, but it may yet meet the others
    service.scheduler.step()
    assert service.done == []
    service.run_all()
    assert sorted(map(id, service.done)) == sorted(map(id, [*requests, late]))
    assert service.scheduler.num_steps == len(EXIT_LAYERS) + 1


@needs_onnx
def test_a_lone_text_that_was_dropped_is_not_answered():
    service = Service(runtime="auto")
    service.scheduler.drop(service.add([5]))
    service.run_all()
    assert service.done == []
    assert service.scheduler.num_steps == 0


def test_texts_that_exit_at_the_ngrams_are_answered_without_a_step():
    service = Service(with_ngrams=True)
    request = service.add([5, 7, 9], threshold=0.0)
    assert service.done == [request]
    assert request.started_at is None
    assert service.scheduler.num_steps == 0


def test_texts_of_unknown_ngrams_go_on_unless_the_threshold_is_zero():
    service = Service(with_ngrams=True)
    known_to_none = replace(rule(service.case.temperatures, max_probability, 0.5), min_seen_share=2)
    service.scheduler = Scheduler(service.case.encoder, service.case.exits, known_to_none, 64, 4)
    sure, first = service.add([3, 6], threshold=0.01), service.add([3, 6], threshold=0.0)
    service.run_all()
    assert (sure.output().exit_index > 0).all()
    assert first.output().exit_index.tolist() == [0, 0]


def test_requests_that_come_during_a_step_go_on_together_with_its_survivors():
    service = Service()
    first = service.add([5])
    service.scheduler.step()
    second = service.add([6])
    for _ in range(4):  # one more to the first exit, then one to each of three for both
        service.scheduler.step()
    assert service.done == [first, second]
    assert service.scheduler.num_steps == 5


@pytest.mark.parametrize("max_passed", [0, 2, 5])
def test_survivors_wait_for_a_bounded_number_of_steps_whatever_comes(max_passed):
    service = Service(token_budget=40, max_passed=max_passed)
    lone = service.add([3])
    bound = len(EXIT_LAYERS) * (max_passed + len(EXIT_LAYERS))
    for step in range(bound):
        service.add([40], threshold=0.0, seed=step)  # a full batch of new texts at each step
        service.scheduler.step()
        if lone in service.done:
            break
    assert lone in service.done
    service.assert_answered_as_alone(lone, [3], 1.0, 0)


def test_without_the_bound_they_would_wait_as_long_as_texts_come():
    service = Service(token_budget=40, max_passed=10**9)
    lone = service.add([3])
    for step in range(100):
        service.add([40], threshold=0.0, seed=step)
        service.scheduler.step()
    assert lone not in service.done


def test_a_request_of_many_texts_does_not_hold_up_one_of_one_text():
    service = Service(token_budget=40)
    many = service.add([10] * 200, threshold=0.0)
    service.scheduler.step()
    one = service.add([10], threshold=0.0, seed=1)
    service.scheduler.step()
    assert service.done == [one]
    service.run_all()
    assert service.done == [one, many]
    assert service.scheduler.num_steps == 51  # 201 texts, four at a time
    service.assert_answered_as_alone(many, [10] * 200, 0.0, 0)


def test_texts_of_one_step_keep_to_the_token_budget():
    service = Service(token_budget=40)
    requests = [service.add([15], threshold=0.0, seed=seed) for seed in range(5)]
    done_after = []
    while service.scheduler.step():
        done_after.append(len(service.done))
    assert done_after == [2, 4, 5]
    assert service.done == requests


def test_a_dropped_request_is_run_no_further_and_never_done():
    service = Service()
    dropped, kept = service.add([5, 6]), service.add([7], seed=1)
    waiting = service.add([20], seed=2)
    service.scheduler.step()
    service.scheduler.drop(dropped)
    service.scheduler.drop(waiting)
    assert service.scheduler.texts.num_tokens == 7
    service.run_all()
    assert service.done == [kept]
    service.assert_answered_as_alone(kept, [7], 1.0, 1)


def test_when_all_are_dropped_nothing_runs():
    service = Service()
    service.scheduler.drop(service.add([5]))
    service.run_all()
    assert service.scheduler.num_steps == 0
    assert service.done == []


def test_a_step_that_fails_fails_its_requests_and_no_others(monkeypatch):
    service = Service(token_budget=10)
    failing = service.add([10, 10])
    with monkeypatch.context() as patch:
        patch.setattr(service.case.encoder, "keys_values", lambda *_: 1 / 0)
        service.scheduler.step()  # the exit before layer 0
        service.scheduler.step()
        service.scheduler.step()
    good = service.add([10], seed=1)
    service.run_all()
    assert service.done == [failing, good]
    assert isinstance(failing.error, ZeroDivisionError)
    assert good.error is None
    service.assert_answered_as_alone(good, [10], 1.0, 1)
    assert len(service.scheduler.texts) == 0


def test_survivors_that_cannot_be_laid_together_fail_and_no_others(monkeypatch):
    service = Service()
    first = service.add([5])
    service.scheduler.step()
    second = service.add([6], seed=1)
    service.scheduler.step()  # both wait for the same exit now
    with monkeypatch.context() as patch:
        patch.setattr(ActiveInstances, "concatenate", lambda batches: 1 / 0)
        service.scheduler.step()
    assert sorted(map(id, service.done)) == sorted([id(first), id(second)])
    assert isinstance(first.error, ZeroDivisionError)
    good = service.add([7], seed=2)
    service.run_all()
    service.assert_answered_as_alone(good, [7], 1.0, 2)
    assert len(service.scheduler.texts) == 0


def test_threads_add_while_one_runs():
    service = Service(with_ngrams=True)
    per_thread, num_threads = 40, 4
    added = [[] for _ in range(num_threads)]

    def add(thread):
        for i in range(per_thread):
            seed = thread * per_thread + i
            lengths, threshold = [1 + seed % 13, 4], (0.0, 1.0)[i % 2]
            added[thread].append((service.add(lengths, threshold, seed), lengths, threshold, seed))

    runner = threading.Thread(target=service.scheduler.run)
    runner.start()
    adders = [threading.Thread(target=add, args=(i,)) for i in range(num_threads)]
    for thread in adders:
        thread.start()
    for thread in adders:
        thread.join()
    service.scheduler.close()
    runner.join()
    assert len(service.done) == per_thread * num_threads
    for of_thread in added:
        for request in of_thread:
            service.assert_answered_as_alone(*request)


@pytest.mark.parametrize("with_ngrams", [False, True])
def test_requests_that_are_added_in_one_call_are_answered_one_by_one(with_ngrams):
    service = Service(with_ngrams)
    inputs = random_inputs([5, 9, 3, 12, 7, 4])
    thresholds_of = [[1.0, 0.0], [1.0], [0.0, 0.6, 1.0]]
    requests = [Request(t, service.done.append) for t in thresholds_of]
    service.scheduler.add(requests, texts_of(inputs))
    service.run_all()
    assert sorted(map(id, service.done)) == sorted(map(id, requests))
    probs = torch.cat([request.output().probs for request in requests])
    for row, threshold in enumerate(sum(thresholds_of, [])):
        wanted = service.case.run(inputs, threshold).probs[row]
        torch.testing.assert_close(probs[row], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("runtime", ["torch", pytest.param("auto", marks=needs_onnx)])
def test_exits_that_look_back_at_the_ngrams_find_their_scores_whatever_came_together(runtime):
    service = Service(with_ngrams=True, token_budget=512, runtime=runtime)
    back = [[1.0, 0, 0, 0], [0.5, 1.0, 0, 0], [0.7, 0, 1.0, 0], [0.4, 0, 0.3, 0.9]]
    combined = replace(service.scheduler._rule, combination=back, min_seen_share=0.1)
    service.scheduler = Scheduler(service.case.encoder, service.case.exits, combined, 512, 4)
    # Of one text and of several, which are classified by n-grams in different ways.
    asked = [([5], 1.0), ([6, 7, 8], 0.6), ([9], 0.6), ([10, 4], 1.0), ([11], 0.0)]
    requests = []
    for seed, (lengths, threshold) in enumerate(asked):
        requests.append(service.add(lengths, threshold, seed))
        service.scheduler.step()
    service.run_all()
    assert len(service.done) == len(requests)
    for seed, ((lengths, threshold), request) in enumerate(zip(asked, requests)):
        logits = plain_combined(
            plain_logits(service.case, *random_inputs(lengths, seed=seed)), back
        )
        probs, exits = plain_rule(logits, np.ones(len(EXIT_LAYERS)), threshold)
        rows = np.arange(len(lengths))
        assert request.output().exit_index.tolist() == exits.tolist()
        np.testing.assert_allclose(request.output().probs, probs[exits, rows], atol=1e-5)


def test_a_closed_scheduler_answers_what_it_has_and_takes_no_more():
    service = Service()
    request = service.add([5])
    service.scheduler.close()
    with pytest.raises(RuntimeError, match="the scheduler is closed"):
        service.add([5])
    service.scheduler.run()
    assert service.done == [request]


def test_a_request_without_texts_is_refused():
    with pytest.raises(ValueError, match="wanted one or more"):
        Request([], print)
