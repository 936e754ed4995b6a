// What Schwartz et al. searched, for sweep.jsonnet: three learning rates, one for all parameters,
// and dropout 0.1, in 2 epochs of batches of 72. They drew each run's seed at random; here every
// configuration is trained with the same seeds, which can be compared. Other data, say, in a file of
// your own:
//
//     (import 'training_config/sweep_space.jsonnet') + { parameters+: { DATASET: 'ag_news' } }
//
// A parameter is a value, which all runs share, or what to choose from:
//
//     { type: 'float', low: 1e-5, high: 1e-4, log: true }
//     { type: 'int', low: 2, high: 4 }
//     { type: 'categorical', choices: ['mean', 'first'] }
{
  parameters: {
    LEARNING_RATE: { type: 'categorical', choices: [2e-5, 3e-5, 5e-5] },
    DROPOUT: 0.1,
    NUM_EPOCHS: 2,
    BATCH_SIZE: 72,

    // Their model
    TRANSFORMER_MODEL: 'bert-base-uncased',
    EXIT_LAYERS: [0, 3, 5, 11],
    EMBEDDING_EXIT: null,
    POOLING: 'first',
    LOSS: 'joint',

    // As LEARNING_RATE
    EXIT_LEARNING_RATE: null,
    EMBEDDING_LEARNING_RATE: null,

    DATASET: 'sst2',
  },
  seeds: { name: 'SEED', values: [1, 2, 3] },
}
