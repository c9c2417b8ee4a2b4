"""Answers new questions with a trained model: ``python -m torch_port.predict``, or ``parity-predict``."""

import argparse
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from .training.process import CLOSED_PIPE, Screen, Signals, complain
from .training.settings import Parser, UsageError, number, require

if TYPE_CHECKING:
    from .trained import TrainedModel

NAME = "parity-predict"
MAPS = 16  # questions whose attention is drawn


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(NAME, description="Answer questions with a model that parity-train has trained: a line in, a line out.",
               formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("model", metavar="MODEL_DIR", help="what parity-train wrote with --out")
    p.add_argument("file", metavar="FILE", nargs="?", default="-", help="questions, one a line, in UTF-8; - reads them "
                                                                       "from standard input as they come")
    p.add_argument("--scores", action="store_true", help="after a tab, the log-probability of each answer, in nats")
    p.add_argument("--attention", metavar="PNG", help=f"draw where the model looks, for the first {MAPS} questions")
    p.add_argument("--beam", type=number(int, 1), default=1, metavar="K",
                   help="answers followed at every step of the search; 1: greedy")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    p.add_argument("--threads", type=number(int, 1), default=1, help="of torch on the CPU")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; None for those of the process, which then ends with the command.

    Returns:
        Exit code: 0 every line was answered, 1 a line was not (its answer is an empty line), 2 wrong usage,
        128 + number of the signal that ended it.
    """
    own = argv is None
    with Signals(own) as signals:
        screen = Screen(own, NAME)
        try:
            return _run(parser().parse_args(argv), signals, screen)
        except (UsageError, OSError) as error:
            complain(str(error), NAME)
            return 2
        except KeyboardInterrupt:
            return 128 + (signals.number or 2)


def _run(args: argparse.Namespace, signals: Signals, screen: Screen) -> int:
    import torch

    from .trained import load_model
    from .training.team import device_of

    require(args.attention is not None, "matplotlib", "--attention")
    signals.ready()
    torch.set_num_threads(args.threads)
    try:
        model = load_model(args.model, device=device_of(args.device))
        if args.attention is not None:
            model.look([])  # a model without attention is refused before anything is read
    except ValueError as error:
        raise UsageError(str(error)) from None
    drawn: list[str] = []
    failed = line = 0
    with open(sys.stdin.fileno() if args.file == "-" else args.file, "rb", closefd=args.file != "-") as file:
        for texts in lines_of(file):
            questions, errors = _legible(model, texts)
            answers = iter(model.answers([q for q in questions if q is not None], args.beam))
            for question, reason in zip(questions, errors, strict=True):
                line += 1
                if question is None:
                    complain(f"line {line}: {reason}", NAME)
                    failed += 1
                    screen.say("")
                    continue
                answer = next(answers)
                screen.say(f"{answer.text}\t{answer.score:.6g}" if args.scores else answer.text)
                if len(drawn) < MAPS:
                    drawn.append(question)
            if screen.closed:
                return 128 + CLOSED_PIPE
    if args.attention is not None:
        if not drawn:
            raise UsageError("--attention: no question to draw")
        from reference.data import write_atomically

        from .training.pictures import attention_maps

        write_atomically(args.attention, attention_maps(model.look(drawn, args.beam)))
    return 1 if failed or screen.lost else 0


def lines_of(file: BinaryIO) -> Iterator[list[bytes]]:
    """Lines without their ends, as many at a time as there are without waiting."""
    read: Any = getattr(file, "read1", file.read)
    rest, first = b"", True
    while True:
        data = read(1 << 16)
        rest += data
        if first and data and len(rest) < len(BOM_UTF8) and BOM_UTF8.startswith(rest):
            continue  # it may become a byte order mark
        if first:
            rest, first = rest.removeprefix(BOM_UTF8), False
        *whole, rest = rest.split(b"\n")
        if not data and rest:
            whole.append(rest)
        if whole:
            yield [text.removesuffix(b"\r") for text in whole]
        if not data:
            return


def _legible(model: "TrainedModel", texts: list[bytes]) -> tuple[list[str | None], list[str]]:
    """Of each line the question, or None and why it is none."""
    questions: list[str | None] = []
    errors = []
    for text in texts:
        try:
            question = text.decode()
            model.encode(question)
            questions.append(question)
            errors.append("")
        except ValueError as error:
            questions.append(None)
            errors.append(f"not UTF-8: {error}" if isinstance(error, UnicodeDecodeError) else str(error))
    return questions, errors


if __name__ == "__main__":
    sys.exit(main())
