"""The linear classifier before the transformer: its features and its fit."""

from sledgehammer_allennlp.ngrams.classifier import NgramClassifier as NgramClassifier
