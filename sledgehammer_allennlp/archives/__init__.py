"""Trained models of others: what is in an archive, and what is done without running any of it."""

from sledgehammer_allennlp.archives.contents import check_contents as check_contents
from sledgehammer_allennlp.archives.contents import read_config as read_config
from sledgehammer_allennlp.archives.extraction import archive_folder as archive_folder
from sledgehammer_allennlp.archives.extraction import checked_members as checked_members
