"""The AllenNLP model.

One class, because AllenNLP makes it by one constructor; its parameters fill a third of the file.
"""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union, cast

import torch
import torch.nn.functional as F
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import Params
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.models.model import _DEFAULT_WEIGHTS
from allennlp.nn import InitializerApplicator, RegularizerApplicator
from allennlp.nn.parallel import DdpAccelerator

from sledgehammer_allennlp.encoders.archived_files import (
    find_config,
    keep_config,
    keep_tokenizer,
)
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.engine import (
    EarlyExitOutput,
    ExitCombination,
    ExitRule,
    Prediction,
    check_ensemble,
    cost_of_exits,
    most_probable,
    run_early_exit,
    run_exits,
)
from sledgehammer_allennlp.engine.chunks import check_token_budget
from sledgehammer_allennlp.engine.combination import add_none_to_older_weights
from sledgehammer_allennlp.engine.exit_rule import abstained, check_abstain_below, check_threshold
from sledgehammer_allennlp.engine.temperature_scaling import scale_by_temperature
from sledgehammer_allennlp.engine.windows import check_windows, read_in_windows
from sledgehammer_allennlp.exits import ExitScores, build_encoder_and_exits
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.models.exit_metrics import ExitMetrics
from sledgehammer_allennlp.models.settings import check_num_labels, check_trainable
from sledgehammer_allennlp.models.text_fields import texts_in
from sledgehammer_allennlp.objectives import Joint, Objective
from sledgehammer_allennlp.objectives.correctness import correctness_loss
from sledgehammer_allennlp.objectives.label_weights import BALANCED, check_label_weights
from sledgehammer_allennlp.weights_file import read_weights


@Model.register("multi_exit_classifier")
class MultiExitClassifier(Model):
    """
    A pretrained transformer with classifiers ("exits") on several layers, after Schwartz et al.
    2020, "The Right Tool for the Job: Matching Model and Instance Complexities".

    In training, a registered objective chooses which exits learn, and from what; an exit over
    n-grams does not, because it is fitted when training starts. In evaluation, an instance exits at
    the first exit whose confidence, from probabilities calibrated by that exit's temperature, or
    by its combination with earlier exits, is at least `confidence_threshold`; what has exited is
    computed no further.

    The model takes the fields `tokens`, `label`, `exit_layer` (where an instance is to exit) and
    `metadata` (not used). Its predictions have `label`, `probs`, `confidence`, `exit_layer`, and
    `logits`, which are before temperature, or with a combination calibrated.

    Temperatures are 1 until the `temperature_calibration` callback sets them, and there is no
    combination until then. They are kept with the weights, never change training, and never change
    what another exit sees.

    Registered as a `Model` with name "multi_exit_classifier".

    # Parameters

    vocab : `Vocabulary`
    transformer_model : `str`
        A Hugging Face name or a local folder of a BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA,
        DistilBERT or ALBERT model.
    exit_layers : `List[int]` or `"all"`, optional (default = `"all"`)
        The layers that have an exit, counted from 0, ascending. Layers after the last exit are
        removed.
    embedding_exit : `str` or `Dict[str, Any]`, optional (default = `None`)
        `"mean"` adds an exit before layer 0, on the mean of the embeddings; `"ngrams"` one before
        the embeddings, over n-grams of word pieces, see `NgramClassifier`, with settings
        `{"type": "ngrams", "max_n": …, "num_buckets": …, "pairs": …}`. Its exit layer is -1.
    pooling : `str`, optional (default = `"mean"`)
        What exits see, `"mean"` or `"first"` (the paper's), see `ExitClassifiers`.
    last_exit : `str`, optional (default = `None`)
        With pooling `"mean"`: `"first_token"` has the last exit see the first token of its layer
        alone, as in plain fine-tuning; `None` what the others see.
    confidence_threshold : `float`, optional (default = `1.0`)
        In [0, 1]. At 1 every instance exits at the last exit, at 0 at the first. If
        `temperature_calibration` was told to choose one, that is the default of the archive.
    confidence : `str`, optional (default = `"max_probability"`)
        A registered measure of confidence, see `exits.confidence`. An archive may be loaded with
        another, but for `"learned"`, which has to be trained.
    ensemble : optional (default = `None`)
        `"reached"`: predictions are an average of the exits up to the one taken, and so is
        confidence; `"all"`: of all exits, and no instance exits early; `{"over": …, "weights":
        […]}`: weighted.
    abstain_below : `float`, optional (default = `None`)
        In [0, 1]. An answer whose confidence is below it is "none of these": its `label` is null.
        Predictions then have `best_label`, the most probable label, beside it. Where instances exit
        does not change.
    windows : `Dict[str, int]`, optional (default = `None`)
        `{"size": …, "stride": …}`: a single text of more than `size` word pieces is read in windows
        of so many, which begin `stride` pieces apart, until it is confident, see `engine.windows`.
        The tokenizer's `max_length` is how much of a text is read at most. Training, the fit of the
        exit on n-grams and calibration see first windows alone. Predictions then also have
        `windows` and `windows_read`, their numbers; `exit_layer` is of the last that was read.
    loss : `Objective`, optional (default = `"joint"`)
        What training minimises, see `objectives`.
    label_weights : optional (default = `None`)
        How much training texts of a label count, in the loss and in the fit of the exit on n-grams:
        `"balanced"`, so that all labels count the same, however many texts they have; or a weight
        for each label, `{"yes": 1, "no": 2.5}`. Calibration and metrics are of the data as it is.
    use_previous_logits : `bool`, optional (default = `False`)
        Whether exits see, besides, the logits of the exits before them.
    alignment : `int`, optional (default = `None`)
        For pairs: every exit after a layer, or on the mean of the embeddings, also sees how the
        texts of a pair match, by an alignment of this size, see `exits.alignment`.
    token_features : `int`, optional (default = `None`)
        With `pooling` `"mean"`: exits that see means also see the mean and the maximum of so many
        features of each token, see `exits.token_features`. Not together with `alignment`, which has
        such features itself.
    trainable : optional (default = `True`)
        Whether the transformer is trained; `{"from_layer": n}`: only its layers from n on.
    dropout : `float`, optional (default = `0.1`)
        Before each exit's linear layer.
    precision : `str`, optional (default = `"float32"`)
        Of inference: `"float32"`, `"bfloat16"`, `"int8"` (on CPUs) or `"float16"` (on GPUs).
        Training, and what is archived, is always float32.
    runtime : `str`, optional (default = `"auto"`)
        What runs the layers at inference: `"torch"`; `"onnxruntime"`, on CPUs in float32 or int8;
        or whichever is faster, which for up to three short texts is ONNX Runtime.
    token_budget : `int`, optional (default = by device and model, see `engine.early_exit`)
        About how many tokens inference runs through a layer together. Changes speed and memory,
        not predictions.
    num_labels : `int`, optional (default = the labels in the vocabulary)
    label_namespace : `str`, optional (default = `"labels"`)
    initializer : `InitializerApplicator`, optional
    regularizer : `RegularizerApplicator`, optional
    serialization_dir, ddp_accelerator
        Given by AllenNLP, not by configs.
    load_pretrained_weights : `bool`, optional (default = `True`)
        Whether to read the pretrained weights. Archives are loaded without.

    # Raises

    ConfigurationError
        If a parameter has a value that is not possible.
    """

    default_predictor = "multi_exit_classifier"

    def __init__(
        self,
        vocab: Vocabulary,
        transformer_model: str,
        # These are checked here, not by their types, so that the error names the value.
        exit_layers: Any = "all",
        embedding_exit: Any = None,
        pooling: str = "mean",
        last_exit: Any = None,
        confidence_threshold: Any = None,
        confidence: str = "max_probability",
        ensemble: Any = None,
        abstain_below: Any = None,
        windows: Any = None,
        loss: Optional[Objective] = None,
        label_weights: Any = None,
        use_previous_logits: Any = False,
        alignment: Any = None,
        token_features: Any = None,
        trainable: Any = True,
        dropout: Any = 0.1,
        precision: str = "float32",
        runtime: str = "auto",
        token_budget: Any = None,
        num_labels: Optional[int] = None,
        label_namespace: str = "labels",
        initializer: Optional[InitializerApplicator] = None,
        load_pretrained_weights: bool = True,
        regularizer: Optional[RegularizerApplicator] = None,
        serialization_dir: Optional[str] = None,
        ddp_accelerator: Optional[DdpAccelerator] = None,
    ) -> None:
        super().__init__(
            vocab,
            regularizer,  # type: ignore[arg-type]  # AllenNLP means Optional
            serialization_dir,
            ddp_accelerator,
        )
        self.confidence_threshold = confidence_threshold
        self._label_namespace = label_namespace
        num_labels = check_num_labels(num_labels, self.vocab, label_namespace)
        try:
            self._token_budget = check_token_budget(token_budget)
            self.abstain_below = check_abstain_below(abstain_below)
            measure = confidence_by_name(confidence)
            self.encoder, self.exits = build_encoder_and_exits(
                transformer_model,
                num_labels,
                exit_layers,
                _as_plain(embedding_exit),
                pooling,
                dropout,
                precision,
                use_previous_logits=use_previous_logits,
                with_correctness=measure.is_learned,
                config_folder=find_config(transformer_model, self.serialization_dir),
                load_weights=load_pretrained_weights,
                alignment=alignment,
                token_features=token_features,
                runtime=runtime,
                last_exit=last_exit,
            )
            self.exit_layers = self.exits.exit_layers
            """The layer of each exit; -1 for an exit before layer 0."""
            self._ensemble = check_ensemble(_as_plain(ensemble), len(self.exit_layers))
            self.windows = check_windows(
                _as_plain(windows), self.encoder.max_positions, measure, alignment
            )
            self.encoder.freeze(check_trainable(_as_plain(trainable), self.encoder.num_layers))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        self._measure = measure
        self.objective = Joint() if loss is None else loss
        try:
            label_weights = _as_plain(label_weights)
            # To ask a vocabulary for names adds an empty namespace to one that has none.
            names = self.label_names() if isinstance(label_weights, dict) else []
            self.label_weights = check_label_weights(label_weights, names)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        if isinstance(self.label_weights, list):
            self.objective.label_weights = torch.tensor(self.label_weights)
        if self.objective.keeps_last_exit and self.exits.use_previous_logits:
            raise ConfigurationError(
                "the loss keeps the last exit as it is while the others learn, and with "
                "use_previous_logits it would change with them: wanted one of them"
            )
        if load_pretrained_weights and self.serialization_dir is not None:
            keep_config(transformer_model, self.serialization_dir, self.encoder.transformer.config)
            keep_tokenizer(transformer_model, self.serialization_dir)
        self.temperatures: torch.Tensor
        self.register_buffer("temperatures", torch.ones(len(self.exit_layers)))
        self.combination = ExitCombination(len(self.exit_layers))
        self._register_load_state_dict_pre_hook(add_none_to_older_weights)
        self.exit_costs = cost_of_exits(self.encoder, self.exits)
        """The layer-equivalents of exiting at each exit."""
        self._metrics = ExitMetrics(self.exit_layers, self.exit_costs, num_labels)
        if initializer is not None:  # AllenNLP's empty one does nothing but log every parameter
            initializer(self)

    @property
    def confidence_threshold(self) -> float:
        """
        The confidence at which instances exit, in [0, 1]. Can be set at any time, to `None` for
        the default.

        # Raises

        ConfigurationError
            If it is set to something else.
        """
        if self.configured_threshold is None:
            return self.exits.default_threshold
        return self.configured_threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: Optional[float]) -> None:
        try:
            self.configured_threshold = None if threshold is None else check_threshold(threshold)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def forward(
        self,
        tokens: TextFieldTensors,
        label: Optional[torch.Tensor] = None,
        metadata: Optional[List[Any]] = None,
        exit_layer: Optional[torch.Tensor] = None,
    ) -> Dict[str, torch.Tensor]:
        """
        # Parameters

        tokens : `TextFieldTensors`
            From a "pretrained_transformer" indexer.
        label : `torch.Tensor`, optional (default = `None`)
            `(batch_size,)`
        metadata : `List[Any]`, optional (default = `None`)
            Not used.
        exit_layer : `torch.Tensor`, optional (default = `None`)
            `(batch_size,)`, the layer of the exit at which each instance exits, whatever its
            confidence. Makes no difference in training.

        # Returns

        A dictionary with

        logits, probs : `torch.Tensor`
            `(batch_size, num_labels)`, of the exit at which each instance exited; `probs` are
            calibrated, and so are `logits` with a combination.
        confidence : `torch.Tensor`
            `(batch_size,)`, in [0, 1].
        exit_layer : `torch.Tensor`
            `(batch_size,)`, where each instance exited; in training the last exit that was run.
        loss : `torch.Tensor`
            With labels only. In training that of the objective. In evaluation the mean negative
            log of the probability given to the right label.

        # Raises

        ConfigurationError
            If there is no exit at an `exit_layer`.
        """
        texts = texts_in(tokens)
        if self.training:
            return self._forward_in_training(texts, label)
        if exit_layer is None:
            output = self.run_early_exit(texts, record_exits=label is not None)
        else:
            texts, forced_exits = self.first_windows(texts), self._exits_at(exit_layer)
            output = self._run_early_exit(texts, self.exit_rule, label is not None, forced_exits)
        outputs = self._as_outputs(output)
        if label is not None:
            abstains = None
            if self.abstain_below is not None:
                abstains = abstained(output.confidence, self.abstain_below)
            self._metrics.add_early_exit(output, label, self.combination.weights, abstains)
            outputs["loss"] = self._evaluation_loss(output, label)
        return outputs

    def _evaluation_loss(self, output: EarlyExitOutput, label: torch.Tensor) -> torch.Tensor:
        if self._ensemble is not None:
            return F.cross_entropy(output.logits, label)
        if output.windows is not None:
            tiny = torch.finfo(output.probs.dtype).tiny
            return F.nll_loss(output.probs.clamp(min=tiny).log(), label)
        temperatures = self.temperatures[output.exit_index].unsqueeze(1)
        if self.combination.weights is not None:
            temperatures = torch.ones_like(temperatures)
        # So that the mean of infinities, which it may be, is a number.
        lowest = max(-1e30, torch.finfo(output.logits.dtype).min)
        logits = scale_by_temperature(output.logits, temperatures).clamp(min=lowest)
        return F.cross_entropy(logits, label)

    def _exits_at(self, exit_layer: torch.Tensor) -> torch.Tensor:
        """Which exits those at some layers are, counted from 0, `(batch_size,)`."""
        exit_layers = exit_layer.new_tensor(self.exit_layers)
        is_at = exit_layer.unsqueeze(1) == exit_layers  # (batch, exits)
        if not is_at.any(1).all():
            unknown = sorted(set(exit_layer[~is_at.any(1)].tolist()))
            raise ConfigurationError(
                f"the data has exit layers {unknown}, at which the model has no exit: wanted those "
                f"in {self.exit_layers}"
            )
        return is_at.long().argmax(1)

    @property
    def exit_rule(self) -> ExitRule:
        """Which instances exit where, and with what prediction, at this model's threshold."""
        return ExitRule(
            self.temperatures,
            self._measure,
            self.confidence_threshold,
            self._ensemble,
            self.combination.weights,
            self.exits.min_seen_share,
        )

    def run_early_exit(self, texts: TokenBatch, record_exits: bool = False) -> EarlyExitOutput:
        """
        Early exit for any number of `texts`, at this model's threshold; see `engine.early_exit`,
        and `engine.windows`. Texts may be on another device than the model; then only those go
        there that have to. With `record_exits`, the output has what each exit gave.

        # Raises

        ConfigurationError
            If the device cannot compute in this model's precision, or by its runtime, or there are
            pairs and windows.
        """
        rule = self.exit_rule
        if self.windows is None:
            return self._run_early_exit(texts, rule, record_exits)

        def run(texts: TokenBatch) -> EarlyExitOutput:
            return self._run_early_exit(texts, rule, record_exits)

        try:
            return read_in_windows(run, texts, self.windows, rule, len(self.exit_layers))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def first_windows(self, texts: TokenBatch) -> TokenBatch:
        """
        What training and calibration see of `texts`: all, or the first of their windows.

        # Raises

        ConfigurationError
            If there are pairs and windows.
        """
        if self.windows is None:
            return self.encoder.truncate(texts)
        try:
            return self.windows.first(texts)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def _run_early_exit(
        self,
        texts: TokenBatch,
        rule: ExitRule,
        record_exits: bool,
        forced_exits: Optional[torch.Tensor] = None,
    ) -> EarlyExitOutput:
        try:
            self.encoder.check_inference()
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        return run_early_exit(
            self.encoder,
            self.exits,
            rule,
            texts,
            self._token_budget,
            record_exits,
            forced_exits,
        )

    def _forward_in_training(
        self, texts: TokenBatch, label: Optional[torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        if self.label_weights == BALANCED and self.objective.label_weights is None:
            raise ConfigurationError(
                "label_weights is 'balanced', and nothing counted the labels of the training data: "
                "wanted a callback of type 'label_weighting' in the config, or "
                "enable_default_callbacks not false. `allennlp find-lr` has no callbacks: there, "
                "--overrides '{\"model.label_weights\": null}'"
            )
        num_fitted = self.exits.num_fitted
        plan = self.objective.plan(len(self.exit_layers) - num_fitted)
        trained = [num_fitted + k for k in sorted(plan.exits)]
        wanted = [*range(num_fitted), *trained]
        texts = self.first_windows(texts)
        scores = run_exits(self.encoder, self.exits, texts, wanted, plan.encoder_learns)
        deepest = scores[wanted[-1]].logits.detach()
        # Confidence makes no difference in training.
        rule = ExitRule(self.temperatures, confidence_by_name("max_probability"), 1.0)
        prediction = rule.predict([ExitScores(deepest)], wanted[-1])
        exit_index = torch.full_like(deepest[:, 0], wanted[-1], dtype=torch.long)
        outputs = self._as_outputs(EarlyExitOutput(*prediction, exit_index, exit_records=[]))
        if label is not None:
            self._metrics.add_exits({k: scores[k].logits for k in wanted}, label)
            logits = {k - num_fitted: scores[k].logits for k in trained}
            outputs["loss"] = self.objective.loss(logits, label)
            if self.exits.with_correctness:
                outputs["loss"] = outputs["loss"] + correctness_loss(
                    [scores[k] for k in trained], label
                )
        return outputs

    def _as_outputs(self, output: EarlyExitOutput) -> Dict[str, torch.Tensor]:
        exit_layers = output.exit_index.new_tensor(self.exit_layers)
        outputs = {
            "logits": output.logits,
            "probs": output.probs,
            "confidence": output.confidence,
            "exit_layer": exit_layers[output.exit_index],
        }
        if output.windows is not None:
            outputs["windows"] = output.windows.numbers
            outputs["windows_read"] = output.windows.exits.sum(1)
        return outputs

    def all_exits(self, tokens: TextFieldTensors) -> List[ExitScores]:
        """
        The scores of every exit for every instance, at full depth; of what is read in windows, for
        the first.

        # Parameters

        tokens : `TextFieldTensors`
            From a "pretrained_transformer" indexer.
        """
        rule = replace(self.exit_rule, threshold=1.0)
        texts = self.first_windows(texts_in(tokens))
        output = self._run_early_exit(texts, rule, record_exits=True)
        return [record.scores_in_order() for record in output.exit_records]

    def all_exit_logits(self, tokens: TextFieldTensors) -> torch.Tensor:
        """
        The logits of `all_exits`, before temperature.

        # Parameters

        tokens : `TextFieldTensors`
            From a "pretrained_transformer" indexer.

        # Returns

        `torch.Tensor`
            `(num_exits, batch_size, num_labels)`
        """
        return torch.stack([scores.logits for scores in self.all_exits(tokens)])

    def predictions_at_exits(self, scores: Sequence[ExitScores]) -> List[Prediction]:
        """
        What would be predicted at every exit, for instances that exit there.

        # Parameters

        scores : `Sequence[ExitScores]`
            From `all_exits`.
        """
        return self.exit_rule.predict_at_each_exit(scores)

    def make_output_human_readable(self, output_dict: Dict[str, Any]) -> Dict[str, Any]:
        """
        Adds `label`, the most probable label of each instance, as a list of strings. With
        `abstain_below` that is `best_label`, and `label` is `None` where confidence is below.
        """
        names = self.label_names()
        labels = most_probable(output_dict["logits"], output_dict["probs"])
        output_dict["label"] = [names[label] for label in labels.tolist()]
        if self.abstain_below is not None:
            output_dict["best_label"] = output_dict["label"]
            abstains = abstained(output_dict["confidence"], self.abstain_below).tolist()
            output_dict["label"] = [
                None if is_none else label for is_none, label in zip(abstains, output_dict["label"])
            ]
        return output_dict

    def label_names(self) -> List[str]:
        """The name of each label: a number where the vocabulary has none."""
        names = self.vocab.get_index_to_token_vocabulary(self._label_namespace)
        return [names.get(label, str(label)) for label in range(self.exits.num_labels)]

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        """See `ExitMetrics`."""
        return self._metrics.get_metric(reset)

    def extend_vocab(self, vocab: Vocabulary, **kwargs: Any) -> None:
        """
        Called by AllenNLP when an archive's vocabulary, `vocab`, was extended by that of new data.

        # Raises

        ConfigurationError
            If the vocabulary has more labels than the exits.
        """
        names = vocab.get_index_to_token_vocabulary(self._label_namespace)
        num_labels = self.exits.num_labels
        if len(names) > num_labels:
            new = ", ".join(names[label] for label in range(num_labels, len(names)))
            known = ", ".join(names[label] for label in range(num_labels))
            raise ConfigurationError(
                f"the data has the labels {new}, which the archive's model was not trained with: "
                f"wanted those of {known}, or a new model"
            )

    @classmethod
    def _load(
        cls,
        config: Params,
        serialization_dir: Union[str, "PathLike[str]"],
        weights_file: Optional[Union[str, "PathLike[str]"]] = None,
        cuda_device: int = -1,
    ) -> "MultiExitClassifier":
        # AllenNLP unpickles weights, which runs what they name where torch is before 2.6. So they
        # are read once before it does, without that.
        weights_file = weights_file or Path(serialization_dir) / _DEFAULT_WEIGHTS
        try:
            read_weights(weights_file)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        # The archive's weights are read next: pretrained ones would be overwritten.
        config["model"]["load_pretrained_weights"] = False
        model = super()._load(config, serialization_dir, weights_file, cuda_device)
        return cast("MultiExitClassifier", model)


def _as_plain(setting: Any) -> Any:
    return setting.as_dict(quiet=True) if isinstance(setting, Params) else setting
