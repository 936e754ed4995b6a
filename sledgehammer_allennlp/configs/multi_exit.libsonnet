// All settings of a training run. Every `::` field is a setting; a config sets what differs:
//
//     (import 'multi_exit.libsonnet') + { dataset:: 'sst2', num_epochs:: 3 }
//
// and so can another, one import further:
//
//     (import 'sst2.jsonnet') + { transformer_model:: 'bert-large-uncased', exit_layers:: [0, 7, 15, 23] }
//
// `python -m sledgehammer_allennlp new-config` writes such a config for your data.
//
// The exits' layers, batch size, epochs, learning rate and dropout are those of Schwartz et al. 2020,
// who tried 2e-5, 3e-5 and 5e-5. With pooling 'first' and embedding_exit null, so is the model.
{
  // The data

  // Which folder of `data/`.
  dataset:: error 'an experiment must set dataset',
  // Where `train.tsv` and `dev.tsv` are.
  data_folder:: 'data/' + self.dataset,

  // The model

  // A Hugging Face name, or a local folder.
  transformer_model:: 'bert-base-uncased',
  // The layers after which there is an exit, counted from 0; or 'all'.
  exit_layers:: [0, 3, 5, 11],
  // An exit before the first layer, over n-grams of word pieces; or 'mean', on the mean of the
  // embeddings; or null for none; or with settings, `{ type: 'ngrams', max_n: 3 }`.
  embedding_exit:: 'ngrams',
  // What exits see: means over all tokens; or 'first', the first tokens, as in the paper.
  pooling:: 'mean',
  // What the last exit sees in place of means: its layer's first token alone; or null for the same.
  last_exit:: 'first_token',
  // Whether exits see the logits of the exits before them.
  use_previous_logits:: false,
  // For pairs: the size of the alignment of their texts in the exits, 128 say; null for none.
  alignment:: null,
  // With pooling 'mean' and no alignment: the number of features of each token, of which exits see
  // mean and maximum, but for a last exit that sees its first token alone; null for none.
  token_features:: 128,
  // The measure of confidence; or 'entropy', 'margin', 'patience', 'learned'.
  confidence:: 'max_probability',
  // In the exits.
  dropout:: 0.1,
  // In word pieces. Longer texts are truncated, of a pair the longer first; each command says at its
  // end how many were.
  max_length:: 128,
  // For single texts that are longer than the model takes: `{ size: 256, stride: 128 }` reads them in
  // windows of so many word pieces until the classifier is sure; max_length is then how much is read.
  windows:: null,

  // The training

  // What it minimises: the sum of the exits' losses; or 'weighted' (later exits' with larger weights),
  // 'sampled', 'self_distillation', 'two_stage', 'alternating'.
  loss:: 'joint',
  // Whether the transformer is trained, or the exits alone; or `{ from_layer: 6 }`, its layers from
  // there on.
  trainable:: true,
  // At least 400 steps in all are advised: the number of texts by batch_size, times num_epochs.
  num_epochs:: 2,
  // In texts.
  batch_size:: 72,
  // Of the transformer's layers.
  learning_rate:: 5e-5,
  // Of its embeddings.
  embedding_learning_rate:: 1e-4,
  // Of the exits.
  exit_learning_rate:: 2e-3,
  // The share of all steps in which learning rates rise; then they fall linearly.
  warmup_share:: 0.1,
  // Of all random numbers.
  seed:: 13370,

  // The calibration

  // If a share, 0.01 for one point: the archive's default threshold is the fastest that loses at
  // most so much accuracy on the dev data.
  max_accuracy_drop:: null,
  // In its place: the fastest at which no label loses more than such a share of its recall.
  max_recall_drop:: null,
  // Exits are calibrated by their own logits and those of the exits before them, with weights fitted
  // on the dev data; the paper's way, each by a temperature of its own: false.
  combine_exits:: true,

  local settings = self,
  local known = std.set([
    'dataset', 'data_folder', 'transformer_model', 'exit_layers', 'embedding_exit', 'pooling',
    'last_exit', 'use_previous_logits', 'alignment', 'token_features', 'confidence', 'dropout',
    'max_length', 'windows', 'loss', 'trainable',
    'num_epochs', 'batch_size', 'learning_rate', 'embedding_learning_rate', 'exit_learning_rate',
    'warmup_share', 'seed', 'max_accuracy_drop', 'max_recall_drop', 'combine_exits',
  ]),
  local hidden = std.setDiff(std.objectFieldsAll(self), std.objectFields(self)),
  local unknown = std.setDiff(hidden, known),
  assert std.length(unknown) == 0 :
         'no such setting: ' + std.join(', ', unknown) + ': wanted one of ' + std.join(', ', known),
  local objective = if std.isObject(self.loss) then self.loss.type else self.loss,
  local loader(batch_size) = {
    batch_sampler: {
      type: 'bucket',
      batch_size: batch_size,
      sorting_keys: ['tokens'],
    },
  },

  random_seed: settings.seed,
  numpy_seed: settings.seed,
  pytorch_seed: settings.seed,
  train_data_path: settings.data_folder + '/train.tsv',
  validation_data_path: settings.data_folder + '/dev.tsv',
  dataset_reader: {
    type: 'labeled_tsv',
    tokenizer: {
      type: 'pretrained_transformer',
      model_name: settings.transformer_model,
      max_length: settings.max_length,
    },
  },
  model: {
    type: 'multi_exit_classifier',
    transformer_model: settings.transformer_model,
    exit_layers: settings.exit_layers,
    embedding_exit: settings.embedding_exit,
    pooling: settings.pooling,
    last_exit: if settings.pooling == 'mean' then settings.last_exit else null,
    use_previous_logits: settings.use_previous_logits,
    alignment: settings.alignment,
    token_features:
      if settings.pooling == 'mean' && settings.alignment == null then settings.token_features
      else null,
    confidence: settings.confidence,
    dropout: settings.dropout,
    windows: settings.windows,
    loss: settings.loss,
    trainable: settings.trainable,
  },
  data_loader: loader(settings.batch_size),
  validation_data_loader: loader(128),
  trainer: {
    num_epochs: settings.num_epochs,
    // The best epoch is that of the best last exit and of the best exits: by the last exit alone, it
    // can be one in which the others have not learned enough. With two_stage the last exit's accuracy
    // does not change in the second stage.
    validation_metric:
      if objective == 'two_stage' then '+mean_exit_accuracy'
      else ['+accuracy', '+mean_exit_accuracy'],
    grad_norm: 1.0,
    optimizer: {
      type: 'fused_adamw',
      lr: settings.learning_rate,
      weight_decay: 0.01,
      parameter_groups: [
        // The exits' own parameters are new and learn faster than the pretrained ones.
        [['^exits\\.'], { lr: settings.exit_learning_rate }],
      ] + (
        // The first exits see hardly more than the embeddings; each word's is trained by few texts.
        if settings.trainable == true || settings.trainable == { from_layer: 0 }
        then [[['^encoder\\.transformer\\.embeddings\\.'], { lr: settings.embedding_learning_rate }]]
        else []
      ),
    },
    learning_rate_scheduler: {
      type: 'slanted_triangular',
      cut_frac: settings.warmup_share,
    },
    checkpointer: { type: 'crash_safe' },
    callbacks: [{
      type: 'temperature_calibration',
      max_accuracy_drop: settings.max_accuracy_drop,
      max_recall_drop: settings.max_recall_drop,
      combine_exits: settings.combine_exits,
    }],
  },
  // With --predictions-output-file, `allennlp evaluate` writes a line for each text.
  evaluation: { batch_serializer: 'instances' },
  include_in_archive: ['calibration.json', 'model_card.md'],
}
