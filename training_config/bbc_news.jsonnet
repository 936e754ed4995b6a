// The demo: BBC News, 5 topics, with a 6-layer MiniLM. `make demo` prepares data and model.
(import 'multi_exit.libsonnet') + {
  dataset:: 'bbc_news',
  transformer_model:: 'data/minilm',
  exit_layers:: 'all',
  batch_size:: 32,
}
