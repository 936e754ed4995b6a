"""Checks of the files of an archive: would reading them run code, or reach outside of it?

Without AllenNLP: the config, and the pretrained model's configuration and tokenizer.
"""

from pathlib import Path
from typing import Any, Dict, List

from sledgehammer_allennlp.archives.contents import dictionary_in, find_weights, read_json
from sledgehammer_allennlp.archives.model_sizes import check_model_sizes
from sledgehammer_allennlp.archives.names import model_name_problem, name_problem, path_problem
from sledgehammer_allennlp.archives.tokenizer_files import check_tokenizer_sizes
from sledgehammer_allennlp.encoders.archived_files import StrPath, archived_folder
from sledgehammer_allennlp.encoders.families import FAMILIES
from sledgehammer_allennlp.values import short_repr

TOKENIZERS = {
    "AlbertTokenizer",
    "BertJapaneseTokenizer",
    "BertTokenizer",
    "BertweetTokenizer",
    "CamembertTokenizer",
    "DebertaV2Tokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "GPT2Tokenizer",
    "HerbertTokenizer",
    "MPNetTokenizer",
    "PhobertTokenizer",
    "PreTrainedTokenizer",
    "RobertaTokenizer",
    "TokenizersBackend",
    "XLMRobertaTokenizer",
}
"""Tokenizers, each also with "Fast" at its end, that read text files and never unpickle."""

TOKENIZER_SETTINGS = {
    "add_prefix_space",
    "additional_special_tokens",
    "bos_token",
    "clean_up_tokenization_spaces",
    "cls_token",
    "do_basic_tokenize",
    "do_lower_case",
    "eos_token",
    "keep_accents",
    "mask_token",
    "max_len",
    "model_max_length",
    "never_split",
    "pad_token",
    "padding_side",
    "revision",
    "sep_token",
    "strip_accents",
    "tokenize_chinese_chars",
    "truncation_side",
    "unk_token",
    "use_fast",
}
"""What `tokenizer_kwargs` may set: nothing that names a file, a class or a place in the network."""

MAX_VOCABULARY_BYTES = 64 << 20
"""Of a file of labels or other words."""

_CODE_KEYS = ("auto_map", "custom_pipelines", "quantization_config")
"""With these the library would import code that the archive names, or other packages."""

_ATTENTION = (None, "eager", "sdpa")
"""How a model may compute attention; by other names the library fetches programs from the hub."""

_FILE_KEYS = ("configuration_files", "vocab_file", "merges_file", "tokenizer_file")
"""With these the library would read other files than were checked."""


def check_contents(folder: Path, config: Dict[str, Any]) -> List[str]:
    """What is wrong with an archive's files, apart from those of pretrained models."""
    problems = _check_vocabulary(folder) + _check_meta(folder)
    reason = name_problem(_label_namespace(config))
    if reason:
        problems.append(
            f"config key model.label_namespace is {short_repr(_label_namespace(config))}, which "
            f"{reason} as a file: wanted a name without separators"
        )
    included = config.get("include_in_archive") or []
    if not isinstance(included, list):
        problems.append(
            f"config key include_in_archive is {short_repr(included)}: wanted a list of names"
        )
        included = []
    for name in included:
        reason = path_problem(name)
        if reason:
            problems.append(
                f"config key include_in_archive has {short_repr(name)}, which {reason}: wanted "
                "paths inside of the archive"
            )
    return problems + _check_sizes(folder, config)


def _check_vocabulary(folder: Path) -> List[str]:
    vocabulary = folder / "vocabulary"
    if vocabulary.exists() and not vocabulary.is_dir():
        return ["'vocabulary' is a file, which would be unpacked: wanted a folder"]
    return [
        f"its vocabulary/{file.name} has {file.stat().st_size:,} bytes: wanted at most "
        f"{MAX_VOCABULARY_BYTES:,}"
        for file in (sorted(vocabulary.iterdir()) if vocabulary.exists() else ())
        if file.is_file() and file.stat().st_size > MAX_VOCABULARY_BYTES
    ]


def _check_meta(folder: Path) -> List[str]:
    """Of AllenNLP's `meta.json`, which it parses without a look."""
    if not (folder / "meta.json").exists():
        return []
    try:
        meta = read_json(folder / "meta.json")
    except ValueError as error:
        return [str(error)]
    version = meta.get("version")
    is_one = isinstance(version, str) and len(version) < 100 and version.count(".") >= 2
    if set(meta) != {"version"} or not is_one:
        return [f"its meta.json has {short_repr(meta)}: wanted a version and nothing else"]
    return []


def _check_sizes(folder: Path, config: Dict[str, Any]) -> List[str]:
    """Whether the model is as large as its weights; what cannot be read is reported elsewhere."""
    try:
        settings = dictionary_in(config, "model")
        name = settings.get("transformer_model")
        if model_name_problem(name):
            return []
        transformer = read_json(archived_folder(str(name), folder) / "config.json")
        num_bytes = find_weights(folder).stat().st_size
    except ValueError:
        return []
    return check_model_sizes(transformer, settings, num_bytes, _num_labels(folder, config))


def _num_labels(folder: Path, config: Dict[str, Any]) -> int:
    """How many names of labels there are."""
    namespace = _label_namespace(config)
    file = folder / "vocabulary" / f"{namespace}.txt"
    if name_problem(namespace) or not file.is_file():
        return 0
    with open(file, "rb") as lines:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 20), b""))


def _label_namespace(config: Dict[str, Any]) -> Any:
    model = config.get("model")
    return model.get("label_namespace", "labels") if isinstance(model, dict) else "labels"


def check_model_files(transformer_model: StrPath, folder: Path) -> List[str]:
    """What is wrong with the archived configuration of a pretrained model."""
    return _check_files(transformer_model, folder, "config.json")


def check_tokenizer_files(transformer_model: StrPath, folder: Path) -> List[str]:
    """What is wrong with the archived tokenizer of a pretrained model."""
    problems = _check_files(transformer_model, folder, "tokenizer_config.json")
    if problems:
        return problems
    files = archived_folder(transformer_model, folder)
    vocab_size = None
    if (files / "config.json").is_file():
        vocab_size = read_json(files / "config.json").get("vocab_size")
    return check_tokenizer_sizes(files, vocab_size if isinstance(vocab_size, int) else None)


def _check_files(transformer_model: StrPath, folder: Path, needed: str) -> List[str]:
    reason = model_name_problem(transformer_model)
    if reason:
        return [f"the pretrained model {short_repr(transformer_model)} {reason}: wanted a name"]
    files = archived_folder(transformer_model, folder)
    if not (files / needed).is_file():
        return [
            f"it has no {needed} of '{transformer_model}', which would be read from the hub or "
            "from elsewhere on this machine"
        ]
    problems = []
    for name in ("config.json", "tokenizer_config.json"):
        if (files / name).is_file():
            try:
                problems += _check_settings(read_json(files / name), name)
            except ValueError as error:
                problems.append(str(error))
    return problems


def _check_settings(settings: Dict[str, Any], file: str) -> List[str]:
    where = f"the pretrained model's {file} has the key"
    problems = [
        f"{where} {key} with {short_repr(settings[key])}, which names code to run: wanted none"
        for key in _CODE_KEYS
        if settings.get(key)
    ]
    problems += [
        f"{where} {key} with {short_repr(settings[key])}, which names another file: wanted none"
        for key in _FILE_KEYS
        if settings.get(key)
    ]
    problems += [
        f"{where} {key} with {short_repr(settings[key])}, for which a program may be fetched: "
        "wanted eager or sdpa"
        for key in ("attn_implementation", "_attn_implementation")
        if settings.get(key) not in _ATTENTION
    ]
    tokenizer = settings.get("tokenizer_class")
    if isinstance(tokenizer, (list, tuple, dict)) or (
        tokenizer is not None and _without_fast(str(tokenizer)) not in TOKENIZERS
    ):
        problems.append(
            f"{where} tokenizer_class with {short_repr(tokenizer)}, which may run code: "
            f"wanted one of {', '.join(sorted(TOKENIZERS))}"
        )
    if file == "config.json" and str(settings.get("model_type")) not in FAMILIES:
        problems.append(
            f"{where} model_type with {short_repr(settings.get('model_type'))}: wanted one of "
            f"{', '.join(sorted(FAMILIES))}"
        )
    return problems


def _without_fast(name: str) -> str:
    return name[: -len("Fast")] if name.endswith("Fast") else name


def check_tokenizer_kwargs(kwargs: Any, key: str) -> List[str]:
    """What is wrong with the `tokenizer_kwargs` of a config, at some key of it."""
    if not kwargs:
        return []
    if not isinstance(kwargs, dict):
        return [f"config key {key} is {short_repr(kwargs)}: wanted a dictionary"]
    problems = []
    for name, value in kwargs.items():
        if name == "trust_remote_code" and value is False:
            continue
        parts = value if isinstance(value, list) else [value]
        is_plain = all(part is None or isinstance(part, (str, int, float)) for part in parts)
        if name not in TOKENIZER_SETTINGS or not is_plain:
            problems.append(
                f"config key {key}.{name} is {short_repr(value)}, which may run code or "
                f"read files: wanted only {', '.join(sorted(TOKENIZER_SETTINGS))}"
            )
    return problems
