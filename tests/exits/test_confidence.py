import pytest
import torch

from sledgehammer_allennlp.exits import confidence


def test_max_probability_is_the_largest():
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    measure = confidence.confidence_by_name("max_probability")
    assert measure(probs).tolist() == pytest.approx([0.5, 0.9])


def test_an_unknown_measure_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'sureness': wanted one of .*max_probability"):
        confidence.confidence_by_name("sureness")


def test_a_measure_can_be_registered_once(monkeypatch):
    monkeypatch.setattr(confidence, "_MEASURES", dict(confidence._MEASURES))

    @confidence.register_confidence("least")
    def least(probs):
        return probs.min(-1).values

    assert confidence.confidence_by_name("least") is least
    assert "least" in confidence.available_confidences()
    with pytest.raises(ValueError, match="'least' is registered already"):
        confidence.register_confidence("least")(least)
