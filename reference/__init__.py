"""The attention seq2seq model of "Deep Learning from Scratch 2" in NumPy, with hand-written gradients.

``__all__`` lists the twins: exactly the names that ``torch_port`` has too.
"""

from .affine import Affine, TimeAffine
from .attention import Attention, AttentionWeight, TimeAttention, WeightSum
from .attention_seq2seq import AttentionDecoder, AttentionEncoder, AttentionSeq2seq
from .data import load_data as load_data
from .data import write_dates as write_dates
from .dropout import TimeDropout
from .embedding import Embedding, TimeEmbedding
from .gru import GRU, TimeGRU
from .layer_norm import LayerNorm
from .loss import SoftmaxWithLoss, TimeSoftmaxWithLoss
from .lstm import LSTM, TimeBiLSTM, TimeLSTM
from .multi_head_attention import MultiHeadAttention
from .optimizers import SGD, Adam, clip_grads
from .positional_embedding import PositionalEmbedding
from .rnn import RNN, TimeRNN
from .seq2seq import Decoder, Encoder, PeekyDecoder, PeekySeq2seq, Seq2seq
from .softmax import Softmax
from .trainer import Trainer as Trainer
from .trainer import eval_seq2seq as eval_seq2seq
from .weights import load_params as load_params
from .weights import save_params as save_params

__all__ = [
    "Softmax",
    "Affine",
    "Embedding",
    "SoftmaxWithLoss",
    "RNN",
    "LSTM",
    "GRU",
    "TimeRNN",
    "TimeLSTM",
    "TimeGRU",
    "TimeBiLSTM",
    "TimeEmbedding",
    "TimeAffine",
    "TimeDropout",
    "TimeSoftmaxWithLoss",
    "WeightSum",
    "AttentionWeight",
    "Attention",
    "TimeAttention",
    "LayerNorm",
    "PositionalEmbedding",
    "MultiHeadAttention",
    "Encoder",
    "Decoder",
    "PeekyDecoder",
    "Seq2seq",
    "PeekySeq2seq",
    "AttentionEncoder",
    "AttentionDecoder",
    "AttentionSeq2seq",
    "SGD",
    "Adam",
    "clip_grads",
]
