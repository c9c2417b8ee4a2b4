"""The catalogue: every layer that exists on both sides, and the only place that names both."""

from collections.abc import Sequence
from typing import Any

from .ours import ours
from .spec.arrays import ids, mask
from .spec.catalogue import Catalogue
from .spec.span import span
from .spec.spec import Spec
from .variants import ResetAfterGRU, ResetAfterTimeGRU

reference = ours("reference")
EDGES = ("nonfinite",)
LOGITS = ("extreme", *EDGES)
GATES = ("saturated", *EDGES)
IDS = ("duplicates", *EDGES)
AT_LEAST_TWO = range(2, 1026)
RESET_AFTER = "the reset gate is applied after the matrix product, as in torch.nn.GRU"

# by axis, how results follow from those of smaller cases, see promises.relations
APART, CAUSAL, TURNED = "among tiled", "causal", "symmetric"
ROWS = {"N": APART}
FEATURES = ROWS | {"D": TURNED, "H": TURNED}
ATTENTION = ROWS | {"T": TURNED, "H": TURNED}
STEPS = {"D": APART, "T": CAUSAL}
MEAN = {"N": "mean"}
RELATIONS = {
    "Softmax": {"...": APART, "V": TURNED},
    "Affine": FEATURES,
    "Embedding": ROWS | {"D": TURNED, "V": TURNED},
    "SoftmaxWithLoss": {"N": "mean", "V": TURNED},
    **dict.fromkeys(("RNN", "LSTM", "GRU", "TimeBiLSTM"), FEATURES),
    **dict.fromkeys(("TimeRNN", "TimeLSTM", "TimeGRU"), FEATURES | {"T": CAUSAL}),
    "TimeEmbedding": ROWS | {"T": APART, "D": TURNED, "V": TURNED},
    "TimeAffine": FEATURES | {"T": APART},
    "TimeDropout": ROWS | {"T": APART, "D": APART},
    "TimeSoftmaxWithLoss": {"N": "mean", "T": "mean"},
    **dict.fromkeys(("WeightSum", "AttentionWeight", "Attention"), ATTENTION),
    "TimeAttention": ATTENTION | {"U": APART},
    "LayerNorm": {"...": APART, "D": TURNED},
    "PositionalEmbedding": ROWS | {"D": TURNED},
    "MultiHeadAttention": ROWS | {"T": TURNED, "U": APART},
    "Encoder": ROWS,
    "AttentionEncoder": ROWS | {"T": CAUSAL},
    **dict.fromkeys(("Decoder", "PeekyDecoder", "AttentionDecoder"), ROWS | {"U": CAUSAL}),
    **dict.fromkeys(("Seq2seq", "PeekySeq2seq", "AttentionSeq2seq"), MEAN),
    **dict.fromkeys(("SGD", "Adam"), STEPS),
    "clip_grads": {},  # every entry sees all others
}


def _entry(name: str, **fields: Any) -> Spec:
    return Spec(name=name, reference=getattr(reference, name), port=f"torch_port:{name}",
                relations=RELATIONS[name], **fields)


def _cell(name: str, gates: Any, states: Sequence[str], **fields: Any) -> Spec:
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


def _model(name: str, **fields: Any) -> Spec:
    fields.setdefault("patterns", IDS)
    return _entry(name, size_arguments="V D H", recurrent=("encoder.lstm.Wh", "decoder.lstm.Wh", "lstm.Wh"),
                  extreme=1e1, **fields)


MASK = {"mask": mask("N T", optional=True, lengths="lengths")}
_SOURCE = {"xs": ids("N T", below="V")}
_TARGET = {"xs": ids("N U", below="V")}
_SEQ2SEQ: dict[str, Any] = {
    "inputs": {"xs": ids("N T", below="V"), "ts": ids("N U", below="V")} | MASK,
    "labels": {"ts": "loss.ignore_label"},
    "outputs": {"loss": ""},
    "ranges": {"U": AT_LEAST_TWO},
    "greedy": True,
}
_OPTIMIZER = {
    "inputs": {"W": "D H", "b": "H", "dW": "T D H", "db": "T H"},
    "outputs": {"W": "T D H", "b": "T H"},
    "side": "optimizer",
    "steps": "T",
}

ENTRIES = [
    _entry("Softmax", inputs={"x": "... V"}, outputs={"y": "... V"}, patterns=LOGITS),
    _entry("Affine", inputs={"x": "N D"}, params={"W": "D H", "b": "H"}, outputs={"y": "N H"}, patterns=EDGES),
    _entry("Embedding", inputs={"idx": ids("N", below="V")}, params={"W": "V D"}, outputs={"y": "N D"},
           patterns=IDS),
    _entry("SoftmaxWithLoss", inputs={"x": "N V", "t": ids("N", below="V", one_hot=True)}, outputs={"loss": ""},
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
    _entry("TimeEmbedding", inputs=_SOURCE, params={"W": "V D"},
           outputs={"ys": "N T D"}, patterns=IDS),
    _entry("TimeAffine", inputs={"xs": "N T D"}, params={"W": "D H", "b": "H"}, outputs={"ys": "N T H"},
           patterns=EDGES),
    _entry("TimeDropout", inputs={"xs": "N T D", "mask": mask("N T D", drawn="ys")}, outputs={"ys": "N T D"},
           options={"dropout_ratio": span(0.0, 0.5, 0.1, 0.9, 0.999)},
           attributes={"train_flg": (True, False)}, patterns=EDGES),
    _entry("TimeSoftmaxWithLoss",
           inputs={"xs": "N T V", "ts": ids("N T", below="V", one_hot=True, ignored="ignore_label")},
           outputs={"loss": ""}, options={"ignore_label": span(-1, 0, 3, -100, low=-8, high=8)},
           patterns=("ignored", *LOGITS)),
    _entry("WeightSum", inputs={"hs": "N T H", "a": "N T"}, outputs={"c": "N H"}, patterns=EDGES),
    _entry("AttentionWeight", inputs={"hs": "N T H", "h": "N H"} | MASK, outputs={"a": "N T"},
           extreme=1e2, patterns=LOGITS),
    _entry("Attention", inputs={"hs": "N T H", "h": "N H"} | MASK, outputs={"c": "N H"},
           kept=("attention_weight",), extreme=1e2, patterns=LOGITS),
    _entry("TimeAttention", inputs={"hs_enc": "N T H", "hs_dec": "N U H"} | MASK,
           outputs={"cs": "N U H"}, kept=("attention_weights",), extreme=1e2, patterns=LOGITS),
    _entry("LayerNorm", inputs={"x": "... D"}, params={"gamma": "D", "beta": "D"}, outputs={"y": "... D"},
           options={"eps": span(1e-5, 0.5, 1e-3, low=1e-6, high=10.0, log=True)}, patterns=EDGES),
    _entry("PositionalEmbedding", inputs={"xs": "N T D"} | MASK, params={"W": "M D"},
           outputs={"ys": "N T D", "positions": "int N T"}, where=lambda n: n["T"] <= n["M"], patterns=EDGES),
    _entry("MultiHeadAttention", inputs={"query": "N U D", "key": "N T D", "value": "N T D"} | MASK,
           params={"Wq": "D D", "Wk": "D D", "Wv": "D D", "Wo": "D D"}, outputs={"y": "N U D"},
           options={"heads": span(1, 2, 3, 8)}, ranges={"K": range(1, 1026)},
           sizes={"D": lambda n: n["heads"] * n["K"]},
           kept=("attention_weights",), recurrent=("Wq", "Wk"), steps="", extreme=10.0, patterns=LOGITS),
    _model("Encoder", inputs=_SOURCE | MASK, outputs={"h": "N H"}),
    _model("Decoder", inputs=_TARGET | {"h": "N H"}, outputs={"score": "N U V"}),
    _model("PeekyDecoder", inputs=_TARGET | {"h": "N H"}, outputs={"score": "N U V"}),
    _model("Seq2seq", **_SEQ2SEQ),
    _model("PeekySeq2seq", **_SEQ2SEQ),
    _model("AttentionEncoder", inputs=_SOURCE | MASK, outputs={"hs": "N T H"}),
    _model("AttentionDecoder", inputs=_TARGET | {"enc_hs": "N T H"} | MASK, outputs={"score": "N U V"}),
    _model("AttentionSeq2seq", **_SEQ2SEQ, kept=("attention_weights",)),
    _entry("SGD", options={"lr": span(0.01, 1.0, 2.0, low=1e-6, high=1e3, log=True)}, **_OPTIMIZER),
    _entry("Adam", options={"lr": span(0.001, 0.1, 2.0, low=1e-6, high=4.0, log=True),  # past it float16 overflows
                            "beta1": span(0.9, 0.0, 0.5, 0.99, high=0.9999), "beta2": span(0.999, 0.5, 0.9, 0.9999)},
           untold={"float16": "the squares of its gradients, times 1 - beta2, vanish among float16's smallest numbers"},
           **_OPTIMIZER),  # with beta2 below 1/2 v + (1 - beta2)(g g - v) may cancel, and any step follows
    _entry("clip_grads", inputs={"dW": "D H", "db": "H"}, outputs={"dW": "D H", "db": "H", "norm": ""},
           options={"max_norm": span(0.25, 5.0, 1.0, low=1e-6, high=1e6, log=True)}, side="clip"),
]

CATALOGUE = Catalogue(ENTRIES)

# at what `parity calibrate --growth` looks: layers with an axis that they sum over, and layers at sizes in real use
GROWING = (("Affine", "N"), ("Affine", "D"), ("WeightSum", "T"), ("Softmax", "V"), ("SoftmaxWithLoss", "V"),
           ("SoftmaxWithLoss", "N"))
REAL = (("TimeLSTM", {"N": 32, "T": 29, "D": 16, "H": 128}), ("Attention", {"N": 64, "T": 29, "H": 256}))
