// Natural language inference in many genres: pairs, 3 labels.
(import 'multi_exit.libsonnet') + {
  dataset:: 'mnli',
  alignment:: 128,
}
