"""Trained models: checking an archive, loading it without running its code, and predicting."""

from sledgehammer_allennlp.archives.check import ArchiveCheck as ArchiveCheck
from sledgehammer_allennlp.archives.check import check_archive as check_archive
from sledgehammer_allennlp.archives.classifier import ArchivedClassifier as ArchivedClassifier
from sledgehammer_allennlp.archives.loading import (
    load_archived_classifier as load_archived_classifier,
)
