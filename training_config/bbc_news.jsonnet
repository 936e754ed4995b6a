// BBC News, 5 topics, with a 6-layer MiniLM: `python scripts/prepare_demo.py bbc_news minilm` prepares data and model.
(import 'multi_exit.libsonnet') + {
  dataset:: 'bbc_news',
  transformer_model:: 'data/minilm',
  exit_layers:: 'all',
  batch_size:: 32,
  // 414 steps. Of 92, in 2 epochs, the exits after the layers learn less.
  num_epochs:: 9,
}
