// Sentiment of long movie reviews, 2 labels.
(import 'multi_exit.libsonnet') + {
  dataset:: 'imdb',
  max_length:: 512,
}
