"""Files that attack the audit: their import lies, floods, breaks, hides or hangs, and none is called right."""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from parity import warden
from parity.auditing import audit_file, wire
from parity.auditing.answers import BACKWARD, from_plain
from parity.judge.finding import Finding

SECONDS = 1
HANG = 60  # seconds that no attack may hold us up: a loaded machine is slow

WRONG = """
import numpy as np

class WeightSum:
    def forward(self, hs, a):
        self.cache = hs, a
        return np.einsum("nth,nt->nh", hs, a)

    def backward(self, dc):
        hs, a = self.cache
        return 2 * np.einsum("nt,nh->nth", a, dc), np.einsum("nth,nh->nt", hs, dc)
"""

FRAMES = """
import json, os, struct

def frame(*message):
    header = json.dumps(message).encode()
    return struct.pack("!I", len(header)) + header

def tell(data):
    for descriptor in range(3, 51):
        try:
            os.set_blocking(descriptor, False)
            os.write(descriptor, data)
        except OSError:
            pass

PLAIN = {"dict": {"findings": [], "remarks": [], "checked": 20, "witnessed": [], "given": None, "shapes": [],
                  "seconds": 0.1}}
RIGHT = frame("class", "WeightSum") + frame("result", PLAIN) + frame("ready")
"""

ATTACKS = {
    "a pickle that runs code": """
        import os, pickle, struct
        class Runs:
            def __reduce__(self):
                return os.mkdir, (MARK,)
        body = pickle.dumps(Runs())
        for descriptor in range(3, 51):
            for data in (body, struct.pack("!Q", len(body)) + body, struct.pack("!I", len(body)) + body):
                try:
                    os.set_blocking(descriptor, False)
                    os.write(descriptor, data)
                except OSError:
                    pass
        """,
    "garbage": FRAMES + "tell(bytes(range(256)) * 100)",
    "NULs": FRAMES + "tell(bytes(100_000)); print('\\0' * 1000, flush=True)",
    "a flood": FRAMES + "while True: tell(frame('remark', 'x' * 1000))",
    "a flood of output": "while True: print('\\0' * 100_000)",
    "an endless array": FRAMES + "tell(frame('remark', {'array': ['<f8', [1 << 40]]}))",
    "arrays without end": FRAMES + "tell(frame('remark', [{'array': ['<f8', [1 << 22]]}] * 1000))",
    "a header of 4 GB": FRAMES + "tell(b'\\xff' * 4)",
    "brackets without end": FRAMES + "tell(struct.pack('!I', 100_000) + b'[' * 100_000)",
    "a frame that breaks off": FRAMES + "tell(frame('remark', 'x' * 500)[:-100]); os._exit(0)",
    "an unknown word": FRAMES + "tell(frame('__init__', 1))",
    "classes without end": FRAMES + "[tell(frame('class', f'C{i}')) for i in range(10_000)]; os._exit(0)",
    "right, forged": FRAMES + "tell(RIGHT + frame('end')); os._exit(0)",
    "right, forged, and goes on": FRAMES + "tell(RIGHT)",
    "right, forged with its answers": FRAMES +
        "tell(RIGHT + frame('answer', 'lacks') * 40 + frame('end')); os._exit(0)",
    "right, forged with gradients": FRAMES + (
        "tell(RIGHT + frame('answer', 'outputs', [0.0]) + frame('answer', 'quantities', [0.0], {'dict': {}}, [], True)"
        " + frame('end')); os._exit(0)"),
    "closed descriptors": "import os; os.closerange(0, 100)",
    "os._exit": "import os; os._exit(0)",
    "sys.exit": "import sys; sys.exit(0)",
    "a signal to the group": "import os, signal; os.killpg(0, signal.SIGKILL)",
    "a signal to its parent's group": "import os, signal; os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)",
    "a signal to its parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "a stopped parent": "import os, signal; os.kill(os.getppid(), signal.SIGSTOP); os._exit(0)",
    "a child that holds the pipe": "import os, time\nif os.fork() == 0: time.sleep(600)\nelse: os._exit(0)",
    "a child in a session of its own":
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(600)\n    os._exit(0)\n",
    "a child that spins": "import os\nif os.fork() == 0:\n    while True: pass\n",
    "a program in a session of its own":
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], env={},"
        " start_new_session=True)\n",
    "an endless loop": "while True: pass",
    "100 GB": "x = bytearray(100 << 30)",
    "replaced builtins": "import builtins; builtins.abs = builtins.sum = builtins.all = lambda *a, **k: True",
    "replaced json": "import json; json.dumps = lambda *a, **k: '[\"end\"]'",
    "replaced numpy": "import numpy as np; np.allclose = np.array_equal = lambda *a, **k: True; np.abs = np.zeros_like",
    "replaced checks": """
        from parity.auditing import checks
        checks._within = lambda *a, **k: True
        checks.Examination.add = lambda self, finding: None
        """,
    "a replaced examination": """
        from parity.auditing import checks
        checks.Examination.run = lambda self: self.result
        """,
    "a replaced answer": """
        from parity.auditing import checks, confirm
        import numpy as np
        checks.Examination.run = lambda self: self.result
        def answer(subject, request):
            if request[0] == "moved":
                return ["outputs", [np.zeros((3, 2))]]
            return ["quantities", [np.zeros((3, 2))], {"hs": np.zeros((3, 5, 2)), "a": np.zeros((3, 5))}, ["hs", "a"],
                    False]
        confirm.answer = answer
        """,
    "a signal handler": "import signal; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 13, 15)]",
    "an exit function": "import atexit, time; atexit.register(time.sleep, 600)",
    "a thread": "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
}


@pytest.fixture
def attack(tmp_path):
    """Writes the file of an attack; afterwards, nothing of it may live, and no code have run here."""
    mark = tmp_path / "code ran in the parent"

    def write(name):
        file = tmp_path / "mine.py"
        file.write_text(f"MARK = {str(mark)!r}\n" + textwrap.dedent(ATTACKS[name]) + "\n" + WRONG)
        return file

    ours = set(warden.children(os.getpid()))
    yield write
    assert not mark.exists()
    assert set(warden.children(os.getpid())) == ours
    assert not left(tmp_path), left(tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_not_right(attack, name):
    started = time.monotonic()
    report = audit_file(attack(name), seconds=SECONDS, memory=1024, autograd=False)
    told(report.exit_code, str(report))
    assert time.monotonic() - started < HANG


@pytest.mark.parametrize("name", ["a pickle that runs code", "NULs", "a flood", "right, forged", "closed descriptors"])
def test_attack_on_the_command(attack, name):
    file = attack(name)
    run = subprocess.run(
        [sys.executable, "-m", "parity", "audit", str(file), "--seconds", str(SECONDS), "--no-autograd"],
        capture_output=True, timeout=HANG, check=False)
    assert run.stderr == b""
    told(run.returncode, run.stdout.decode())


def told(code, said):
    assert code in (1, 2), said
    assert "): right" not in said and "WeightSum: right" not in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) < 40
    assert re.search(r"[a-z]{3}", said) and "\0" not in said


def left(folder):
    """Processes that still run in a folder, after a moment in which they may end."""
    until = time.monotonic() + 5
    while True:
        found = [p.parent.name for p in Path("/proc").glob("[0-9]*/cwd") if _link(p) == str(folder)]
        found = [pid for pid in found if pid != str(os.getpid())]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.02)


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


class Liar:
    """The file's process of an attack, played here: gives the messages that it is told to."""

    def __init__(self, *messages):
        reading, self.writing = os.pipe()
        self.link = wire.Link(reading)
        os.write(self.writing, b"".join(messages))
        os.close(self.writing)


TREE = ["result", {"a": np.arange(6.0).reshape(2, 3), "b": [None, True, 3, 0.5, "x", np.array(True), np.zeros((0, 4))],
                   "c": np.ones((), np.longdouble), "d": np.array([1 + 2j]), "e": {"f": np.int64(7)}}]


def test_messages_come_as_they_went():
    got = Liar(wire.encode(TREE)).link.receive()
    assert got[0] == "result" and got[1]["e"] == {"f": 7}
    for name in "acd":
        assert got[1][name].dtype == TREE[1][name].dtype and np.array_equal(got[1][name], TREE[1][name])
    assert got[1]["b"][:5] == TREE[1]["b"][:5] and got[1]["b"][6].shape == (0, 4)


def header(tree, body=b""):
    text = tree if isinstance(tree, bytes) else tree.encode()
    return wire.LENGTH.pack(len(text)) + text + body


MALFORMED = {
    "no list": header("3"),
    "an empty list": header("[]"),
    "no word": header("[1]"),
    "no JSON": header("["),
    "no UTF-8": header(b"\xff\xfe"),
    "deep": header("[" * 50_000),
    "a number without end": header("[\"x\", " + "9" * 10_000 + "]"),
    "an unknown tag": header('["x", {"pickle": "b"}]'),
    "two tags": header('["x", {"dict": {}, "array": ["<f8", [1]]}]', bytes(8)),
    "an unknown dtype": header('["x", {"array": ["|O", [1]]}]', bytes(8)),
    "a dtype of fields": header('["x", {"array": [[["a", "<f8"]], [1]]}]', bytes(8)),
    "a negative size": header('["x", {"array": ["<f8", [-1]]}]', bytes(8)),
    "a size that is true": header('["x", {"array": ["<f8", [true]]}]', bytes(8)),
    "too many axes": header('["x", {"array": ["<f8", [' + ",".join("1" * 40) + "]]}]", bytes(8)),
    "too large": header('["x", {"array": ["<f8", [4611686018427387904, 4]]}]'),
    "large beside empty": header('["x", {"array": ["<f8", [0, 4611686018427387904]]}]'),
    "a truth value of 2": header('["x", {"array": ["|b1", [1]]}]', b"\2"),
    "an array that breaks off": header('["x", {"array": ["<f8", [2]]}]', bytes(8)),
    "a length of nothing": bytes(4),
    "a length that breaks off": bytes(3),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_message_is_refused(name):
    with pytest.raises(wire.Malformed):
        Liar(MALFORMED[name]).link.receive()


def test_what_nobody_sends_is_waited_for_no_longer_than_allowed():
    reading, writing = os.pipe()
    link = wire.Link(reading, writing)
    link.allow(0.05)
    with pytest.raises(TimeoutError):
        link.receive()
    with pytest.raises(TimeoutError):
        link.send("x", np.zeros(1 << 20))  # and nobody reads


def test_all_that_is_sent_is_limited():
    reading, writing = os.pipe()
    link = wire.Link(reading, writing, total=100)
    with pytest.raises(wire.Malformed, match="more than may be sent"):
        for _ in range(100):
            link.send("x")
            link.receive()


@pytest.mark.parametrize("change", [
    {"severity": "none"}, {"verdict": "right"}, {"index": [-1]}, {"index": [0.5]}, {"values": {"a": "b"}},
    {"distance": "far"}, {"expected": [1.0]}, {"detail": None}, {"maker": "x"}, {"words": 3}], ids=str)
def test_what_is_no_finding_is_refused(change):
    plain = Finding("gradient", "grad.x", BACKWARD, index=(1, 2), values={"a": np.float64(1)}).to_plain()
    assert from_plain(plain).index == (1, 2)
    with pytest.raises(ValueError, match="finding"):
        from_plain(plain | change)


def test_steering_characters_are_not_printed():
    told = Liar(wire.encode(["remark", "a\x1b[31mb\0c\nd"])).link.receive()
    assert told == ["remark", "a\ufffd[31mb\ufffdc\nd"]


AGAIN = """
import sys
if "parity" not in sys.modules:  # in the script that shows a finding
    import os, time
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
"""


@pytest.mark.parametrize("then", ["while True: pass", "x = bytearray(100 << 30)", "os.killpg(0, 9)"])
def test_a_script_runs_within_the_limits(tmp_path, then):
    (tmp_path / "mine.py").write_text(f"{AGAIN}    {then}\n{WRONG}")
    report = audit_file(tmp_path / "mine.py", seconds=20, memory=1024, autograd=False)
    assert report.exit_code == 1
    for finding in report.findings:
        finding.maker.seconds = SECONDS
    assert report.script() == ""
    assert not left(tmp_path)
