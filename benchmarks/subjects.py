"""What is compared: the engine, and what a user would take instead, with the same weights."""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, BertConfig

from sledgehammer_allennlp.archives import ArchivedClassifier, load_archived_classifier
from sledgehammer_allennlp.encoders import LayeredEncoder, TokenBatch
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.engine import EarlyExitOutput, cost_of_exits
from sledgehammer_allennlp.engine.costs import share_for_tokens
from sledgehammer_allennlp.engine.exit_decisions import ExitDecisions
from sledgehammer_allennlp.exits import AtExit, ExitClassifiers
from sledgehammer_allennlp.exits.confidence import ConfidenceMeasure
from sledgehammer_allennlp.exits.pair_texts import SpecialTokens
from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.pair_classifier import PairClassifier

Texts = List[TokenBatch]
"""One batch after the other."""

SPECIAL_TOKENS = SpecialTokens(101, 102, 1, True)
"""Of BERT."""

MINILM: Dict[str, Any] = dict(
    hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
)
"""The sizes of a small model."""

ARCHIVE = "runs/movie_reviews/model.tar.gz"
DATA = "data/movie_reviews/test.tsv"


def add_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """What all benchmarks have in common."""
    parser.add_argument(
        "--archive", default=ARCHIVE, help=f"a trained model, by default the demo's, {ARCHIVE}"
    )
    parser.add_argument("--data", default=DATA, help=f"label<TAB>text lines, by default {DATA}")
    parser.add_argument("--max-texts", type=int, default=512, help="the first of the data")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each, at least 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", default=output, help=f"JSON, by default {output}")


def read_archive(arguments: argparse.Namespace) -> ArchivedClassifier:
    """The trained model; says what to do if there is none."""
    if not Path(arguments.archive).exists():
        raise SystemExit(f"There is no {arguments.archive}: run make demo first, or --archive FILE")
    return load_archived_classifier(arguments.archive, device=arguments.device)


def read_data(
    arguments: argparse.Namespace, classifier: ArchivedClassifier
) -> Tuple[TokenBatch, torch.Tensor]:
    """The texts' tokens, and their labels, `(num_texts,)`."""
    if not Path(arguments.data).exists():
        raise SystemExit(f"There is no {arguments.data}: run make demo first, or --data FILE")
    lines = Path(arguments.data).read_text(encoding="utf-8").splitlines()[: arguments.max_texts]
    labels, *texts = zip(*(line.split("\t") for line in lines))
    if classifier.tokenizer is None:
        raise SystemExit(f"{arguments.archive} has no tokenizer")
    second_texts = texts[1] if len(texts) > 1 else None
    tokens = tokenize(classifier.tokenizer, texts[0], second_texts, classifier.max_length)
    return tokens, torch.tensor([classifier.labels.index(label) for label in labels])


def random_classifier(
    exit_layers: List[int],
    device: str,
    with_ngrams: bool = False,
    alignment: Optional[int] = None,
    **sizes: int,
) -> ArchivedClassifier:
    """
    A BERT of base size, unless `sizes` say otherwise, with random weights and exits, the first
    over n-grams or not; for pairs, with an `alignment`.
    """
    torch.manual_seed(0)
    config = BertConfig(**sizes)
    transformer = AutoModel.from_config(config)
    encoder = LayeredEncoder(transformer, keep_pooler=False)
    ngrams = random_ngrams() if with_ngrams else None
    exits = ExitClassifiers(
        exit_layers,
        config.hidden_size,
        2,
        "mean",
        dropout=0.1,
        ngrams=ngrams,
        alignment=alignment,
    )
    if exits.pair_texts is not None:
        exits.pair_texts.set_special_tokens(SPECIAL_TOKENS)
    return ArchivedClassifier(encoder, exits, ["0", "1"]).eval().to(device)


def random_ngrams(compares_pairs: bool = False) -> NgramClassifier:
    """An exit over n-grams with random weights for 2 labels; one that compares pairs or not."""
    generator = torch.Generator().manual_seed(0)
    ngrams, pairs = NgramClassifier(num_labels=2), None
    if compares_pairs:
        vectors = torch.randint(-127, 128, (30522, 128), dtype=torch.int8, generator=generator)
        pairs = PairClassifier(vectors, torch.arange(1000, 1060), 2)
        for weights in (pairs.table, pairs.weight):
            weights.copy_(torch.rand(weights.shape, generator=generator))
    ngrams.set_special_tokens(SPECIAL_TOKENS.first, SPECIAL_TOKENS.separator, compares_pairs)
    ngrams.set_fitted(torch.rand(ngrams.table.shape, generator=generator), torch.zeros(2), pairs)
    return ngrams


def random_texts(num_texts: int, num_tokens: int) -> TokenBatch:
    """Texts of one length."""
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(1000, 30000, (num_texts, num_tokens), generator=generator)
    return TokenBatch.from_padded(token_ids, torch.ones_like(token_ids) > 0, token_ids * 0)


def random_pairs(num_pairs: int, num_tokens: int) -> TokenBatch:
    """Pairs of two texts of about one length, and what a tokenizer adds to them."""
    pairs = random_texts(num_pairs, num_tokens)
    token_ids, type_ids = (x.view(num_pairs, num_tokens) for x in (pairs.token_ids, pairs.type_ids))
    middle = num_tokens // 2
    token_ids[:, 0] = SPECIAL_TOKENS.first
    token_ids[:, [middle, -1]] = SPECIAL_TOKENS.separator
    type_ids[:, middle + 1 :] = 1
    return pairs


def batches(texts: TokenBatch, batch_size: int) -> Texts:
    """The texts by ascending length, in batches: so that padding costs nobody more than it must."""
    order = texts.lengths.sort(stable=True).indices
    return [texts.select(chosen) for chosen in order.split(batch_size)]


def padded(batch: TokenBatch) -> Dict[str, torch.Tensor]:
    """A batch as others want it."""
    rows = batch.token_ids.split(batch.lengths.tolist())
    types = batch.type_ids.split(batch.lengths.tolist())
    return {
        "input_ids": nn.utils.rnn.pad_sequence(list(rows), batch_first=True),
        "attention_mask": nn.utils.rnn.pad_sequence(
            [torch.ones_like(row) for row in rows], batch_first=True
        ),
        "token_type_ids": nn.utils.rnn.pad_sequence(list(types), batch_first=True),
    }


class FullDepth(nn.Module):
    """The transformers library's own forward, and a linear layer on the first token."""

    def __init__(self, classifier: ArchivedClassifier) -> None:
        super().__init__()
        self.transformer = classifier.encoder.transformer
        self.linear = nn.Linear(classifier.encoder.hidden_size, len(classifier.labels))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> torch.Tensor:
        hidden = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        return self.linear(hidden.last_hidden_state[:, 0])


def library_run(full_depth: FullDepth, texts: Texts, device: str) -> Callable[[], None]:
    inputs = [{name: x.to(device) for name, x in padded(batch).items()} for batch in texts]

    def run() -> None:
        with torch.inference_mode():
            for batch in inputs:
                full_depth(**batch)

    return run


class Engine:
    """Our engine over batches, at a threshold or with exits by chance."""

    def __init__(self, classifier: ArchivedClassifier, leave: Optional[float] = None) -> None:
        self.classifier = classifier
        self.chance: Optional[ChanceOfLeaving] = None
        if leave is not None:
            self.chance = ChanceOfLeaving(leave)
            classifier._measure = ConfidenceMeasure(self.chance)
            classifier.confidence_threshold = 0.5

    def outputs(self, texts: Texts, threshold: Optional[float] = None) -> Iterator[EarlyExitOutput]:
        """Of each batch."""
        if threshold is not None:
            self.classifier.confidence_threshold = threshold
        if self.chance is not None:
            self.chance.begin()
        with torch.inference_mode():
            for batch in texts:
                yield self.classifier(batch)

    def run(self, texts: Texts, threshold: Optional[float] = None) -> Callable[[], None]:
        def run() -> None:
            for _ in self.outputs(texts, threshold):
                pass

        return run

    def layer_equivalents(
        self, texts: Texts, threshold: Optional[float] = None
    ) -> Tuple[float, float]:
        """The mean cost of a text, and of a token: long texts are often hard ones, too."""
        encoder, classifiers = self.classifier.encoder, self.classifier.exits
        costs = torch.tensor(cost_of_exits(encoder, classifiers))
        if threshold == 1.0:
            # Of tokens nothing is computed for exits that the last one does not combine.
            rule = replace(self.classifier.rule(), threshold=1.0)
            decisions = ExitDecisions(classifiers, rule, record_exits=False, forced_exits=None)
            exits = range(classifiers.num_fitted, len(costs))
            costs[-1] -= sum(
                share_for_tokens(encoder, classifiers, k)
                for k in exits
                if not decisions.needs_scores_of(k)
            )
        exit_index = torch.cat([output.exit_index for output in self.outputs(texts, threshold)])
        cost = costs[exit_index.cpu()]
        lengths = torch.cat([batch.lengths for batch in texts])
        return cost.mean().item(), ((cost * lengths).sum() / lengths.sum()).item()


class ChanceOfLeaving:
    """In place of a measure of confidence: at every exit, a text leaves with the same chance."""

    def __init__(self, chance: float) -> None:
        self._chance = chance
        self._generator = torch.Generator()
        self.begin()

    def begin(self) -> None:
        self._generator.manual_seed(0)

    def __call__(self, at_exit: AtExit) -> torch.Tensor:
        leaves = torch.rand(len(at_exit.probs), generator=self._generator) < self._chance
        return leaves.to(at_exit.probs)


class OnnxRuntime:
    """`FullDepth` exported to ONNX Runtime, with its optimisations for transformers."""

    def __init__(self, full_depth: FullDepth, int8: bool) -> None:
        try:
            import onnxruntime
            from onnxruntime.quantization import QuantType, quantize_dynamic
            from onnxruntime.transformers.optimizer import optimize_model
        except ImportError as error:
            raise SystemExit(f"{error}: run this by make benchmark-engine, which installs it")
        config = full_depth.transformer.config
        with tempfile.TemporaryDirectory() as folder:
            _check_space(folder, full_depth)
            exported = str(Path(folder) / "model.onnx")
            _export(full_depth, exported)
            optimized = optimize_model(
                exported,
                model_type="bert",
                num_heads=config.num_attention_heads,
                hidden_size=config.hidden_size,
            )
            fast = str(Path(folder) / "optimized.onnx")
            optimized.save_model_to_file(fast)
            if int8:
                import onnx

                float_ = onnx.TensorProto.FLOAT
                quantized = str(Path(folder) / "int8.onnx")
                quantize_dynamic(
                    fast,
                    quantized,
                    weight_type=QuantType.QInt8,
                    extra_options={"DefaultTensorType": float_},
                )
                fast = quantized
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            self._session = onnxruntime.InferenceSession(
                fast, options, providers=["CPUExecutionProvider"]
            )
        self._inputs = [node.name for node in self._session.get_inputs()]

    def logits(self, inputs: Dict[str, np.ndarray]) -> np.ndarray:
        return self._session.run(None, {name: inputs[name] for name in self._inputs})[0]

    def run(self, texts: Texts) -> Callable[[], None]:
        inputs = [{name: x.numpy() for name, x in padded(batch).items()} for batch in texts]

        def run() -> None:
            for batch in inputs:
                self.logits(batch)

        return run


class OpenVino:
    """`FullDepth` compiled by OpenVINO, for one text at a time, in float32."""

    def __init__(self, full_depth: FullDepth) -> None:
        try:
            import openvino
        except ImportError as error:
            raise SystemExit(f"{error}: run this by make benchmark-latency, which installs it")
        model = openvino.convert_model(full_depth, example_input=padded(random_texts(1, 8)))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16, where the processor has it
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()

    def run(self, texts: Texts) -> Callable[[], None]:
        inputs = [{name: x.numpy() for name, x in padded(batch).items()} for batch in texts]

        def run() -> None:
            for batch in inputs:
                self._request.infer(batch, share_inputs=True, share_outputs=True)

        return run


def compiled_run(full_depth: FullDepth, texts: Texts) -> Callable[[], None]:
    """`FullDepth` by torch's own compiler, for the lengths of these texts, in float32."""
    import torch._inductor.config as settings

    torch._dynamo.reset()  # else what was compiled before counts to the most that may be
    settings.freezing = True  # weights are constants, laid out in advance
    compiled = torch.compile(full_depth, dynamic=False)
    inputs = [padded(batch) for batch in texts]

    def run() -> None:
        with torch.no_grad():
            for batch in inputs:
                compiled(**batch)

    run()
    return run


def _check_space(folder: str, full_depth: FullDepth) -> None:
    """ONNX Runtime does not say that a disk is full."""
    # The exported model, what ONNX Runtime makes of it, and what its optimizer makes of that.
    wanted = 3 * sum(weights.nbytes for weights in full_depth.parameters())
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise SystemExit(
            f"{Path(folder).parent} has {free / 1e6:.0f} MB free, wanted {wanted / 1e6:.0f} MB for "
            "the models of ONNX Runtime: name another folder in TMPDIR, or give --without-onnx"
        )


def _export(full_depth: FullDepth, file: str) -> None:
    example = torch.randint(full_depth.transformer.config.vocab_size, (2, 16))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    # The exporter does not know the fused attention of torch.
    attention = full_depth.transformer.config._attn_implementation
    eager = FullDepth.__new__(FullDepth)
    nn.Module.__init__(eager)
    eager.transformer = AutoModel.from_config(
        full_depth.transformer.config, attn_implementation="eager", add_pooling_layer=False
    ).eval()
    eager.transformer.load_state_dict(full_depth.transformer.state_dict())
    eager.linear = full_depth.linear
    full_depth.transformer.config._attn_implementation = attention
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        eager,
        (example, torch.ones_like(example), torch.zeros_like(example)),
        file,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={**{name: axes for name in names}, "logits": {0: "texts"}},
        opset_version=17,
        dynamo=False,
    )
