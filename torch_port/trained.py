"""A trained model with all it needs to answer, and the directory that holds it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._recurrent import Device
from .attention_seq2seq import AttentionSeq2seq
from .seq2seq import PeekySeq2seq, Seq2seq
from .weights import load_params

CLASSES: dict[str, type[Seq2seq]] = {"attention": AttentionSeq2seq, "peeky": PeekySeq2seq, "plain": Seq2seq}
FORMAT = "torch_port model 1"
WEIGHTS, CARD = "model.safetensors", "model.json"
TOGETHER = 250  # questions that are answered in one batch


class Card(NamedTuple):
    """What a model must be told beside its weights.

    Attributes:
        model: attention, peeky or plain.
        wordvec_size, hidden_size: D and H.
        characters: the vocabulary, a character an id.
        question_length: characters to which shorter questions are filled up.
        answer_length: characters of an answer.
        reverse: whether questions are read backwards.
        start: character that begins an answer.
        pad: character that fills up.
    """

    model: str
    wordvec_size: int
    hidden_size: int
    characters: str
    question_length: int
    answer_length: int
    reverse: bool
    start: str = "_"
    pad: str = " "

    def json(self) -> bytes:
        """The bytes of ``model.json``."""
        return (json.dumps({"format": FORMAT, **self._asdict()}, ensure_ascii=False, indent=1) + "\n").encode()

    def build(self) -> Seq2seq:
        """A new model of these sizes."""
        return CLASSES[self.model](len(self.characters), self.wordvec_size, self.hidden_size)


def read_card(path: str | os.PathLike[str]) -> Card:
    """Reads ``model.json``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what this version writes.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    kind = found.pop("format", None) if isinstance(found, dict) else None
    if kind != FORMAT:
        raise ValueError(f"{path}: format {kind!r}, expected {FORMAT!r}")
    for name, type_ in Card.__annotations__.items():
        value = found.get(name)
        fits = type(value) is type_ and (type_ is not int or value >= 1)
        if not fits or (name in ("start", "pad") and len(value) != 1):
            raise ValueError(f"{path}: {name} is {value!r}, expected {type_.__name__}")
    unknown = sorted(set(found) - set(Card._fields))
    if unknown:
        raise ValueError(f"{path}: unknown {', '.join(unknown)}")
    card = Card(**found)
    if card.model not in CLASSES:
        raise ValueError(f"{path}: model is {card.model!r}, expected one of {', '.join(CLASSES)}")
    if len(set(card.characters)) != len(card.characters) or card.start not in card.characters:
        raise ValueError(f"{path}: characters are {card.characters!r}, expected each once, {card.start!r} among them")
    return card


class Answer(NamedTuple):
    """An answer.

    Attributes:
        text: without the spaces that fill it up.
        score: its log-probability, in nats, spaces included.
    """

    text: str
    score: float


class TrainedModel:
    """A model that answers questions in plain text; ``load_model`` makes one.

    Args:
        model: the module.
        card: what belongs to it.
    """

    def __init__(self, model: Seq2seq, card: Card) -> None:
        self.model = model
        self.card = card
        self._ids = {c: i for i, c in enumerate(card.characters)}

    def __call__(self, questions: Sequence[str], beam: int = 1) -> list[str]:
        """Answers questions; see ``answers``."""
        return [answer.text for answer in self.answers(questions, beam)]

    def answers(self, questions: Sequence[str], beam: int = 1) -> list[Answer]:
        """Answers questions, each with its log-probability.

        Args:
            questions: any number of them.
            beam: answers kept at every step of the search; 1 is greedy.

        Returns:
            An ``Answer`` for each.

        Raises:
            TypeError: ``questions`` is a single str, or holds something else.
            ValueError: a character that the model does not know, or ``beam`` below 1.
        """
        found: list[Answer | None] = [None] * len(questions)
        for places, xs in self._batches(questions):
            ids, scores = self._answer(xs, beam)
            for place, row, score in zip(places, ids.tolist(), scores.tolist(), strict=True):
                found[place] = Answer(self._text(row).rstrip(self.card.pad), score)
        return [answer for answer in found if answer is not None]

    def look(self, questions: Sequence[str], beam: int = 1) -> list[tuple[str, str, Any]]:
        """Where the model looks while it answers.

        Args:
            questions: any number of them.
            beam: as in ``answers``.

        Returns:
            For each the question as it is read, filled up; the model's answer, filled up; and weights
            ``(len(answer), len(question))``, float32, the question in reading order.

        Raises:
            TypeError, ValueError: as ``answers``; a model without attention.
        """
        if not isinstance(self.model, AttentionSeq2seq):
            raise ValueError(f"a {type(self.model).__name__} has no attention to look at")
        found: list[Any] = [None] * len(questions)
        step = -1 if self.card.reverse else 1
        for places, xs in self._batches(questions):
            ids, _ = self._answer(xs, beam)
            weights: Any = self.model.attention_weights
            looks = torch.stack(list(weights), dim=1).float().cpu().numpy()[:, :, ::step]
            for place, row, read, look in zip(places, ids.tolist(), xs.tolist(), looks, strict=True):
                found[place] = (self._text(read[::step]), self._text(row), look)
        return found

    def encode(self, question: str) -> list[int]:
        """The ids of a question as the model reads them: filled up, and reversed where it was trained so.

        Raises:
            TypeError: not a str.
            ValueError: a character that no question may hold.
        """
        if not isinstance(question, str):
            raise TypeError(f"question is a {type(question).__name__}, expected a str")
        for c in question:
            if c not in self._ids:
                raise ValueError(f"{c!r} (U+{ord(c):04X}) in {question!r} is not in the model's vocabulary")
        if self.card.start in question:
            raise ValueError(f"{self.card.start!r} in {question!r} begins an answer, and no question may hold it")
        text = question.ljust(self.card.question_length, self.card.pad)
        if self.card.pad not in self._ids and len(text) > len(question):
            raise ValueError(f"{question!r} has {len(question)} characters, expected at least "
                             f"{self.card.question_length}, as in training")
        ids = [self._ids[c] for c in text]
        return ids[::-1] if self.card.reverse else ids

    def _batches(self, questions: Sequence[str]) -> list[tuple[list[int], Tensor]]:
        """Questions of one length together: their places, and their ids ``(N, T)``."""
        if isinstance(questions, str):
            raise TypeError(f"questions is the str {questions!r}, expected a list of them")
        lengths: dict[int, list[int]] = {}
        rows = [self.encode(question) for question in questions]
        for place, row in enumerate(rows):
            lengths.setdefault(len(row), []).append(place)
        device = next(self.model.parameters()).device
        cuts = [places[i : i + TOGETHER] for places in lengths.values() for i in range(0, len(places), TOGETHER)]
        return [(cut, torch.tensor([rows[place] for place in cut], device=device)) for cut in cuts]

    @torch.no_grad()
    def _answer(self, xs: Tensor, beam: int = 1) -> tuple[Tensor, Tensor]:
        """Ids ``(N, U)`` and their log-probabilities ``(N,)``."""
        start = self._ids[self.card.start]
        ids = self.model.generate(xs, start, self.card.answer_length, beam_width=beam)
        ts_in = torch.cat((torch.full_like(ids[:, :1], start), ids[:, :-1]), dim=1)
        chances = self.model.score(xs, ts_in).float().log_softmax(dim=-1)
        return ids, chances.gather(2, ids[:, :, None]).sum(dim=(1, 2))

    def _text(self, ids: list[int]) -> str:
        return "".join(self.card.characters[i] for i in ids)


def load_model(directory: str | os.PathLike[str], *, device: Device = None) -> TrainedModel:
    """Reads the directory of a trained model; nothing else is needed to use it.

    Args:
        directory: as ``parity-train`` leaves it, with ``model.json`` and ``model.safetensors``.
        device: of the model; None for the CPU.

    Returns:
        The model, ready to answer: ``load_model("trained")(["8/24/95"])``.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is not what it should be, or the two do not belong together.
    """
    card = read_card(Path(directory) / CARD)
    model = card.build()
    load_params(model, Path(directory) / WEIGHTS)
    return TrainedModel(model.to(device or "cpu").eval(), card)
