// The demo: sentences of movie reviews, 2 labels, with a 6-layer MiniLM. `make demo` prepares data and model.
(import 'multi_exit.libsonnet') + {
  dataset:: 'movie_reviews',
  transformer_model:: 'data/minilm',
  exit_layers:: 'all',
  batch_size:: 32,
  num_epochs:: 3,
}
