"""Encoder, decoder and the sequence-to-sequence models made of them."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check_index, check_masked, check_sizes, integer, refuse_index, unchecked
from ._recurrent import Device
from ._twin import Twin
from .affine import TimeAffine
from .embedding import TimeEmbedding
from .loss import TimeSoftmaxWithLoss
from .lstm import TimeLSTM

State = Sequence[Tensor | None]


class Model(Twin):
    """A module of the three sizes V, D, H.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        device, dtype: of the parameters.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size below 1.
    """

    sizes = ((0, 0), (0, 1), (2, 0))

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        V, D, H = check_sizes(
            type(self).__name__,
            vocab_size=vocab_size,
            wordvec_size=wordvec_size,
            hidden_size=hidden_size,
        )
        self._build(V, D, H, device=device, dtype=dtype)

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        """Makes the layers."""
        raise NotImplementedError


class Encoder(Model):
    """Embedding and LSTM over the source; gives the last state.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        self.embed = TimeEmbedding(V, D, **factory)
        self.lstm = TimeLSTM(D, H, **factory)

    def forward(self, xs: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None) -> Tensor:
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V where they are valid.
            mask: boolean ``(N, T)``, true at valid positions; None for all. The others, wherever
                they stand, are not read: each sample gets what it gets without them.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``h`` ``(N, H)``: the state after the last valid step, zero where there is none.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: ``xs`` is not an integer tensor, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or T is 0.
        """
        return self._read(xs, mask, lengths)[:, -1]

    def _read(self, xs: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor:
        """The state ``(N, T, H)`` after every step, or after the last valid one before it."""
        mask = check_masked(f"{type(self).__name__}.forward", mask, lengths, xs=(xs, "int N T"))
        xs = xs.long()  # torch can do little with unsigned integers
        if mask is None:
            hs: Tensor = self.lstm(self.embed(xs))
            return hs
        # the valid ids are read first, in their order; the state after the k-th is the k-th
        place = torch.arange(mask.shape[1], device=mask.device)
        order = torch.where(mask, place, place + mask.shape[1]).argsort(dim=1)
        hs = self.lstm(self.embed(xs.masked_fill(~mask, 0).gather(1, order)))
        read = mask.cumsum(1)[:, :, None]
        hs = hs.gather(1, (read - 1).clamp(min=0).expand(-1, -1, hs.shape[2]))
        return hs.masked_fill(read == 0, 0)


class DecoderBase(Model):
    """What decoders share: the layers, and greedy decoding with the state carried from id to id."""

    beside: ClassVar[tuple[int, int]] = (0, 0)  # H wide vectors beside the input of lstm, of affine
    generate: Callable[..., Tensor]

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        self.embed = TimeEmbedding(V, D, **factory)
        self.lstm = TimeLSTM(D + self.beside[0] * H, H, **factory)
        self.affine = TimeAffine(H + self.beside[1] * H, V, **factory)

    def _first(self, *source: Any) -> Tensor:
        """The state ``(N, H)`` from which the LSTM starts, of the encoder's message."""
        raise NotImplementedError

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        """Logits ``(N, U, V)`` and the LSTM's next state, of ids and the encoder's message."""
        raise NotImplementedError

    def _check(
        self, method: str, mask: Tensor | None = None, lengths: Tensor | None = None, **arguments: tuple[Tensor, str]
    ) -> tuple[str, Tensor | None]:
        """Where an error would be, and the mask that is meant."""
        where = f"{type(self).__name__}.{method}"
        slot = self.lstm.slots["Wh"]
        weight = {f"lstm.{slot.path}": (slot.of(self.lstm), "4H H")}
        return where, check_masked(where, mask, lengths, **weight, **arguments)

    def _repeated(self, source: Sequence[Any], times: int) -> list[Any]:
        return [None if a is None else a.repeat_interleave(times, 0) for a in source]

    @torch.no_grad()
    def _search(
        self,
        where: str,
        first: Tensor,
        start_id: int,
        sample_size: int,
        *source: Any,
        end_id: int | None = None,
        beam_width: int = 1,
        length_penalty: float = 1.0,
        scores: bool = False,
        choose: Callable[[Tensor], Tensor] | None = None,
    ) -> Any:
        """Answers from the state ``first`` ``(N, H)``; ``choose`` gives ids ``(N,)`` of logits ``(N, V)``."""
        N, V = first.shape[0], self.embed.num_embeddings
        start_id, U = integer(where, start_id=start_id), integer(where, sample_size=sample_size)
        K = integer(where, beam_width=beam_width)
        for name, value, least in (("sample_size", U, 0), ("beam_width", K, 1), ("length_penalty", length_penalty, 0)):
            if not value >= least:
                raise ValueError(f"{where}: {name} is {value}, expected >= {least}")
        if not 0 <= start_id < V:
            refuse_index(where, "start_id", start_id, V)
        if end_id is not None and not 0 <= (end_id := integer(where, end_id=end_id)) < V:
            refuse_index(where, "end_id", end_id, V)
        # K answers a sample, one after the other; at first all but one of them are impossible
        source = tuple(self._repeated(source, K))
        (h,) = self._repeated([first], K)
        state: State = (h, None)
        numbers: dict[str, Any] = {"device": first.device, "dtype": torch.float64}
        ids = torch.full((N * K, 1), start_id, device=first.device)
        total = torch.zeros(N, K, **numbers).masked_fill_(torch.arange(K, device=first.device) > 0, -torch.inf)
        length = torch.zeros(N, K, **numbers)
        ended = torch.zeros(N, K, dtype=torch.bool, device=first.device)
        end = -1 if end_id is None else end_id  # no id is -1
        over = torch.where(torch.arange(V, device=first.device) == end, 0.0, -torch.inf)
        kept: list[Tensor] = []
        with unchecked():  # what is chosen is in range
            for _ in range(U):
                step, state = self._decode(ids[:, -1:], state, *source)
                logits = step.view(N, K, V)
                # what has ended goes on with its end alone
                logits = torch.where(ended[:, :, None], over.to(logits.dtype), logits)
                length = length + ~ended
                choice = (choose or _first_argmax)(logits[:, 0])[:, None]
                if K > 1 or scores:
                    sums = total[:, :, None] + torch.log_softmax(logits.double(), dim=2)
                    if K > 1:
                        rank = (sums / length[:, :, None] ** length_penalty).view(N, K * V)
                        choice = rank.sort(descending=True, stable=True).indices[:, :K]
                    total = sums.view(N, K * V).gather(1, choice)
                kept += self._kept()
                if K > 1:
                    parent = choice // V
                    rows = (torch.arange(N, device=first.device)[:, None] * K + parent).flatten()
                    ids, kept = ids[rows], [w[rows] for w in kept]
                    state = [None if s is None else s[rows] for s in state]
                    ended, length = ended.gather(1, parent), length.gather(1, parent)
                ids = torch.cat((ids, (choice % V).view(N * K, 1)), dim=1)
                ended = ended | (choice % V == end)
                if end_id is not None and ended.all():  # asked where it can be so: a device would be waited for
                    break
        self._keep([w[::K] for w in kept])
        found = F.pad(ids[::K, 1:], (0, U + 1 - ids.shape[1]), value=end)
        if not scores:
            return found
        return found, total[:, 0] / length[:, 0].clamp(min=1) ** length_penalty

    def _kept(self) -> list[Tensor]:
        """What the last step of decoding leaves to be kept of all, with a row an answer."""
        return []

    def _keep(self, steps: list[Tensor]) -> None:
        """Keeps it, of all steps."""


def _first_argmax(logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)  # documented to be the first among equals


def drawn(
    where: str, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Callable[[Tensor], Tensor]:
    """Draws ids ``(N,)`` from logits ``(N, V)``; see ``Seq2seq.sample``."""
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{where}: temperature is {temperature}, expected > 0 and finite")
    if top_k is not None and integer(where, top_k=top_k) < 1:
        raise ValueError(f"{where}: top_k is {top_k}, expected >= 1")

    def choose(logits: Tensor) -> Tensor:
        logits = logits.double()
        if top_k is not None and top_k < logits.shape[1]:
            least = logits.topk(top_k, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        # the largest is subtracted first: a small temperature overflows nothing
        weights = ((logits - logits.amax(1, keepdim=True)) / temperature).exp()
        return torch.multinomial(weights, 1, generator=generator)[:, 0]

    return choose


class Decoder(DecoderBase):
    """Embedding, LSTM from the encoder's last state and a zero cell, affine map to the vocabulary.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    def forward(self, xs: Tensor, h: Tensor) -> Tensor:
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            h: encoder state ``(N, H)``, dtype of the weights (any floating one under autocast).

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        self._check("forward", xs=(xs, "int N U"), h=(h, "N H"))
        return self._decode(xs, (self._first(h), None), h)[0]

    def generate(self, h: Tensor, start_id: int, sample_size: int, **how: Any) -> Any:
        """Decoding, greedy or by beam search; among equals, the first.

        Args:
            h: encoder state ``(N, H)``, dtype of the weights (any floating one under autocast).
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.
            how: ``end_id``, ``beam_width``, ``length_penalty``, ``scores``, as in
                ``Seq2seq.generate``.

        Returns:
            As there.

        Raises:
            As there.
        """
        where, _ = self._check("generate", h=(h, "N H"))
        return self._search(where, self._first(h), start_id, sample_size, h, **how)

    def _first(self, *source: Any) -> Tensor:
        h: Tensor = source[0]
        return h

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        hs, state = self.lstm(self.embed(xs), state=state)
        return self.affine(hs), state


class PeekyDecoder(Decoder):
    """A ``Decoder`` whose LSTM and affine map also see the encoder state at every step.

    In both places the encoder state comes first: ``concatenate((h, input))``.

    Source: Cho et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    beside = (1, 1)

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        peek = source[0][:, None].expand(-1, xs.shape[1], -1)
        hs, state = self.lstm(torch.cat((peek, self.embed(xs)), dim=2), state=state)
        return self.affine(torch.cat((peek, hs), dim=2)), state


class Seq2seq(Model):
    """An ``Encoder``, a ``Decoder`` and the mean loss of the answer.

    The decoder reads ``ts[:, :-1]`` and is asked for ``ts[:, 1:]``.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    options = ("loss.ignore_label",)
    encoder_class: ClassVar[type[Encoder]] = Encoder
    decoder_class: ClassVar[type[DecoderBase]] = Decoder

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        self.encoder = self.encoder_class(V, D, H, **factory)
        self.decoder = self.decoder_class(V, D, H, **factory)
        self.loss = TimeSoftmaxWithLoss()

    def score(
        self, xs: Tensor, ts_in: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Logits of the next id at every step, the answer given.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts_in: decoder input ids ``(N, U)``, integer.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``(N, U, V)``.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        mask = check_masked(f"{type(self).__name__}.score", mask, lengths, xs=(xs, "int N T"))
        score: Tensor = self.decoder(ts_in, *self._message(xs, mask))
        return score

    def _message(self, xs: Tensor, mask: Tensor | None) -> tuple[Tensor | None, ...]:
        """What the decoder gets of the source."""
        return (self.encoder(xs, mask),)

    def forward(self, xs: Tensor, ts: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None) -> Tensor:
        """Mean loss of the answer.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts: start id and answer ids ``(N, U + 1)``, integer, U >= 1. Where an answer is padded
                at its end with ``loss.ignore_label``, it does not count.
            mask: boolean ``(N, T)``, true at valid source positions; None for all. The others
                change nothing.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            The loss, a scalar of the parameters' dtype (float32 under autocast), in nats.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        where = f"{type(self).__name__}.forward"
        mask = check_masked(where, mask, lengths, xs=(xs, "int N T"), ts=(ts, "int N U"))
        if ts.shape[1] < 2:
            raise ValueError(f"{where}: ts has shape {tuple(ts.shape)}, "
                             "expected at least 2 columns, start id and answer")
        xs, ts = xs.long(), ts.long()
        xs = xs if mask is None else xs.masked_fill(~mask, 0)
        V, ignored = self.decoder.embed.num_embeddings, self.loss.ignore_label
        ts_in = ts[:, :-1]
        if not 0 <= ignored < V:
            ts_in = ts_in.masked_fill(ts_in == ignored, 0)  # no id; after it nothing counts
        check_index(where, {"xs": xs, "ts": ts.masked_fill(ts == ignored, 0)}, V)
        with unchecked():
            loss: Tensor = self.loss(self.score(xs, ts_in, mask), ts[:, 1:])
        return loss

    @torch.no_grad()
    def generate(
        self,
        xs: Tensor,
        start_id: int,
        sample_size: int,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        **how: Any,
    ) -> Any:
        """Answers, greedy or by beam search; among equals, the first. Neither mode nor state change.

        Args:
            xs: source ids ``(N, T)``, integer.
            start_id: first input id of the decoder.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.
            end_id: id after which an answer is over: the rest of it are ``end_id`` too, and
                decoding stops when all are, for which it waits for the device at every step; None
                for none.
            beam_width: answers followed at every step, >= 1; 1 is greedy decoding.
            length_penalty: exponent, >= 0, of the length by which the log-probability of an answer
                is divided, its end counted; 0 divides by nothing.
            scores: whether to give the score of each answer too.

        Returns:
            ids ``(N, sample_size)``, int64; with ``scores`` a tuple of them and the log-probability
            of each answer, in nats, over its length as above: ``(N,)``, float64.

        Raises:
            IndexError: ``start_id`` or ``end_id`` out of range, or an id (see ``index_checks``).
            TypeError: a dtype of the wrong kind, or a number that is no integer where one is needed.
            ValueError: shapes that do not fit, or a number out of its range.

        Source: Wu et al. 2016 for the length.
        """
        mask = check_masked(f"{type(self).__name__}.generate", mask, lengths, xs=(xs, "int N T"))
        message, *rest = self._message(xs, mask)
        return self.decoder.generate(message, start_id, sample_size, *rest, **how)

    @torch.no_grad()
    def sample(
        self,
        xs: Tensor,
        start_id: int,
        sample_size: int,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        end_id: int | None = None,
        length_penalty: float = 1.0,
        scores: bool = False,
    ) -> Any:
        """Answers whose ids are drawn, each from the softmax of its logits. Neither mode nor state change.

        Args:
            xs, start_id, sample_size, mask, lengths, end_id, length_penalty, scores: as in ``generate``;
                scores are those of the model, whatever the temperature.
            temperature: by which logits are divided before the softmax, > 0; small is greedy.
            top_k: how many of the highest logits are drawn from, and those equal to the last of
                them; None for all.
            generator: draws, on the device of the model; None for torch's own.

        Returns:
            As ``generate``.

        Raises:
            As ``generate``.

        Source: Fan et al. 2018 for the top k.
        """
        choose = drawn(f"{type(self).__name__}.sample", temperature, top_k, generator)
        return self.generate(
            xs, start_id, sample_size, mask, lengths=lengths,
            end_id=end_id, length_penalty=length_penalty, scores=scores, choose=choose,
        )


class PeekySeq2seq(Seq2seq):
    """A ``Seq2seq`` with a ``PeekyDecoder``; arguments and errors as there.

    Source: Saito, Deep Learning from Scratch 2, chapter 7.
    """

    decoder_class = PeekyDecoder
