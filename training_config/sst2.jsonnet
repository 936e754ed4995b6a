// Sentiment of movie reviews, 2 labels.
(import 'multi_exit.libsonnet') + {
  dataset:: 'sst2',
}
