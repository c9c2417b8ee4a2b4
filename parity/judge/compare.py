"""Holding what a side computed against the yardstick: shares of the budget, and findings."""

import shlex
from dataclasses import asdict, dataclass

import numpy as np

CHOSEN = "ids"  # the quantity of a generating model that is chosen by its ``score``


@dataclass(frozen=True)
class Finding:
    """One disagreement.

    Attributes:
        check: the side that left the budget, ``port`` or ``reference``; or ``stable``, ``raised``.
        layer, lane, quantity: where; ``grad.Wh`` of ``TimeLSTM`` in ``cpu-float32``.
        verdict: who is wrong, once the witnesses have spoken; ``undecided`` where they cannot tell.
        diagnosis: in words, what happened.
        index: of the worst element, None where there is none.
        port, reference: its value on either side, in the lane.
        oracle: its value by the reference's own code in a wider dtype: the yardstick, and wrong where that code is.
        share: distance of the side that left the budget from the oracle, in budgets.
        case_id: text that replays the case.
        pairs: path of the file that describes the pair; "" where it lives in memory alone, None for our own layers.
    """

    check: str
    layer: str
    lane: str
    quantity: str
    verdict: str
    diagnosis: str
    index: tuple | None
    port: float | None
    reference: float | None
    oracle: float | None
    share: float
    case_id: str
    pairs: str | None = None

    @property
    def replay(self):
        """The command that shows this finding again; of a pair that no file describes, a line of Python."""
        if self.pairs == "":
            return f"print(pair.run({self.case_id!r}, lane={self.lane!r}))  # pair: {self.layer}"
        file = f"--pairs {shlex.quote(self.pairs)} " if self.pairs else ""
        return f"parity replay {file}'{self.case_id}' --lane {self.lane}"

    def script(self):
        """A program of a few lines that shows this finding again."""
        pairs = f", pairs={self.pairs!r}" if self.pairs else ""
        return f"from parity import replay\n\nprint(replay({self.case_id!r}, lane={self.lane!r}{pairs}))\n"

    def to_json(self):
        """The finding as a dict of plain values."""
        return asdict(self) | {"index": self.index and list(self.index), "replay": self.replay}

    def __str__(self):
        where = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        text = f"{self.layer}.{self.quantity}{where} in {self.lane}"
        if self.oracle is not None:
            values = {"port": self.port, "reference": self.reference}
            text += ": " + ", ".join(f"{who} {value:.9g}" for who, value in values.items() if value is not None)
            source = "code in a wider dtype" if self.reference is not None else "numerical derivative"
            side = "reference" if self.check == "stable" else self.check
            text += (f"\n  the {side} is {self.share:.3g} budgets from the oracle, {self.oracle:.9g} "
                     f"(the reference's {source})")
        else:
            text += f", {self.check}"
        said = f"{self.verdict}{': ' if self.verdict and self.diagnosis else ''}{self.diagnosis}"
        return "\n  ".join(filter(None, (text, said, self.replay)))


def shares(value, oracle, budget):
    """Distance from the oracle in budgets, element by element; infinite where finiteness differs.

    Args:
        value: what a side computed, any floating dtype.
        oracle: what is right.
        budget: greatest allowed distance, finite and positive.

    Raises:
        ValueError: another shape than the oracle's.
    """
    value = np.asarray(value)
    if value.shape != oracle.shape:
        raise ValueError(f"shape {value.shape}, expected {oracle.shape}")
    value = value.astype(oracle.dtype)
    with np.errstate(all="ignore"):
        share = np.abs(value - oracle) / budget
    same = (value == oracle) | (np.isnan(value) & np.isnan(oracle))
    return np.where(same, 0, np.where(np.isfinite(value) & np.isfinite(oracle), share, np.inf))


def decided(score, budget):
    """Where a greedy choice is beyond doubt: every rival is further from the best than both budgets.

    Past the first doubtful step of a row, the ids that follow are another sequence's, and not decided.

    Args:
        score: the oracle's logits ``(N, U, V)`` along its own ids.
        budget: of the score, same shape.

    Returns:
        Boolean ``(N, U)``.
    """
    if not score.size:
        return np.zeros(score.shape[:2], bool)
    best = score.argmax(axis=-1)[..., None]
    top, doubt = np.take_along_axis(score, best, -1), np.take_along_axis(budget, best, -1)
    clear = top - score > doubt + budget
    np.put_along_axis(clear, best, True, -1)
    return np.logical_and.accumulate(clear.all(axis=-1), axis=1)


def compare(yardstick, quantities, partial=False):
    """The share of the budget of every quantity that is judged, element by element.

    Args:
        yardstick: a ``budget.Yardstick``.
        quantities: dict from name to array, what a side computed.
        partial: whether gradients may be missing: those of a reference that is a forward alone.

    Returns:
        dict from name to array of shares.

    Raises:
        ValueError: a quantity is missing, not expected, or of another shape.
    """
    oracle, quantities = yardstick.oracle, yardstick.projected(quantities)
    judged = [name for name in oracle if name in quantities or not (partial and name.startswith("grad."))]
    if set(quantities) - set(yardstick.untested) != set(judged):
        raise ValueError(f"quantities {sorted(quantities)}, expected {sorted(judged)}")
    found = {}
    for name in judged:
        right, got = oracle[name], np.asarray(quantities[name])
        try:
            if _kind(got) != _kind(right):
                raise ValueError(f"dtype {got.dtype}, expected {right.dtype}")
            if right.dtype.kind == "f":
                found[name] = shares(got, right, yardstick.budget[name])
            elif got.shape != right.shape:
                raise ValueError(f"shape {got.shape}, expected {right.shape}")
            else:  # a greedy choice need only be the same where it is beyond doubt
                sure = decided(oracle["score"], yardstick.budget["score"]) if name == CHOSEN else True
                found[name] = np.where(sure & (got != right), np.inf, 0.0)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _kind(array):
    return array.dtype.kind.replace("u", "i")


def worst(share):
    """The largest share and its index; 0 and None for an empty array."""
    if not share.size:
        return 0.0, None
    index = np.unravel_index(int(share.argmax()), share.shape)
    return float(share[index]), tuple(int(i) for i in index)
