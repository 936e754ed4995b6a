"""The trainer callback that fits the n-gram exit when training starts."""

import logging
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, Instance, allennlp_collate
from allennlp.data.token_indexers import PretrainedTransformerIndexer
from allennlp.training import TrainerCallback, gradient_descent_trainer

from sledgehammer_allennlp.encoders.unknown_pieces import UnknownPieces
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.models.text_fields import texts_in
from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.fitting import NgramFit, fit_ngram_classifier
from sledgehammer_allennlp.ngrams.training_texts import MAX_TOKENS, TrainingTexts
from sledgehammer_allennlp.training.label_weighting import label_weights_of
from sledgehammer_allennlp.training.random_numbers import same_random_numbers_after
from sledgehammer_allennlp.values import short_repr

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)

_INSTANCES_AT_ONCE = 256
_MOST_NAMED = 5


@TrainerCallback.register("ngram_fitting")
class NgramFitting(TrainerCallback):
    """
    When training starts, fits the n-gram exit of a `multi_exit_classifier` on the training data,
    once: not after a recovery, but anew when an archive is fine-tuned. Where there are several
    workers, the first fits on the data of all. Does nothing for a model without such an exit.

    It is one of AllenNLP's default callbacks, so that no config need list it; but a config with
    `enable_default_callbacks: false` must.

    Registered as a `TrainerCallback` with name "ngram_fitting". It has no parameters.

    # Raises

    ConfigurationError
        When training starts, if there are no instances, or some without label.
    """

    _has_fitted = False

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        model = trainer.model
        if not isinstance(model, MultiExitClassifier) or model.exits.ngrams is None:
            return
        if self._has_fitted:
            logger.info("The n-gram exit was fitted before the interruption and stays as it is")
            return
        seed = torch.initial_seed() % 2**32
        try:
            with patient_group() as group:
                # As after a recovery, when nothing is read for fitting.
                with same_random_numbers_after():
                    texts = _training_texts(trainer.data_loader, model, seed, is_primary)
                embeddings = model.encoder.word_embeddings
                weights = label_weights_of(trainer, is_primary)
                names = model.label_names()
                fit_on_all_workers(
                    model.exits.ngrams, texts, embeddings, is_primary, group, names, weights
                )
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        self._has_fitted = True

    def state_dict(self) -> Dict[str, Any]:
        return {"has_fitted": self._has_fitted}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._has_fitted = state_dict.get("has_fitted", False)


# One of AllenNLP's default callbacks, so that no config has to list it.
if NgramFitting not in gradient_descent_trainer.DEFAULT_CALLBACKS:
    gradient_descent_trainer.DEFAULT_CALLBACKS += (NgramFitting,)  # type: ignore[assignment]


def _training_texts(
    data_loader: DataLoader, model: MultiExitClassifier, seed: int, is_primary: bool
) -> TrainingTexts:
    """
    The token ids and labels of this worker's data, as the exit gets them. The primary worker warns
    if many of the word pieces are unknown.
    """
    num_workers = dist.get_world_size() if is_distributed() else 1
    texts = TrainingTexts(model.exits.num_labels, seed, MAX_TOKENS // num_workers)
    pieces: Optional[UnknownPieces] = None
    instances = iter(Tqdm.tqdm(data_loader.iter_instances(), desc="reading n-grams"))
    while True:
        few = list(islice(instances, _INSTANCES_AT_ONCE))
        if not few:
            warning = pieces and pieces.warning()
            if warning and is_primary:
                logger.warning("Of the texts that the n-gram exit is fitted to, %s.", warning)
            return texts
        for instance in few:
            instance.index_fields(model.vocab)
        batch: Dict[str, Any] = allennlp_collate(few)
        if "label" not in batch:
            raise ConfigurationError("the n-gram exit needs training data with labels")
        tokens = model.first_windows(texts_in(batch["tokens"]))
        texts.add(tokens, batch["label"].numpy())
        pieces = pieces or _unknown_pieces(few[0])
        if pieces is not None:
            pieces.add(tokens.token_ids.tolist())


def _unknown_pieces(instance: Instance) -> Optional[UnknownPieces]:
    """Counts those of the tokenizer of an instance; `None` if it has none of ours."""
    for field in instance.fields.values():
        for indexer in (getattr(field, "token_indexers", None) or {}).values():
            if isinstance(indexer, PretrainedTransformerIndexer):
                return UnknownPieces(indexer._tokenizer)
    return None


@contextmanager
def patient_group() -> Iterator[Optional[Any]]:
    """
    The workers as a group that talks on CPUs, and with patience: a large fit takes longer than what
    GPUs wait for each other. `None` if there is one worker only.

    To be made before workers have work in which one may be killed: a group that lacks one waits to
    be complete, a complete one notices.
    """
    if not is_distributed():
        yield None
        return
    group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
    yield group
    dist.destroy_process_group(group)


def fit_on_all_workers(
    ngrams: NgramClassifier,
    texts: TrainingTexts,
    embeddings: Optional[torch.Tensor],
    is_primary: bool,
    group: Optional[Any],
    label_names: Sequence[str],
    label_weights: Optional[np.ndarray] = None,
) -> None:
    """
    Fits on the primary worker, to the texts of all, and gives all workers what was fitted. Warns of
    labels without texts.

    # Parameters

    ngrams : `NgramClassifier`
    texts : `TrainingTexts`
        Of this worker.
    embeddings : `torch.Tensor`, optional
        Of word pieces, see `fit_ngram_classifier`.
    is_primary : `bool`
    group : optional
        From `patient_group`.
    label_names : `Sequence[str]`
        The name of each label.
    label_weights : `np.ndarray`, optional (default = `None`)
        `(num_labels,)`

    # Raises

    ValueError
        On the primary worker, if there are no texts.
    """
    if group is None:
        _fit(ngrams, [texts], embeddings, label_names, label_weights)
        return
    samples: Optional[List[Any]] = [None] * dist.get_world_size() if is_primary else None
    dist.gather_object(texts, samples, dst=0, group=group)
    if samples is not None:
        _fit(ngrams, samples, embeddings, label_names, label_weights)
    # What there is depends on the texts, so that other workers do not know which tensors to expect.
    fitted = [{name: tensor.cpu() for name, tensor in ngrams.state_dict().items()}]
    dist.broadcast_object_list(fitted, src=0, group=group)
    ngrams.load_state_dict(fitted[0])


def _fit(
    ngrams: NgramClassifier,
    samples: List[TrainingTexts],
    embeddings: Optional[torch.Tensor],
    label_names: Sequence[str],
    label_weights: Optional[np.ndarray],
) -> None:
    num_of_label = np.sum([sample.num_of_label for sample in samples], axis=0)
    logger.info("Fitting the n-gram exit to %d training texts", num_of_label.sum())
    unseen = [name for name, number in zip(label_names, num_of_label) if number == 0]
    if unseen and num_of_label.any():
        logger.warning(
            "No training text has the label %s%s, which the model has: it is never learned. Is it "
            "misspelt in other data?",
            " or ".join(map(short_repr, unseen[:_MOST_NAMED])),
            " …" if len(unseen) > _MOST_NAMED else "",
        )
    _log(fit_ngram_classifier(ngrams, samples, embeddings, label_weights))


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
