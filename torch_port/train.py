"""Trains a seq2seq model on questions and answers: ``python -m torch_port.train``, or ``parity-train``.

The data set, the order of the batches, the textbook's initial weights and the layout of what is shown are those of
``reference``, so that both sides can be trained on the same. torch is loaded when the arguments have been read.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .training.process import CLOSED_PIPE, Pause, Screen, Signals, Stop, complain
from .training.settings import Request, UsageError, parse
from .training.settings import parser as parser

if TYPE_CHECKING:
    from .training.run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; None for those of the process, which then ends with the command.

    Returns:
        Exit code: 0 done, 1 failed on the way, 2 wrong usage, 128 + number of the signal that ended it.
    """
    own = argv is None
    with Signals(own) as signals:
        screen = Screen(own)
        try:
            return _leave(_run(parse(argv), signals, screen), own)
        except (UsageError, OSError) as error:
            complain(str(error))
            return _leave(2, own)
        except (MemoryError, RuntimeError) as error:
            text = (str(error).splitlines() or ["not enough memory"])[0]
            if isinstance(error, RuntimeError) and "memory" not in text and "overflow" not in text:
                raise
            complain(f"this is too large here: {text}")
            return _leave(1, own)
        except KeyboardInterrupt:
            return _leave(128 + (signals.number or 2), own)


def _leave(code: int, own: bool) -> int:
    """The exit code; one of several processes goes here and now, because torch may wait for ever while it clears up."""
    if own and os.environ.get("WORLD_SIZE", "1") != "1":
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    return code


def _run(request: Request, signals: Signals, screen: Screen) -> int:
    import torch

    from .training.checkpoint import LAST, unpack
    from .training.run import Run
    from .training.team import Elsewhere, LostRank

    signals.ready()
    threads = torch.get_num_threads()
    run = None
    try:
        if request.resume is None:
            run = Run(request.fresh(), signals, screen)
        else:
            path = request.resume / LAST if request.resume.is_dir() else request.resume
            saved = unpack(path)
            run = Run(request.continued(saved["settings"], str(path)), signals, screen, saved)
        # before the run is forgotten: what waits is the clearing up of its gradients' buckets
        return _leave(_train(run, signals), signals.own)
    except Elsewhere:
        return _leave(2, signals.own)
    except LostRank as error:
        complain(str(error))
        return _leave(1, signals.own)
    finally:
        torch.set_num_threads(threads)
        if run is not None:
            run.close()


def _train(run: "Run", signals: Signals) -> int:
    from .training.team import LostRank

    onward = f"continue with: {run.how_to_continue()}"
    signals.patient = True
    try:
        try:
            run.train()
        except Pause as pause:
            run.note("paused", step=run.step)
            run.save()
            if run.team.first:
                say = complain if pause.number == CLOSED_PIPE else run.say
                say(f"paused after step {run.step:,}; {onward}")
            return 128 + pause.number
        signals.patient = False
        run.finish()
        return 0
    except LostRank as error:
        complain(f"{error}; the last checkpoint stands, {onward}")
    except FloatingPointError as error:
        complain(f"{error}; what was saved before stands")
    except OSError as error:
        complain(f"{error}; the last checkpoint stands, {onward}")
    except Stop:
        complain(f"stopped; the last checkpoint stands, {onward}")
        raise
    return 1


if __name__ == "__main__":
    sys.exit(main())
