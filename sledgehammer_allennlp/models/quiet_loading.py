"""Loading an archive without a line for every setting and every parameter of it."""

import logging
from contextlib import contextmanager
from typing import Iterator

_LISTS = ("allennlp.common.params", "allennlp.nn.initializers")


@contextmanager
def without_lists_of_settings() -> Iterator[None]:
    """AllenNLP does not list what it loads meanwhile."""
    loggers = [logging.getLogger(name) for name in _LISTS]
    were_disabled = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was_disabled in zip(loggers, were_disabled):
            logger.disabled = was_disabled
