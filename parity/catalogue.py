"""The catalogue: every layer that exists on both sides, and the only place that names both."""

from .ours import ours
from .spec.spec import Spec
from .variants import ResetAfterGRU, ResetAfterTimeGRU

reference = ours("reference")
EDGES = ("nonfinite",)
LOGITS = ("extreme", *EDGES)
GATES = ("saturated", *EDGES)
IDS = ("duplicates", *EDGES)
AT_LEAST_TWO = (2, 3, 4, 6)
RESET_AFTER = "the reset gate is applied after the matrix product, as in torch.nn.GRU"


def _entry(name, **fields):
    return Spec(name=name, reference=getattr(reference, name), port=f"torch_port:{name}", **fields)


def _cell(name, gates, states, **fields):
    n = len(gates) or ""
    return _entry(
        name,
        params={"Wx": f"D {n}H", "Wh": f"H {n}H", "b": f"{n}H"},
        recurrent=("Wh",),
        gates=gates,
        patterns=GATES,
        **(
            {"inputs": {"xs": "N T D"}, "outputs": {"hs": "N T H"}, "states": dict.fromkeys(states, "N H"),
             "options": {"stateful": (False, True)}, "time": "T"}
            if fields.pop("time", False)
            else {"inputs": {"x": "N D"} | {f"{s}_prev": "N H" for s in states},
                  "outputs": {f"{s}_next": "N H" for s in states}}
        ),
        **fields,
    )


def _model(name, **fields):
    fields.setdefault("patterns", IDS)
    return _entry(name, sizes="V D H", recurrent=("encoder.lstm.Wh", "decoder.lstm.Wh", "lstm.Wh"), extreme=1e1,
                  **fields)


MASK = {"mask": "bool N T"}
_SEQ2SEQ: dict = {
    "inputs": {"xs": "int N T", "ts": "int N U"} | MASK,
    "optional": ("mask",),
    "labels": "ts",
    "bounds": {"xs": "V", "ts": "V"},
    "outputs": {"loss": ""},
    "ranges": {"U": AT_LEAST_TWO},
    "greedy": True,
}
_OPTIMIZER = {
    "inputs": {"W": "D H", "b": "H", "dW": "T D H", "db": "T H"},
    "outputs": {"W": "T D H", "b": "T H"},
    "program": "optimizer",
}

ENTRIES = [
    _entry("Softmax", inputs={"x": "... V"}, outputs={"y": "... V"}, patterns=LOGITS),
    _entry("Affine", inputs={"x": "N D"}, params={"W": "D H", "b": "H"}, outputs={"y": "N H"}, patterns=EDGES),
    _entry("Embedding", inputs={"idx": "int N"}, bounds={"idx": "V"}, params={"W": "V D"}, outputs={"y": "N D"},
           patterns=IDS),
    _entry("SoftmaxWithLoss", inputs={"x": "N V", "t": "int N"}, bounds={"t": "V"}, outputs={"loss": ""}, one_hot="t",
           patterns=LOGITS),
    _cell("RNN", "", ("h",)),
    _cell("LSTM", "fgio", ("h", "c")),
    _cell("GRU", "zrh", ("h",), variants={RESET_AFTER: ResetAfterGRU}),
    _cell("TimeRNN", "", ("h",), time=True),
    _cell("TimeLSTM", "fgio", ("h", "c"), time=True),
    _cell("TimeGRU", "zrh", ("h",), time=True, variants={RESET_AFTER: ResetAfterTimeGRU}),
    _entry("TimeBiLSTM", inputs={"xs": "N T D"}, outputs={"hs": "N T 2H"},
           params={"Wx1": "D 4H", "Wh1": "H 4H", "b1": "4H", "Wx2": "D 4H", "Wh2": "H 4H", "b2": "4H"},
           recurrent=("Wh1", "Wh2"), gates="fgio", options={"stateful": (False, True)}, time="T", patterns=GATES),
    _entry("TimeEmbedding", inputs={"xs": "int N T"}, bounds={"xs": "V"}, params={"W": "V D"},
           outputs={"ys": "N T D"}, patterns=IDS),
    _entry("TimeAffine", inputs={"xs": "N T D"}, params={"W": "D H", "b": "H"}, outputs={"ys": "N T H"},
           patterns=EDGES),
    _entry("TimeDropout", inputs={"xs": "N T D", "mask": "bool N T D"}, outputs={"ys": "N T D"},
           drawn={"mask": "ys"}, options={"dropout_ratio": (0.0, 0.1, 0.5, 0.9)},
           attributes={"train_flg": (True, False)}, patterns=EDGES),
    _entry("TimeSoftmaxWithLoss", inputs={"xs": "N T V", "ts": "int N T"}, bounds={"ts": "V"}, outputs={"loss": ""},
           one_hot="ts", options={"ignore_label": (-1, 0)}, patterns=("ignored", *LOGITS)),
    _entry("WeightSum", inputs={"hs": "N T H", "a": "N T"}, outputs={"c": "N H"}, patterns=EDGES),
    _entry("AttentionWeight", inputs={"hs": "N T H", "h": "N H"} | MASK, optional=("mask",), outputs={"a": "N T"},
           extreme=1e2, patterns=LOGITS),
    _entry("Attention", inputs={"hs": "N T H", "h": "N H"} | MASK, optional=("mask",), outputs={"c": "N H"},
           kept=("attention_weight",), extreme=1e2, patterns=LOGITS),
    _entry("TimeAttention", inputs={"hs_enc": "N T H", "hs_dec": "N U H"} | MASK, optional=("mask",),
           outputs={"cs": "N U H"}, kept=("attention_weights",), extreme=1e2, patterns=LOGITS),
    _model("Encoder", inputs={"xs": "int N T"} | MASK, optional=("mask",), bounds={"xs": "V"}, outputs={"h": "N H"}),
    _model("Decoder", inputs={"xs": "int N U", "h": "N H"}, bounds={"xs": "V"}, outputs={"score": "N U V"}),
    _model("PeekyDecoder", inputs={"xs": "int N U", "h": "N H"}, bounds={"xs": "V"}, outputs={"score": "N U V"}),
    _model("Seq2seq", **_SEQ2SEQ),
    _model("PeekySeq2seq", **_SEQ2SEQ),
    _model("AttentionEncoder", inputs={"xs": "int N T"} | MASK, optional=("mask",), bounds={"xs": "V"},
           outputs={"hs": "N T H"}),
    _model("AttentionDecoder", inputs={"xs": "int N U", "enc_hs": "N T H"} | MASK, optional=("mask",),
           bounds={"xs": "V"}, outputs={"score": "N U V"}),
    _model("AttentionSeq2seq", **_SEQ2SEQ, kept=("attention_weights",)),
    _entry("SGD", options={"lr": (0.01, 1.0)}, **_OPTIMIZER),
    _entry("Adam", options={"lr": (0.001, 0.1), "beta1": (0.9, 0.5), "beta2": (0.999, 0.9)}, **_OPTIMIZER),
    _entry("clip_grads", inputs={"dW": "D H", "db": "H"}, outputs={"dW": "D H", "db": "H", "norm": ""},
           options={"max_norm": (0.25, 5.0)}, program="clip"),
]

CATALOGUE = {spec.name: spec for spec in ENTRIES}
