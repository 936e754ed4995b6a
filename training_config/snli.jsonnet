// Natural language inference on image captions: pairs, 3 labels.
(import 'multi_exit.libsonnet') + {
  dataset:: 'snli',
  alignment:: 128,
}
