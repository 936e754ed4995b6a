// The settings that all configs of this folder share, and yours can: it is part of the package.
import '../sledgehammer_allennlp/configs/multi_exit.libsonnet'
