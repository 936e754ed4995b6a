"""The trainer callback that calibrates a model when its training has ended."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader
from allennlp.nn.util import move_to_device
from allennlp.training import TrainerCallback

from sledgehammer_allennlp.calibration import (
    ExitCalibration,
    calibrate_exits,
    calibration_metrics,
    calibration_report,
)
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.training.ngram_fitting import NgramFitting

if TYPE_CHECKING:
    from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

logger = logging.getLogger(__name__)

CALIBRATION_FILE = "calibration.json"


@TrainerCallback.register("temperature_calibration")
class TemperatureCalibration(TrainerCallback):
    """
    When training has ended, fits one temperature to each exit of a `multi_exit_classifier` on the
    validation data, with the best weights (Schwartz et al. 2020, section 3; Guo et al. 2017), and
    puts them into the model and into the best weights on disk, so that they are in the archive.
    The model in memory has the best weights from then on.

    Negative log-likelihood and expected calibration error of each exit, before and after, go to
    the metrics and to `calibration.json` in the serialization directory. To have that file in the
    archive too, list it in the config's `include_in_archive`.

    Nothing is calibrated when training has failed or was interrupted.

    Registered as a `TrainerCallback` with name "temperature_calibration". It has no parameters.

    # Raises

    ConfigurationError
        When training starts, if the model has no temperatures or there is no validation data.
    ValueError
        When training has ended, if validation logits are not finite numbers.
    """

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
        ngrams = trainer.model.exits.ngrams
        is_fitted = ngrams is None or ngrams.is_fitted
        if not is_fitted and not any(isinstance(c, NgramFitting) for c in trainer._callbacks):
            raise ConfigurationError(
                "nothing will fit the model's n-gram exit: wanted a callback of type "
                "'ngram_fitting' in the config, or enable_default_callbacks not false"
            )
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
            model.load_state_dict(torch.load(weights_path, map_location="cpu"))
        logger.info("Calibrating %d exits on the validation data", len(model.exit_layers))
        logits, labels = gather_logits(model, trainer._validation_data_loader, trainer.cuda_device)
        calibrations = calibrate_exits(logits, labels, model.exit_layers)
        model.temperatures.copy_(torch.tensor([c.temperature for c in calibrations]))
        metrics.update(calibration_metrics(calibrations))
        if not is_primary:
            return
        _log(calibrations, len(labels))
        if weights_path is not None:
            _replace_temperatures(weights_path, model.temperatures)
        if self.serialization_dir is not None:
            report = json.dumps(calibration_report(calibrations, len(labels)), indent=2) + "\n"
            path = Path(self.serialization_dir) / CALIBRATION_FILE
            write_whole(path, lambda beside: beside.write_text(report, encoding="utf-8"))


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


def gather_logits(
    model: MultiExitClassifier, data_loader: DataLoader, device: torch.device
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Every exit's logits for all labelled data, of all workers where there are several.

    # Parameters

    model : `MultiExitClassifier`
        Put into evaluation mode.
    data_loader : `DataLoader`
        Indexed, of instances with labels.
    device : `torch.device`
        Where the model is.

    # Returns

    logits : `np.ndarray`
        `(num_exits, num_instances, num_labels)`
    labels : `np.ndarray`
        `(num_instances,)`
    """
    model.eval()
    logits: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    with torch.no_grad():
        for batch in Tqdm.tqdm(data_loader, desc="calibrating"):
            if "label" not in batch:
                raise ConfigurationError(
                    "temperature_calibration needs validation data with labels"
                )
            batch = move_to_device(batch, device)
            logits.append(model.all_exit_logits(batch["tokens"]).float().cpu().numpy())
            labels.append(batch["label"].cpu().numpy())
    if is_distributed():
        shares: List[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(shares, (logits, labels))
        logits = [batch for share in shares for batch in share[0]]
        labels = [batch for share in shares for batch in share[1]]
    if not labels:
        raise ConfigurationError("temperature_calibration found no validation instances")
    return np.concatenate(logits, axis=1), np.concatenate(labels)


def _log(calibrations: List[ExitCalibration], num_instances: int) -> None:
    logger.info("Fitted temperatures on %d validation instances:", num_instances)
    for c in calibrations:
        logger.info(
            "exit layer %2d: temperature %.3f, NLL %.4f -> %.4f, calibration error %.4f -> %.4f",
            *(c.exit_layer, c.temperature, c.nll_before, c.nll_after, c.ece_before, c.ece_after),
        )
        if not c.is_determined:
            logger.warning(
                "The validation data does not determine the temperature of exit layer %d, whose "
                "accuracy on it is %.3f: it is set to %g, and this exit's confidences mean little. "
                "Use more validation data.",
                *(c.exit_layer, c.accuracy, c.temperature),
            )


def _replace_temperatures(weights_path: Path, temperatures: torch.Tensor) -> None:
    """
    Puts temperatures into a weights file. The file may be a hard link to a checkpoint, so it is
    replaced, not written to.
    """
    state = torch.load(weights_path, map_location="cpu")
    state["temperatures"] = temperatures.detach().cpu().clone()
    write_whole(weights_path, lambda beside: torch.save(state, beside))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside `path` and renames it, so that `path` is never half written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _warn_if_not_archived(serialization_dir: Optional[str]) -> None:
    """Says so if the training config will not put `calibration.json` into the archive."""
    if serialization_dir is None:
        return
    config_path = Path(serialization_dir) / "config.json"
    if not config_path.exists():
        return
    config = json.loads(config_path.read_text(encoding="utf-8"))
    if CALIBRATION_FILE not in (config.get("include_in_archive") or []):
        logger.warning(
            '%s will not be in the archive: to have it there, add "include_in_archive": ["%s"] '
            "to the config. The temperatures are in the archive either way.",
            *(CALIBRATION_FILE, CALIBRATION_FILE),
        )
