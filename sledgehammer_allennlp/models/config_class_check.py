"""What would AllenNLP call to make what an archive's config describes?

It imports any dotted name at a place where it makes an object, and among its own classes are some
that load other archives or unpickle files. So a config may name only classes that are registered
already: ours, those of packages that the user imported, and few of AllenNLP's.
"""

import collections.abc
import inspect
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Tuple, Type, Union

from allennlp.common import FromParams, Lazy, Registrable
from allennlp.common.from_params import infer_params
from allennlp.data import DataLoader, DatasetReader, Tokenizer, Vocabulary
from allennlp.evaluation import Evaluator
from allennlp.models import Model

from sledgehammer_allennlp.archives.check import ConfigCheck
from sledgehammer_allennlp.archives.safety_checks import (
    check_model_files,
    check_tokenizer_files,
    check_tokenizer_kwargs,
)
from sledgehammer_allennlp.data import ArchivedTransformerIndexer, ArchivedTransformerTokenizer
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier
from sledgehammer_allennlp.values import short_repr

MADE_WHEN_LOADED: Dict[str, Type[Registrable]] = {
    "model": Model,
    "vocabulary": Vocabulary,
    "dataset_reader": DatasetReader,
    "validation_dataset_reader": DatasetReader,
    # These by `allennlp evaluate`.
    "data_loader": DataLoader,
    "validation_data_loader": DataLoader,
    "evaluation": Evaluator,
}

NEEDED = {"model", "dataset_reader"}

ALLENNLPS = {
    "BatchSampler": {"bucket", "max_tokens_sampler"},
    "DataCollator": {"allennlp"},
    "DataLoader": {"multiprocess", "simple"},
    "DatasetReader": {"snli", "text_classification_json"},
    "Evaluator": {"simple"},
    "Regularizer": {"l1", "l2"},
    "Serializer": {"simple"},
    "TokenIndexer": {"characters", "single_id"},
    "Tokenizer": {"character", "just_spaces", "letters_digits", "whitespace"},
    # Of these only the class is used, to read the archive's own vocabulary.
    "Vocabulary": {
        "empty",
        "extend",
        "from_files",
        "from_instances",
        "from_pretrained_transformer",
    },
}
"""AllenNLP's classes that load no other archive and unpickle no file, by base class."""

MADE_BY_DEFAULT = {
    "SnliReader": {"tokenizer": (Tokenizer, "spacy")},
    "TextClassificationJsonReader": {"tokenizer": (Tokenizer, "spacy")},
}
"""What AllenNLP's classes, by name, make of other classes when a config says nothing."""

SPACY = {"segment_sentences"}
"""Settings of AllenNLP's readers for which it loads, downloads and installs a spaCy model."""

_GIVEN_BY_ALLENNLP = {"ddp_accelerator", "serialization_dir", "vocab"}
_NOT_USED_IN_ARCHIVES = {"initializer", "load_pretrained_weights"}


def check_config(config: Dict[str, Any], folder: Path) -> ConfigCheck:
    """
    # Parameters

    config : `Dict[str, Any]`
    folder : `Path`
        Of the archive, whose pretrained model's files are looked at, too.
    """
    check = _Check(folder)
    for section, base in MADE_WHEN_LOADED.items():
        if config.get(section) is None:
            if section in NEEDED:
                check.problems.append(
                    f"config key {section} is not there: wanted a {base.__name__}"
                )
        elif not isinstance(config[section], dict):
            check.problems.append(
                f"config key {section} is {short_repr(config[section])}: wanted a dictionary"
            )
        else:
            check.pretrained(config[section], section)
            check.made(config[section], base, section)
    return ConfigCheck(check.classes, check.problems)


class _Check:
    """Goes through a config as `FromParams` does, making nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.classes: Dict[str, str] = {}
        self.problems: List[str] = []

    def pretrained(self, value: Any, key: str) -> None:
        """Whatever takes it: AllenNLP loads another archive, from anywhere, for this key."""
        for name, part in _parts(value):
            if name == "_pretrained":
                self.problems.append(
                    f"config key {key}.{name} is {short_repr(part)}, which loads another archive"
                )
            self.pretrained(part, f"{key}.{name}")

    def made(self, value: Any, base: Any, key: str) -> None:
        """An object of a registered class."""
        settings: Dict[str, Any] = {"type": value} if isinstance(value, str) else value
        if not isinstance(settings, dict):
            return  # of which nothing can be made
        name = settings.get("type", base.default_implementation)
        registry = Registrable._registry[base]
        if not isinstance(name, str) or name not in registry:
            self.problems.append(
                f"config key {key}.type is {short_repr(name)}, which "
                + ("is imported and called" if "." in str(name) else "is unknown")
                + f": wanted a registered {base.__name__}; classes of your own are registered by "
                "--include-package or .allennlp_plugins"
            )
            return
        kind, constructor = registry[name]
        self.classes[key] = f"{name} ({kind.__module__}.{kind.__qualname__})"
        is_allennlps = kind.__module__.split(".")[0] in ("allennlp", "allennlp_models")
        if base is Model and not (inspect.isclass(kind) and issubclass(kind, MultiExitClassifier)):
            loads = ""
            if name == "from_archive":
                loads = f", which loads another archive, {short_repr(settings.get('archive_file'))}"
            self.problems.append(
                f"config key {key}.type is {short_repr(name)}{loads}: wanted multi_exit_classifier"
            )
        elif is_allennlps and name not in ALLENNLPS.get(base.__name__, ()):
            known = ", ".join(sorted(ALLENNLPS.get(base.__name__, ()))) or "none"
            self.problems.append(
                f"config key {key}.type is {short_repr(name)}, of AllenNLP, which may read "
                f"other files or download a model: of its classes wanted {known} as {base.__name__}"
            )
        elif base is not Vocabulary:
            maker = getattr(kind, constructor or "__init__")
            self.settings(settings, kind, maker, key)
            self.defaults(settings, kind, key)

    def defaults(self, settings: Dict[str, Any], kind: Any, key: str) -> None:
        """What AllenNLP's class, or one that is made of it, makes where nothing is given."""
        for parent in inspect.getmro(kind) if inspect.isclass(kind) else ():
            for name, (base, type_) in MADE_BY_DEFAULT.get(parent.__name__, {}).items():
                if settings.get(name) is None:
                    self.made({"type": type_}, base, f"{key}.{name}")

    def settings(self, settings: Dict[str, Any], kind: Any, maker: Any, key: str) -> None:
        """What a class is given."""
        try:
            parameters: Mapping[str, inspect.Parameter] = infer_params(kind, maker)
        except (TypeError, ValueError):
            parameters = {}
        is_model = inspect.isclass(kind) and issubclass(kind, MultiExitClassifier)
        for name, value in settings.items():
            where = f"{key}.{name}"
            if name == "type" or (is_model and name in _NOT_USED_IN_ARCHIVES):
                continue
            if name in _GIVEN_BY_ALLENNLP:
                self.problems.append(
                    f"config key {where} is {short_repr(value)}, which AllenNLP gives by "
                    "itself: wanted none"
                )
            elif name in SPACY and value:
                self.problems.append(
                    f"config key {where} is {short_repr(value)}, for which AllenNLP downloads and "
                    "installs a spaCy model: wanted false"
                )
            elif name == "tokenizer_kwargs":
                self.problems += check_tokenizer_kwargs(value, where)
            else:
                annotation = parameters[name].annotation if name in parameters else Any
                self.value(value, annotation, where)
        if is_model and "transformer_model" in settings:
            self.problems += check_model_files(str(settings["transformer_model"]), self.folder)
        elif kind in (ArchivedTransformerTokenizer, ArchivedTransformerIndexer):
            self.files(settings.get("model_name"))

    def files(self, model_name: Any) -> None:
        for problem in check_tokenizer_files(str(model_name), self.folder):
            if problem not in self.problems:
                self.problems.append(problem)

    def value(self, value: Any, annotation: Any, key: str) -> None:
        """Checks the value of a parameter against the parameter's annotation."""
        origin = getattr(annotation, "__origin__", None)
        arguments: Tuple[Any, ...] = getattr(annotation, "__args__", ())
        if origin in (Union, Lazy):
            for argument in arguments:
                self.value(value, argument, key)
        elif origin is not None and inspect.isclass(origin) and not hasattr(origin, "from_params"):
            if issubclass(origin, collections.abc.Mapping):
                arguments = arguments[-1:]
            has_places = issubclass(origin, tuple) and arguments[-1:] != (...,)
            for place, (name, part) in enumerate(_parts(value)):
                of_part = arguments[place : place + 1] if has_places else arguments
                for argument in of_part or (Any,):
                    self.value(part, argument, f"{key}.{name}")
        elif inspect.isclass(annotation) and issubclass(annotation, FromParams):
            if annotation in Registrable._registry:
                self.made(value, annotation, key)
            elif isinstance(value, dict):
                self.settings(value, annotation, annotation.__init__, key)
        elif annotation is not str:
            self.dotted(value, key)

    def dotted(self, value: Any, key: str) -> None:
        """What a class is given as it is, of which it may still make objects."""
        for name, part in _parts(value):
            if name == "type" and "." in str(part):
                self.problems.append(
                    f"config key {key}.type is {short_repr(part)}, which may be imported"
                )
            self.dotted(part, f"{key}.{name}")


def _parts(value: Any) -> Iterable[Tuple[str, Any]]:
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, list):
        return ((str(number), part) for number, part in enumerate(value))
    return ()
