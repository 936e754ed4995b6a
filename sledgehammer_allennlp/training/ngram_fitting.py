"""The trainer callback that fits the n-gram exit when training starts."""

import logging
import random
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, Iterator, List

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, Vocabulary, allennlp_collate
from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.exits.ngram_fitting import (
    MAX_TOKENS,
    NgramFit,
    TrainingTexts,
    fit_ngram_classifier,
)
from sledgehammer_allennlp.exits.ngrams import NgramClassifier
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier, texts_in

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)

_INSTANCES_AT_ONCE = 256


@TrainerCallback.register("ngram_fitting")
class NgramFitting(TrainerCallback):
    """
    When training starts, fits the n-gram exit of a `multi_exit_classifier` on the training data,
    once: not if it has been fitted, as after a recovery. Where there are several workers, the
    first fits on the data of all. Does nothing for a model without such an exit.

    It is one of AllenNLP's default callbacks, so that no config need list it; but a config with
    `enable_default_callbacks: false` must.

    Registered as a `TrainerCallback` with name "ngram_fitting". It has no parameters.

    # Raises

    ConfigurationError
        When training starts, if there are no instances, or some without label.
    """

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        model = trainer.model
        ngrams = model.exits.ngrams if isinstance(model, MultiExitClassifier) else None
        if ngrams is None:
            return
        if ngrams.is_fitted:
            logger.info("The n-gram exit has been fitted before and stays as it is")
            return
        # Before any worker draws numbers; the same for all of them.
        seed = torch.initial_seed() % 2**32
        with _same_random_numbers_after():
            texts = _training_texts(trainer.data_loader, model.vocab, seed)
        _fit_on_all_workers(ngrams, texts, seed, is_primary)


# What a config need not ask for.
if NgramFitting not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (NgramFitting,)  # type: ignore[assignment]


def _training_texts(data_loader: DataLoader, vocab: Vocabulary, seed: int) -> TrainingTexts:
    """The token ids and labels of this worker's data, as the model gets them."""
    num_workers = dist.get_world_size() if is_distributed() else 1
    texts = TrainingTexts(seed, MAX_TOKENS // num_workers)
    instances = iter(Tqdm.tqdm(data_loader.iter_instances(), desc="reading n-grams"))
    while True:
        few = list(islice(instances, _INSTANCES_AT_ONCE))
        if not few:
            return texts
        for instance in few:
            instance.index_fields(vocab)
        batch: Dict[str, Any] = allennlp_collate(few)
        if "label" not in batch:
            raise ConfigurationError("the n-gram exit needs training data with labels")
        texts.add(texts_in(batch["tokens"]), batch["label"].numpy())


def _fit_on_all_workers(
    ngrams: NgramClassifier, texts: TrainingTexts, seed: int, is_primary: bool
) -> None:
    """Fits on the primary worker and gives all of them what was fitted."""
    samples = [texts]
    if is_distributed():
        shares: List[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, texts)
        samples = shares
    if is_primary:
        num_seen = sum(sample.num_seen for sample in samples)
        logger.info("Fitting the n-gram exit to %d training texts", num_seen)
        try:
            _log(fit_ngram_classifier(ngrams, samples, seed))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    if is_distributed():
        for tensor in (ngrams.table, ngrams.bias, ngrams.marks):
            dist.broadcast(tensor.detach(), src=0)


def _log(fit: NgramFit) -> None:
    held_out = ""
    if fit.held_out_accuracy is not None:
        held_out = (
            f"; held-out accuracy {fit.held_out_accuracy:.4f}, NLL {fit.held_out_nll:.4f} after "
            "temperature"
        )
    logger.info(
        "Fitted the n-gram exit in %.1f seconds: %d texts, %d n-grams, C = %g%s",
        *(fit.seconds, fit.num_texts, fit.num_ngrams, fit.strength, held_out),
    )


@contextmanager
def _same_random_numbers_after() -> Iterator[None]:
    """
    Training after a recovery, when nothing is read for fitting, draws the numbers that it would
    have drawn without the interruption.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
