// Topics of news items, 4 labels.
(import 'multi_exit.libsonnet') + {
  dataset:: 'ag_news',
}
