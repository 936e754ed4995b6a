"""The trainer callback that calibrates a model when its training has ended."""

import json
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback

from sledgehammer_allennlp.archives.model_card import MODEL_CARD_FILE
from sledgehammer_allennlp.calibration import calibration_metrics
from sledgehammer_allennlp.files import write_text_whole, write_whole
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff.results import shortest
from sledgehammer_allennlp.training.card_of_model import (
    card_of,
    is_hub_name,
    look_like_pairs,
    pretrained_model_in,
)
from sledgehammer_allennlp.training.enough_steps import train_longer
from sledgehammer_allennlp.training.full_depth import (
    FullDepth,
    better_exit_of,
    run_at_full_depth,
)
from sledgehammer_allennlp.training.label_weighting import label_counts
from sledgehammer_allennlp.training.model_calibration import (
    CALIBRATION_FILE,
    ModelCalibration,
    ThresholdWish,
    calibrate_model,
    check_threshold_can_be_chosen,
    combination_lines,
    temperature_lines,
    with_calibration_of,
)
from sledgehammer_allennlp.training.ngram_fitting import NgramFitting
from sledgehammer_allennlp.training.random_numbers import same_random_numbers_after
from sledgehammer_allennlp.values import short_repr
from sledgehammer_allennlp.weights_file import read_weights

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)


@TrainerCallback.register("temperature_calibration")
class TemperatureCalibration(TrainerCallback):
    """
    When training has ended, fits one temperature to each exit of a `multi_exit_classifier` on the
    validation data, with the best weights (Schwartz et al. 2020, section 3; Guo et al. 2017), and
    puts them into the model and into the best weights on disk, so that they are in the archive.
    The model in memory has the best weights from then on.

    With `combine_exits`, an exit's calibrated logits are a weighted sum of its own and those of the
    exits before it, see `fit_combination`, and temperatures are only reported. With one number in
    each row this is temperature scaling. Predictions, accuracy included, are of these logits.

    Negative log-likelihood and expected calibration error of each exit, before and after, go to
    the metrics and to `calibration.json` in the serialization directory, and a card of the model
    for its readers to `model_card.md`. To have these files in the archive too, list them in the
    config's `include_in_archive`.

    If an earlier exit is clearly more accurate than the last one there, a warning says so, and what
    to do; see `find_better_exit`.

    Nothing is calibrated when training has failed or was interrupted.

    Registered as a `TrainerCallback` with name "temperature_calibration".

    # Parameters

    max_accuracy_drop : `float`, optional (default = `None`)
        If given, the fastest threshold that loses at most this share of the validation data
        against the last exit (0.01 is one point) is kept with the weights and is the archive's
        default: predictions without an override are made at it. It is reported beside the
        temperatures. Else the default is 1.
    max_recall_drop : `float`, optional (default = `None`)
        In place of `max_accuracy_drop`: the fastest threshold at which no label loses more than
        this share of its recall on the validation data.
    metric : `str`, optional (default = `"accuracy"`)
        `"macro_f1"`: `max_accuracy_drop` is of the mean F1 of the labels.
    combine_exits : `bool`, optional (default = `False`)
        Whether exits are calibrated by a combination, or each by its temperature alone, as the
        paper's.

    # Raises

    ConfigurationError
        If a drop is not a share, there are both, the metric is unknown, or `combine_exits` neither
        true nor false. When
        training starts, if the model has no temperatures, there is no validation data, or the
        model's config has a threshold that a chosen one would not come up against.
    ValueError
        When training has ended, if validation logits are not finite numbers.
    """

    def __init__(
        self,
        serialization_dir: str,
        max_accuracy_drop: Optional[Any] = None,
        combine_exits: Any = False,
        max_recall_drop: Optional[Any] = None,
        metric: Any = "accuracy",
    ) -> None:
        super().__init__(serialization_dir)
        # Checked here, not by their types, so that the error names the value.
        if not isinstance(combine_exits, bool):
            raise ConfigurationError(
                f"combine_exits is {short_repr(combine_exits)}: wanted true or false"
            )
        self._combine_exits = combine_exits
        try:
            self._wish = ThresholdWish(max_accuracy_drop, max_recall_drop, metric)
        except ValueError as error:
            raise ConfigurationError(f"temperature_calibration: {error}") from error

    def on_start(
        self, trainer: "GradientDescentTrainer", is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        if not isinstance(trainer.model, MultiExitClassifier):
            raise ConfigurationError(
                f"temperature_calibration found a model of class {type(trainer.model).__name__}: "
                "wanted a multi_exit_classifier"
            )
        if trainer._validation_data_loader is None:
            raise ConfigurationError(
                "temperature_calibration found no validation data: wanted validation_data_path in "
                "the config"
            )
        if self._wish.is_any:
            check_threshold_can_be_chosen(trainer.model)
        ngrams = trainer.model.exits.ngrams
        is_fitted = ngrams is None or ngrams.is_fitted
        if not is_fitted and not any(isinstance(c, NgramFitting) for c in trainer._callbacks):
            raise ConfigurationError(
                "nothing will fit the model's n-gram exit: wanted a callback of type "
                "'ngram_fitting' in the config, or enable_default_callbacks not false"
            )
        # What an archive kept, which is now trained further, was for its old exits.
        trainer.model.exits.default_threshold = 1.0
        trainer.model.combination.weights = None
        if is_primary:
            _warn_if_not_archived(self.serialization_dir)

    def on_end(
        self,
        trainer: "GradientDescentTrainer",
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is None:
            logger.warning(
                "Training did not end normally: the model is not calibrated, and its temperatures "
                "stay as they are. To finish training and calibrate, run the same `allennlp train` "
                "command again with --recover."
            )
            return
        model = trainer.model
        assert isinstance(model, MultiExitClassifier)
        assert trainer._validation_data_loader is not None
        weights_path = _best_weights_of(trainer, self.serialization_dir)
        if weights_path is not None:
            model.load_state_dict(read_weights(weights_path))
        model.combination.weights = None  # of a calibration before this one
        logger.info("Calibrating %d exits on the validation data", len(model.exit_layers))
        with same_random_numbers_after():
            # A data loader may shuffle, and rounding depends on what else is in a batch: this gives
            # the same temperatures whenever it is run.
            random.seed(0)
            full_depth = run_at_full_depth(
                model, trainer._validation_data_loader, trainer.cuda_device
            )
        wish = self._wish if self._wish.is_any else None
        calibration = calibrate_model(model, full_depth, wish, combine_exits=self._combine_exits)
        metrics.update(calibration_metrics(calibration.exits))
        if calibration.recommended is not None:
            metrics["recommended_threshold"] = calibration.recommended.point.threshold
        training_counts = _training_counts(trainer)
        if not is_primary:
            return
        _log(calibration)
        if calibration.losses:
            logger.warning("On the validation data: %s.", calibration.losses_sentence())
        better = better_exit_of(model, full_depth)
        if better is not None:
            logger.warning("On the validation data: %s", better.warning(train_longer(trainer)))
        if weights_path is not None:
            weights = with_calibration_of(model, read_weights(weights_path))
            # It may be a hard link to a checkpoint: it is replaced, not written to.
            write_whole(weights_path, lambda beside: torch.save(weights, beside))
        if self.serialization_dir is not None:
            folder = Path(self.serialization_dir)
            write_text_whole(folder / CALIBRATION_FILE, calibration.report())
            card = _card(trainer, calibration, full_depth, _config_in(folder), training_counts)
            write_text_whole(folder / MODEL_CARD_FILE, card)


def _best_weights_of(
    trainer: "GradientDescentTrainer", serialization_dir: Optional[str]
) -> Optional[Path]:
    """
    The weights file that AllenNLP will archive. The model in memory may have other weights: of a
    last epoch without validation, or after a recovery, when the trainer has forgotten the file.
    """
    best_weights = trainer.get_best_weights_path()
    if best_weights is None and serialization_dir is not None:
        best_weights = str(Path(serialization_dir) / "best.th")
    if best_weights is None or not Path(best_weights).exists():
        return None
    return Path(best_weights)


def _training_counts(trainer: "GradientDescentTrainer") -> Optional[List[int]]:
    """How many training texts have each label, if they are in memory."""
    if _is_lazy(trainer.data_loader):
        return None
    counts: List[int] = label_counts(trainer).tolist()
    return counts


def _is_lazy(loader: Any) -> bool:
    """Whether a data loader would read its files again."""
    return getattr(loader, "max_instances_in_memory", None) is not None


def _card(
    trainer: "GradientDescentTrainer",
    calibration: ModelCalibration,
    full_depth: FullDepth,
    config: Dict[str, Any],
    training_counts: Optional[List[int]],
) -> str:
    assert isinstance(trainer.model, MultiExitClassifier)
    loader = trainer._validation_data_loader
    assert loader is not None
    return card_of(
        trainer.model,
        calibration,
        full_depth,
        config,
        calibrated_on=config.get("validation_data_path"),
        training_counts=training_counts,
        is_on_hub=is_hub_name(pretrained_model_in(config)),
        are_pairs=None if _is_lazy(loader) else look_like_pairs(loader.iter_instances()),
    )


def _log(calibration: ModelCalibration) -> None:
    logger.info("Calibrated the exits on %d validation instances:", calibration.num_instances)
    exits = calibration.exits
    for line in combination_lines(exits) or temperature_lines(exits):
        logger.info("%s", line)
    if calibration.min_seen_share is not None:
        logger.info("%s", calibration.seen_share_sentence())
    if calibration.recommended is not None:
        point = calibration.recommended.point
        logger.info(
            "The default threshold is %s, for %s: accuracy %.4f, at the last exit %.4f; %.2f "
            "layer-equivalents",
            *(shortest(point.threshold), calibration.recommended.described(), point.accuracy),
            *(point.accuracy + point.accuracy_drop, point.layer_equivalents),
        )


def _warn_if_not_archived(serialization_dir: Optional[str]) -> None:
    """Warns if the config of the training will not put its reports into the archive."""
    if serialization_dir is None:
        return
    config = _config_in(Path(serialization_dir))
    files = [CALIBRATION_FILE, MODEL_CARD_FILE]
    if config and CALIBRATION_FILE not in (config.get("include_in_archive") or []):
        logger.warning(
            '%s will not be in the archive: to have them there, add "include_in_archive": %s '
            "to the config. The temperatures are in the archive either way.",
            *(" and ".join(files), json.dumps(files)),
        )


def _config_in(folder: Path) -> Dict[str, Any]:
    """The config of a training; empty for a trainer that is used without one."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    config: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
