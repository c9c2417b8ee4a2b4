"""Everything that ``torch_port`` offers; ``__all__`` lists the twins: exactly the names that ``reference`` has too."""

from ._checks import index_checks as index_checks
from .affine import Affine, TimeAffine
from .attention import Attention, AttentionWeight, TimeAttention, WeightSum
from .attention_seq2seq import AttentionDecoder, AttentionEncoder, AttentionSeq2seq
from .dropout import TimeDropout
from .embedding import Embedding, TimeEmbedding
from .exported import export_model as export_model
from .exported import save_onnx as save_onnx
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
from .stock import from_stock as from_stock
from .stock import to_stock as to_stock
from .trained import TrainedModel as TrainedModel
from .trained import load_model as load_model
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
