"""The AllenNLP model."""

from typing import Any, Dict, List, Optional

import torch
import torch.nn.functional as F
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import Params
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.nn import InitializerApplicator, RegularizerApplicator
from allennlp.nn.parallel import DdpAccelerator

from sledgehammer_allennlp.encoders.archived_files import (
    find_config,
    keep_config,
    keep_tokenizer,
)
from sledgehammer_allennlp.encoders.layer_products import check_precision
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.exits import (
    ExitOutput,
    build_encoder_and_exits,
    cost_of_exits,
    run_all_exits,
    run_to_exits,
)
from sledgehammer_allennlp.exits.building import check_threshold, check_token_budget
from sledgehammer_allennlp.exits.confidence import calibrated, confidence_by_name
from sledgehammer_allennlp.training.exit_metrics import ExitMetrics


@Model.register("multi_exit_classifier")
class MultiExitClassifier(Model):
    """
    A pretrained transformer with classifiers ("exits") on several layers, after Schwartz et al.
    2020, "The Right Tool for the Job: Matching Model and Instance Complexities".

    In training, the loss is the sum of the cross-entropies of the exits that learn from it: all
    but one over n-grams, which is fitted when training starts. In evaluation, an instance leaves at
    the first exit whose confidence, from probabilities calibrated by that exit's temperature, is
    at least `confidence_threshold`; what has left is computed no further.

    The model takes the fields `tokens`, `label` and `metadata` (not used). Its answers have
    `label`, `probs`, `confidence`, `exit_layer`, and `logits`, which are before temperature.

    Temperatures are 1 until the `temperature_calibration` callback sets them. They are kept with
    the weights, never change training, and never change what another exit sees.

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
        `{"type": "ngrams", "max_n": …, "num_buckets": …}`. Its exit layer is -1.
    pooling : `str`, optional (default = `"mean"`)
        What exits see, `"mean"` or `"first"` (the paper's), see `ExitClassifiers`.
    confidence_threshold : `float`, optional (default = `1.0`)
        In [0, 1]. At 1 every instance leaves at the last exit, at 0 at the first. If
        `temperature_calibration` was told to choose one, that is the default of the archive.
    confidence : `str`, optional (default = `"max_probability"`)
        A registered measure of confidence, see `exits.confidence`.
    dropout : `float`, optional (default = `0.1`)
        Before each exit's linear layer.
    precision : `str`, optional (default = `"float32"`)
        Of inference: `"float32"`, `"bfloat16"`, `"int8"` (on CPUs) or `"float16"` (on GPUs).
        Training, and what is archived, is always float32.
    token_budget : `int`, optional (default = by device and model, see `exits.engine`)
        About how many tokens inference runs through a layer together. Changes speed and memory,
        not answers.
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
        confidence_threshold: Any = None,
        confidence: str = "max_probability",
        dropout: Any = 0.1,
        precision: str = "float32",
        token_budget: Any = None,
        num_labels: Optional[int] = None,
        label_namespace: str = "labels",
        initializer: InitializerApplicator = InitializerApplicator(),
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
        num_labels = self._check_num_labels(num_labels)
        try:
            self._token_budget = check_token_budget(token_budget)
            self._measure = confidence_by_name(confidence)
            self.encoder, self.exits = build_encoder_and_exits(
                transformer_model,
                num_labels,
                exit_layers,
                _as_plain(embedding_exit),
                pooling,
                dropout,
                precision,
                config_folder=find_config(transformer_model, self.serialization_dir),
                load_weights=load_pretrained_weights,
            )
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        if load_pretrained_weights and self.serialization_dir is not None:
            keep_config(transformer_model, self.serialization_dir, self.encoder.transformer.config)
            keep_tokenizer(transformer_model, self.serialization_dir)
        self.exit_layers = self.exits.exit_layers
        """The layer of each exit; -1 for an exit before layer 0."""
        self.temperatures: torch.Tensor
        self.register_buffer("temperatures", torch.ones(len(self.exit_layers)))
        self.exit_costs = cost_of_exits(self.encoder, self.exits)
        """The layer-equivalents of leaving at each exit."""
        self._metrics = ExitMetrics(self.exit_layers, self.exit_costs)
        initializer(self)

    @property
    def confidence_threshold(self) -> float:
        """
        The threshold that instances leave at, in [0, 1]. Can be set at any time, to `None` for the
        default.
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

    def _check_num_labels(self, num_labels: Optional[int]) -> int:
        namespace = self._label_namespace
        known = self.vocab.get_vocab_size(namespace)
        if known and self.vocab.is_padded(namespace):
            raise ConfigurationError(
                f"label_namespace is '{namespace}', in which the vocabulary has entries for "
                "padding and unknown labels: wanted a name that ends in 'labels' or 'tags', or one "
                "listed in the vocabulary's non_padded_namespaces"
            )
        if num_labels is None:
            num_labels = known
        if num_labels < max(known, 1):
            raise ConfigurationError(
                f"num_labels is {num_labels}, and the vocabulary has {known} labels in namespace "
                f"'{namespace}': wanted at least one label, and at least as many as "
                "the vocabulary has"
            )
        return num_labels

    def forward(
        self,
        tokens: TextFieldTensors,
        label: Optional[torch.Tensor] = None,
        metadata: Optional[List[Any]] = None,
    ) -> Dict[str, torch.Tensor]:
        """
        # Parameters

        tokens : `TextFieldTensors`
            From a "pretrained_transformer" indexer.
        label : `torch.Tensor`, optional (default = `None`)
            `(batch_size,)`
        metadata : `List[Any]`, optional (default = `None`)
            Not used.

        # Returns

        A dictionary with

        logits, probs : `torch.Tensor`
            `(batch_size, num_labels)`, of the exit each instance left at; `probs` are calibrated.
        confidence : `torch.Tensor`
            `(batch_size,)`, in [0, 1].
        exit_layer : `torch.Tensor`
            `(batch_size,)`, where each instance left; in training always the last.
        loss : `torch.Tensor`
            With labels only. In training the sum over trained exits of the mean cross-entropy. In
            evaluation the mean negative log of the probability given to the right label.
        """
        texts = texts_in(tokens)
        if self.training:
            return self._forward_all_exits(texts, label)
        output = self.run_to_exits(texts, record_reached=label is not None)
        outputs = self._answers(output)
        if label is not None:
            self._metrics.add_early_exit(output, label)
            scaled = output.logits / self.temperatures[output.exit_index].unsqueeze(1)
            outputs["loss"] = F.cross_entropy(scaled, label)
        return outputs

    def run_to_exits(self, texts: TokenBatch, record_reached: bool = False) -> ExitOutput:
        """
        Early exit for any number of texts, at this model's threshold; see `exits.engine`. Texts
        may be on another device than the model; then only those go there that have to.

        # Raises

        ConfigurationError
            If the device cannot compute in this model's precision.
        """
        return self._run_to_exits(texts, self.confidence_threshold, record_reached)

    def _run_to_exits(
        self, texts: TokenBatch, threshold: float, record_reached: bool
    ) -> ExitOutput:
        try:
            check_precision(self.encoder.precision, self.encoder.device)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        return run_to_exits(
            self.encoder,
            self.exits,
            self.temperatures,
            self._measure,
            threshold,
            texts,
            self._token_budget,
            record_reached,
        )

    def _forward_all_exits(
        self, texts: TokenBatch, label: Optional[torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        logits = run_all_exits(self.encoder, self.exits, texts)  # (exits, batch, labels)
        last = logits[-1].detach()
        probs = (last / self.temperatures[-1]).softmax(-1)
        last_exit = torch.full_like(last[:, 0], len(self.exit_layers) - 1, dtype=torch.long)
        outputs = self._answers(
            ExitOutput(last, probs, self._measure(probs), last_exit, reached=[])
        )
        if label is not None:
            self._metrics(logits, label)
            trained = logits[self.exits.num_fitted :]
            outputs["loss"] = torch.stack(
                [F.cross_entropy(exit_logits, label) for exit_logits in trained]
            ).sum()
        return outputs

    def _answers(self, output: ExitOutput) -> Dict[str, torch.Tensor]:
        exit_layers = output.exit_index.new_tensor(self.exit_layers)
        return {
            "logits": output.logits,
            "probs": output.probs,
            "confidence": output.confidence,
            "exit_layer": exit_layers[output.exit_index],
        }

    def all_exit_logits(self, tokens: TextFieldTensors) -> torch.Tensor:
        """
        What every exit says of every instance, at full depth and before temperature.

        # Parameters

        tokens : `TextFieldTensors`
            From a "pretrained_transformer" indexer.

        # Returns

        `torch.Tensor`
            `(num_exits, batch_size, num_labels)`
        """
        output = self._run_to_exits(texts_in(tokens), threshold=1.0, record_reached=True)
        return torch.stack([logits[texts.argsort()] for texts, logits in output.reached])

    def exit_confidences(self, logits: torch.Tensor) -> torch.Tensor:
        """
        How confident every exit is of what it says.

        # Parameters

        logits : `torch.Tensor`
            From `all_exit_logits`, `(num_exits, batch_size, num_labels)`.

        # Returns

        `torch.Tensor`
            `(num_exits, batch_size)`, in [0, 1].
        """
        return torch.stack(
            [
                calibrated(exit_logits, temperature, self._measure)[1]
                for exit_logits, temperature in zip(logits, self.temperatures.to(logits.device))
            ]
        )

    def make_output_human_readable(self, output_dict: Dict[str, Any]) -> Dict[str, Any]:
        """Adds `label`, the most probable label of each instance, as a list of strings."""
        names = self.label_names()
        output_dict["label"] = [names[index] for index in output_dict["probs"].argmax(-1).tolist()]
        return output_dict

    def label_names(self) -> List[str]:
        """The name of each label: a number where the vocabulary has none."""
        names = self.vocab.get_index_to_token_vocabulary(self._label_namespace)
        return [names.get(label, str(label)) for label in range(self.exits.num_labels)]

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        """See `ExitMetrics`."""
        return self._metrics.get_metric(reset)

    @classmethod
    def _load(cls, config: Params, *args: Any, **kwargs: Any) -> "MultiExitClassifier":
        # The archive's weights are read next: pretrained ones would be overwritten.
        config["model"]["load_pretrained_weights"] = False
        return super()._load(config, *args, **kwargs)  # type: ignore[return-value]


def _as_plain(setting: Any) -> Any:
    return setting.as_dict(quiet=True) if isinstance(setting, Params) else setting


def texts_in(tokens: TextFieldTensors) -> TokenBatch:
    """
    The texts of a batch, without padding.

    # Raises

    ConfigurationError
        If the tensors are not those of one plain "pretrained_transformer" indexer.
    """
    indexed = [
        tensors for tensors in tokens.values() if "token_ids" in tensors and "mask" in tensors
    ]
    if len(indexed) != 1 or "offsets" in indexed[0] or "segment_concat_mask" in indexed[0]:
        raise ConfigurationError(
            "multi_exit_classifier needs exactly one token indexer of type "
            f"'pretrained_transformer', without max_length: found indexers {sorted(tokens)} "
            f"with tensors {[sorted(tensors) for tensors in tokens.values()]}"
        )
    tensors = indexed[0]
    token_ids = tensors["token_ids"]
    type_ids = tensors.get("type_ids")
    return TokenBatch.from_padded(
        token_ids,
        tensors["mask"].bool(),
        torch.zeros_like(token_ids) if type_ids is None else type_ids,
    )
