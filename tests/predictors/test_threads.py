"""A predictor that several threads share answers as it does alone."""

import pytest
from allennlp.predictors import Predictor

from sledgehammer_allennlp.archives import load_archived_classifier
from tests.threads import NUM_THREADS, in_threads
from tests.tiny import PRECISIONS_OF_CPUS

TEXTS = ["good " * (1 + i % 17) + "bad " * (i % 5) + "it was a day" for i in range(16)]
PAIRS = [{"premise": text, "hypothesis": "this " + text} for text in TEXTS]
SENTENCES = [{"sentence": text} for text in TEXTS]


def _assert_same(found, wanted):
    assert len(found) == len(wanted)
    for answer, by_one_thread in zip(found, wanted):
        for key in ("label", "exit_layer"):
            assert answer[key] == by_one_thread[key]
        assert answer["probs"] == pytest.approx(by_one_thread["probs"], abs=1e-5)


@pytest.mark.parametrize("archive", ["trained", "trained_with_heads"])
def test_threads_get_the_answers_of_one(request, archive):
    file = request.getfixturevalue(archive)
    file = file["archive"] if isinstance(file, dict) else file
    # What has been laid out for one threshold must not show at another.
    predictors, wanted = [], []
    for threshold in (0.0, 0.55, 1.0):
        settings = {"model.confidence_threshold": threshold}
        if archive == "trained_with_heads":
            settings["model.ensemble"] = "reached"
        predictors.append(Predictor.from_path(file, overrides=settings))
        wanted.append([predictors[-1].predict_batch_json(x) for x in (SENTENCES, PAIRS)])

    def work(thread):
        found = []
        for round_ in range(3):
            k = (thread + round_) % 3
            predictor, (of_sentences, of_pairs) = predictors[k], wanted[k]
            first = 8 * (thread % 2)
            found.append((predictor.predict_batch_json(SENTENCES[first:]), of_sentences[first:]))
            found.append((predictor.predict_batch_json(PAIRS[: first + 1]), of_pairs[: first + 1]))
            mixed = [SENTENCES[first], PAIRS[first]]  # as instances
            found.append(
                (predictor.predict_batch_json(mixed), [of_sentences[first], of_pairs[first]])
            )
            for i in range(thread, 16, 8):
                found.append(([predictor.predict_json(SENTENCES[i])], [of_sentences[i]]))
        return found

    for _ in range(2):
        for predictor in predictors:
            predictor._model.encoder.forget_layout()  # so that all want to lay it out at once
        for found in in_threads(work):
            for answers, by_one_thread in found:
                _assert_same(answers, by_one_thread)


@pytest.mark.parametrize("precision", PRECISIONS_OF_CPUS)
def test_threads_get_the_answers_of_one_without_allennlp(trained, precision):
    classifier = load_archived_classifier(trained["archive"], 0.55, precision, inference_only=True)
    # Of the same batches: in reduced precision, rounding may depend on what else is in one.
    wanted = [classifier.predict(TEXTS[thread:]) for thread in range(NUM_THREADS)]

    def work(thread):
        return [classifier.predict(TEXTS[thread:]) for _ in range(5)]

    for thread, found in enumerate(in_threads(work)):
        for answers in found:
            _assert_same(answers, wanted[thread])


def test_a_call_has_one_threshold_although_another_thread_changes_it(trained):
    predictor = Predictor.from_path(trained["archive"])

    def work(thread):
        if thread:
            return [predictor.predict_batch_json(SENTENCES[:8]) for _ in range(10)]
        for i in range(500):
            predictor._model.confidence_threshold = i % 2
        return []

    layers = [
        {answer["exit_layer"] for answer in call} for calls in in_threads(work) for call in calls
    ]
    assert len(layers) == 70
    assert all(of_call in ({-1}, {3}) for of_call in layers)
