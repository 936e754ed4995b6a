// One run of a sweep. What is searched comes from outside, by name: `allennlp sweep` gives each run
// the values of its search space (sweep_space.jsonnet), and anyone else can by the environment:
//
//     DATASET=sst2 LEARNING_RATE=2e-5 ... allennlp train training_config/sweep.jsonnet -s runs/one
//
// All names are needed, but for those of settings that a file of your own sets:
//
//     (import 'training_config/sweep.jsonnet') + { dataset:: 'mine', pooling:: 'mean' }
//
// (such a name must then not be in the search space either: `parameters+: { POOLING:: null }` takes it
// out of an imported one), and one may add others: { confidence:: std.extVar('CONFIDENCE') }.
//
// Values arrive as text. EXIT_LAYERS is a list or all; LOSS is a name, and EMBEDDING_EXIT ngrams, mean or
// null, or either JSON with settings; EXIT_LEARNING_RATE and EMBEDDING_LEARNING_RATE are null for that
// of LEARNING_RATE.
local number(name) = std.parseJson(std.extVar(name));
local number_or(name, otherwise) = if std.extVar(name) == 'null' then otherwise else number(name);
local word_or_json(name) =
  local text = std.extVar(name);
  local is_json = text == 'null' || std.member('[{', std.substr(text, 0, 1));
  if is_json then std.parseJson(text) else text;

(import 'multi_exit.libsonnet') + {
  dataset:: std.extVar('DATASET'),

  transformer_model:: std.extVar('TRANSFORMER_MODEL'),
  exit_layers:: word_or_json('EXIT_LAYERS'),
  embedding_exit:: word_or_json('EMBEDDING_EXIT'),
  pooling:: std.extVar('POOLING'),
  dropout:: number('DROPOUT'),
  combine_exits:: false,  // temperatures, as theirs; a file of your own can set it

  loss:: word_or_json('LOSS'),
  num_epochs:: std.parseInt(std.extVar('NUM_EPOCHS')),
  batch_size:: std.parseInt(std.extVar('BATCH_SIZE')),
  learning_rate:: number('LEARNING_RATE'),
  exit_learning_rate:: number_or('EXIT_LEARNING_RATE', self.learning_rate),
  embedding_learning_rate:: number_or('EMBEDDING_LEARNING_RATE', self.learning_rate),
  seed:: std.parseInt(std.extVar('SEED')),
}
