import threading

import pytest
import torch

from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.serving.answerer import Answerer, Job, Question
from sledgehammer_allennlp.serving.latency import LatencyControl
from sledgehammer_allennlp.serving.refusal import Refusal
from tests.tiny import SENTENCES

THRESHOLDS = (0.0, 0.5, 0.8, 1.0)


class Done:
    """A job, and waiting for it."""

    def __init__(self, answerer, questions):
        self._is_done = threading.Event()
        self.times_done = 0
        self.job = Job(questions, self._done)
        answerer.submit(self.job)

    def _done(self, job):
        self.times_done += 1
        self._is_done.set()

    def wait(self):
        assert self._is_done.wait(60)
        return self.job


@pytest.fixture(scope="module")
def classifier(served):
    return load_archived_classifier(served)


@pytest.fixture
def answerer(classifier):
    made = Answerer(classifier, LatencyControl(0.7), token_budget=64)
    yield made
    made.close()


def assert_answered(answers, texts, thresholds, alone):
    assert len(answers) == len(texts)
    for answer, text, threshold in zip(answers, texts, thresholds):
        (wanted,) = alone([text], threshold)
        assert answer["threshold"] == threshold
        for key in ("label", "exit_layer"):
            assert answer[key] == wanted[key]
        for key in ("logits", "probs", "confidence"):
            assert answer[key] == pytest.approx(wanted[key], abs=1e-5)


def test_texts_exit_at_different_exits(alone):
    exits = {answer["exit_layer"] for answer in alone(SENTENCES, 0.7)}
    assert len(exits) > 1  # else the other tests would show little


def test_many_jobs_at_once_are_each_answered_as_alone(answerer, alone):
    jobs = []
    for i, text in enumerate(SENTENCES * 3):
        threshold = THRESHOLDS[i % 4]
        jobs.append((Done(answerer, [Question((text,), threshold)]), text, threshold))
    for done, text, threshold in jobs:
        assert_answered(done.wait().answers, [text], [threshold], alone)


def test_texts_and_pairs_with_thresholds_of_their_own_may_be_one_job(answerer, alone):
    texts = [SENTENCES[0], (SENTENCES[1], SENTENCES[2]), SENTENCES[3], ("", SENTENCES[4])]
    questions = [
        Question((text,) if isinstance(text, str) else text, threshold)
        for text, threshold in zip(texts, [0.0, 1.0, None, 0.5])
    ]
    answers = Done(answerer, questions).wait().answers
    assert_answered(answers, texts, [0.0, 1.0, 0.7, 0.5], alone)


def test_a_job_of_many_texts_lets_one_of_one_text_pass(answerer, alone):
    texts = SENTENCES * 40
    many = Done(answerer, [Question((text,), 1.0) for text in texts])
    one = Done(answerer, [Question((SENTENCES[0],), 1.0)])
    one.wait()
    assert many.times_done == 0
    answers = many.wait().answers
    assert_answered(answers[-60:], texts[-60:], [1.0] * 60, alone)
    assert len(answers) == len(texts)
    assert answerer.num_queued_tokens == 0


def test_a_dropped_job_is_never_done_and_leaves_nothing(answerer):
    many = Done(answerer, [Question((text,), 1.0) for text in SENTENCES * 40])
    answerer.drop(many.job)
    Done(answerer, [Question((SENTENCES[0],), 1.0)]).wait()
    assert many.times_done == 0
    assert answerer.num_queued_tokens == 0


def test_a_text_that_is_too_long_is_refused_if_told_so_and_others_are_answered(answerer, alone):
    long, fits = " ".join(["good"] * 63), " ".join(["good"] * 62)
    refused = Done(answerer, [Question((fits,), 1.0), Question((long,), 1.0, refuse_long=True)])
    kept = Done(answerer, [Question((fits,), 1.0, refuse_long=True)])
    truncated = Done(answerer, [Question((long,), 1.0)])
    assert refused.wait().error.status == 413
    assert "more than 64 tokens" in refused.job.error.message
    for done, text in ((kept, fits), (truncated, long)):
        assert done.wait().error is None
        assert_answered(done.job.answers, [text], [1.0], alone)
    assert refused.times_done == 1
    # What is refused is not cut, be it that other texts of its request were tokenised.
    assert (answerer.cut.num_cut, answerer.cut.num_texts) == (1, 3)


def test_when_too_many_tokens_wait_more_are_refused(classifier):
    answerer = Answerer(classifier, LatencyControl(1.0), max_queued_tokens=100)
    done = Done(answerer, [Question((text,)) for text in SENTENCES * 40])
    with pytest.raises(Refusal, match="too much is waiting") as refused:
        answerer.submit(Job([Question(("good",))], print))
    assert refused.value.status == 429
    assert refused.value.retry_after >= 1
    done.wait()
    Done(answerer, [Question(("good",))]).wait()
    answerer.close()


def test_a_closing_answerer_answers_what_it_took_and_takes_no_more(classifier):
    answerer = Answerer(classifier, LatencyControl(1.0))
    done = [Done(answerer, [Question((text,)) for text in SENTENCES * 5]) for _ in range(4)]
    answerer.close()
    assert [len(one.wait().answers) for one in done] == [len(SENTENCES) * 5] * 4
    with pytest.raises(Refusal, match="shutting down") as refused:
        answerer.submit(Job([Question(("good",))], print))
    assert refused.value.status == 503


def test_an_error_of_layers_or_tokenizer_fails_the_job_and_the_next_is_answered(
    answerer, classifier, monkeypatch, alone
):
    with monkeypatch.context() as patch:
        patch.setattr(classifier.encoder, "keys_values", lambda *_: 1 / 0)
        failed = Done(answerer, [Question((text,), 1.0) for text in SENTENCES]).wait()
    assert failed.error.status == 500
    assert failed.error.message.endswith("(ZeroDivisionError)")
    with monkeypatch.context() as patch:
        patch.setattr(answerer, "_tokens", lambda _: 1 / 0)
        assert Done(answerer, [Question(("good",))]).wait().error.status == 500
    done = Done(answerer, [Question((SENTENCES[0],), 1.0)]).wait()
    assert_answered(done.answers, SENTENCES[:1], [1.0], alone)
    assert answerer.num_queued_tokens == 0


def test_an_archive_without_a_tokenizer_is_refused(classifier):
    without = load_archived_classifier.__globals__["ArchivedClassifier"](
        classifier.encoder, classifier.exits, classifier.labels
    )
    with pytest.raises(ValueError, match="wanted a reader that only tokenises"):
        Answerer(without, LatencyControl(1.0))


def test_gradients_are_not_needed(answerer):
    with torch.enable_grad():
        assert Done(answerer, [Question(("good",))]).wait().error is None
