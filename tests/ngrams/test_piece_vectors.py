import numpy as np
import pytest
import torch

from sledgehammer_allennlp.ngrams.piece_vectors import num_dimensions, piece_vectors


def random_embeddings(num_pieces: int = 300, size: int = 24) -> torch.Tensor:
    """Of few dimensions, about, with a mean and of different lengths."""
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(num_pieces, 6)) @ random.normal(size=(6, size))
    embeddings = embeddings + 0.02 * random.normal(size=(num_pieces, size)) + 0.5
    return torch.from_numpy(embeddings * random.uniform(0.1, 9, (num_pieces, 1))).float()


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def centred(embeddings: torch.Tensor) -> np.ndarray:
    rows = embeddings.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows - rows.mean(0)


def test_cosines_are_those_of_unit_length_embeddings_less_their_mean():
    embeddings = random_embeddings()
    vectors = piece_vectors(embeddings)
    assert vectors.dtype == torch.int8 and vectors.shape == (300, 24)
    assert (vectors.abs().amax(1) == 127).all()
    np.testing.assert_allclose(
        cosines(vectors.double().numpy()), cosines(centred(embeddings)), atol=0.02
    )


def test_fewer_dimensions_are_the_principal_components(monkeypatch):
    monkeypatch.setattr("sledgehammer_allennlp.ngrams.piece_vectors.MOST_DIMENSIONS", 6)
    embeddings = random_embeddings()
    vectors = piece_vectors(embeddings)
    rows = centred(embeddings)
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    wanted = cosines(rows @ directions[:6].T)
    np.testing.assert_allclose(cosines(vectors.double().numpy()), wanted, atol=0.03)


def test_vectors_do_not_depend_on_the_device_parts_or_a_gradient(monkeypatch):
    embeddings = random_embeddings()
    wanted = piece_vectors(embeddings)
    assert torch.equal(piece_vectors(embeddings.clone().requires_grad_()), wanted)
    assert torch.equal(piece_vectors(embeddings.double()), wanted)


def test_pieces_without_an_embedding_are_like_nothing():
    embeddings = random_embeddings()
    embeddings[3] = 0
    embeddings[4] = float("nan")
    vectors = piece_vectors(embeddings)
    assert not vectors[3:5].any()
    assert vectors[5:].abs().amax(1).tolist() == [127] * 295


def test_embeddings_that_are_all_the_same_have_vectors_of_zeros():
    assert not piece_vectors(torch.ones(10, 4)).any()


@pytest.mark.parametrize(
    "num_pieces, size, wanted",
    [(30522, 768, 128), (50265, 768, 128), (30000, 64, 64), (250002, 1024, 29), (10**8, 768, 1)],
)
def test_vectors_take_eight_megabytes_at_most(num_pieces, size, wanted):
    assert num_dimensions(num_pieces, size) == wanted
