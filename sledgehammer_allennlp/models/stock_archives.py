"""
Has AllenNLP's `load_archive`, as of `predict` and `evaluate`, unpack archives into temporary
folders of ours: of a process that was killed, the next one removes them. AllenNLP's stay forever.
"""

import logging
import shutil
import tarfile
from contextlib import contextmanager
from functools import wraps
from os import PathLike
from typing import Iterator, Union

from allennlp.models import archival

from sledgehammer_allennlp.files import new_temporary_folder

logger = logging.getLogger(__name__)


@wraps(archival.extracted_archive)
@contextmanager
def _extracted_archive(
    resolved_archive_file: Union[str, "PathLike[str]"], cleanup: bool = True
) -> Iterator[str]:
    folder = new_temporary_folder()
    try:
        logger.info("extracting archive file %s to temp dir %s", resolved_archive_file, folder)
        with tarfile.open(resolved_archive_file, "r:gz") as archive:
            archive.extractall(folder)
        yield str(folder)
    except BaseException:
        # Whoever asks for no cleanup removes the folder by its name, which it does not get then.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if cleanup:
            shutil.rmtree(folder, ignore_errors=True)


# The function has no setting for it. What is unpacked, and how, stays AllenNLP's.
archival.extracted_archive = _extracted_archive
