"""A pretrained transformer that runs one layer at a time."""

from sledgehammer_allennlp.encoders.families import FAMILIES as FAMILIES
from sledgehammer_allennlp.encoders.layered_encoder import LayeredEncoder as LayeredEncoder
from sledgehammer_allennlp.encoders.loading import load_encoder as load_encoder
from sledgehammer_allennlp.encoders.token_batch import TokenBatch as TokenBatch
