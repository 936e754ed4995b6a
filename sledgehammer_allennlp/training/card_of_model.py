"""What the model card of a calibrated model says, from the model, its config and its data."""

import json
import os
import platform
import re
from itertools import islice
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence

import allennlp.version
import numpy as np
import torch
import transformers
from allennlp.data import Instance
from allennlp.data.fields import TextField

from sledgehammer_allennlp import __version__
from sledgehammer_allennlp.archives.model_card import CardData, CardFacts, model_card
from sledgehammer_allennlp.encoders.families import family_of
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.training.full_depth import FullDepth, curve_of
from sledgehammer_allennlp.training.model_calibration import ModelCalibration

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_SEPARATORS = ("[SEP]", "</s>")
_LOOKED_AT = 100
"""Instances by which it is told whether texts are pairs."""


def card_of(
    model: MultiExitClassifier,
    calibration: ModelCalibration,
    full_depth: FullDepth,
    config: Mapping[str, Any],
    calibrated_on: Optional[str],
    training_counts: Optional[Sequence[int]],
    is_on_hub: bool,
    are_pairs: Optional[bool],
    overrides: Optional[Mapping[str, Any]] = None,
) -> str:
    """
    The card of a model that has just been calibrated.

    # Parameters

    model : `MultiExitClassifier`
    calibration : `ModelCalibration`
    full_depth : `FullDepth`
        What it was calibrated on.
    config : `Mapping[str, Any]`
        With which it was trained; a setting that it has not is not known.
    calibrated_on : `str`, optional
        The path of the data.
    training_counts : `Sequence[int]`, optional
        How many texts it was trained on have each label.
    is_on_hub : `bool`
        Whether the name of the pretrained model is one of the hub's.
    are_pairs : `bool`, optional
        Whether the texts are pairs.
    overrides : `Mapping[str, Any]`, optional (default = none)
        With which the model was loaded, and which are not kept.
    """
    labels = model.label_names()
    counts = np.bincount(full_depth.labels, minlength=len(labels)).tolist()
    windows = model.windows
    return model_card(
        CardFacts(
            labels=labels,
            pretrained_model=pretrained_model_in(config) or "not known",
            is_on_hub=is_on_hub,
            family=family_of(model.encoder.transformer.config).title,
            confidence=_text_in(config, "model", "confidence") or "max_probability",
            trained_on=CardData(_text_in(config, "train_data_path"), training_counts),
            calibrated_on=CardData(calibrated_on, counts),
            exits=calibration.exits,
            curve=curve_of(model, full_depth),
            threshold=_kept_threshold(model, config),
            why_threshold=_why_threshold(calibration, model, config),
            max_tokens=_max_tokens(model, config),
            window=None if windows is None else windows.size,
            are_pairs=are_pairs,
            min_seen_share=calibration.min_seen_share,
            versions=package_versions(),
            overrides=json.dumps(overrides) if overrides else None,
        )
    )


def package_versions() -> Dict[str, str]:
    """Of what makes a model, and of Python."""
    return {
        "sledgehammer_allennlp": __version__,
        "allennlp": allennlp.version.VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def pretrained_model_in(config: Mapping[str, Any]) -> Optional[str]:
    """The name of the pretrained model, if the config has one."""
    return _text_in(config, "model", "transformer_model")


def is_hub_name(name: Optional[str]) -> bool:
    """
    Whether a pretrained model of this name, which was just loaded, was the hub's: where there is a
    folder of this name, it is taken from there.
    """
    return name is not None and bool(_HUB_NAME.fullmatch(name)) and not os.path.exists(name)


def look_like_pairs(instances: Iterable[Instance]) -> Optional[bool]:
    """
    Whether most of the first instances are pairs, by their type ids or by a separator between two
    texts; `None` if they are no word pieces, or there are none.
    """
    found = []
    for instance in islice(instances, _LOOKED_AT):
        field = instance.fields.get("tokens")
        if not isinstance(field, TextField) or not field.tokens:
            return None
        pieces = [token.text for token in field.tokens]
        if pieces[-1] not in _SEPARATORS:
            return None
        is_separated = pieces[-1] in pieces[1:-1]
        found.append(is_separated or any(token.type_id for token in field.tokens))
    return sum(found) > len(found) / 2 if found else None


def _kept_threshold(model: MultiExitClassifier, config: Mapping[str, Any]) -> float:
    """The archive's: overrides with which the model was loaded are not kept."""
    configured = _setting_in(config, "model", "confidence_threshold")
    is_number = isinstance(configured, (int, float))
    return float(configured) if is_number else model.exits.default_threshold


def _why_threshold(
    calibration: ModelCalibration, model: MultiExitClassifier, config: Mapping[str, Any]
) -> str:
    if isinstance(_setting_in(config, "model", "confidence_threshold"), (int, float)):
        return "set in the config"
    if calibration.recommended is not None:
        wish = calibration.recommended.described()
        return f"the fastest on the texts that it was calibrated on, for {wish}"
    if model.exits.default_threshold < 1:
        return "chosen by an earlier calibration, on other confidences"
    return "at which no text exits early, because no other was asked for"


def _max_tokens(model: MultiExitClassifier, config: Mapping[str, Any]) -> int:
    most = model.encoder.max_positions
    length = _setting_in(config, "dataset_reader", "tokenizer", "max_length")
    if not isinstance(length, int):
        return most
    return length if model.windows is not None else min(length, most)


def _text_in(config: Mapping[str, Any], *keys: str) -> Optional[str]:
    found = _setting_in(config, *keys)
    return found if isinstance(found, str) else None


def _setting_in(config: Mapping[str, Any], *keys: str) -> Any:
    """A setting in dictionaries of a config; `None` if there is none."""
    found: Any = config
    for key in keys:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found
