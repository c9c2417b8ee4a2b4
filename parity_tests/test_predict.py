"""A trained model's directory, and what answers with it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_port
from torch_port import predict, train
from torch_port.trained import TOGETHER, Card, TrainedModel, read_card

SMALL = ["--hidden-size", "16", "--batch-size", "20", "--epochs", "8", "--lr", "0.02", "--no-plots"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One, two or three letters in, the same out, by each model: learnt in a second, not by heart."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), n)) for n in rng.integers(1, 4, 300)]
    path = tmp_path_factory.mktemp("data")
    (path / "echo.txt").write_text("".join(f"{text}_{text}\n" for text in texts), encoding="utf-8")
    for name in ("attention", "plain"):
        assert train.main([name, *SMALL, "--data", str(path / "echo.txt"), "--out", str(path / name)]) == 0
    (path / "echo.txt").unlink()  # nobody needs the training data
    return path


@pytest.fixture
def folder(folders):
    return folders / "attention"


@pytest.fixture
def run(folder, capsys, tmp_path):
    """Answers lines from a file; gives exit code and both outputs."""

    def run(text, *arguments, model=folder):
        path = tmp_path / "questions.txt"
        path.write_bytes(text)
        code = predict.main([str(model), str(path), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_a_line_in_a_line_out(run):
    assert run(b"ab\ncba\na\n") == (0, "ab\ncba\na\n", "")
    assert run(b"\xef\xbb\xbfab\r\ncba") == (0, "ab\ncba\n", "")
    assert run(b"") == (0, "", "")
    many = b"".join(bytes(c) + b"\n" for c in zip(b"abc" * 200, b"bca" * 200, strict=True))
    assert run(many) == (0, many.decode(), "")


def test_a_line_that_cannot_be_answered_is_an_empty_one_and_the_others_are_not_lost(run):
    code, out, err = run(b"ab\na#b\n\xff\na_a\nba\n")
    assert code == 1 and out == "ab\n\n\n\nba\n"
    first, second, third = err.splitlines()
    assert first == "parity-predict: line 2: '#' (U+0023) in 'a#b' is not in the model's vocabulary"
    assert second.startswith("parity-predict: line 3: not UTF-8: ")
    assert third == "parity-predict: line 4: '_' in 'a_a' begins an answer, and no question may hold it"


def test_scores_are_log_probabilities(run, folder):
    code, out, _ = run(b"ab\nc\n", "--scores")
    model = torch_port.load_model(folder)
    assert code == 0
    for line, question in zip(out.splitlines(), ("ab", "c"), strict=True):
        text, score = line.split("\t")
        assert text == question and -1 < float(score) < 0
        # the same, one character after the other
        start = model.card.characters.index("_")
        ids, total = [start], 0.0
        for c in text.ljust(model.card.answer_length):
            chances = model.model.score(torch.tensor([model.encode(question)]), torch.tensor([ids]))[0, -1].softmax(-1)
            ids.append(model.card.characters.index(c))
            total += chances[ids[-1]].log().item()
        assert float(score) == pytest.approx(total, rel=1e-4)


def test_a_beam_finds_the_most_probable_answer(run, folder):
    model = torch_port.load_model(folder)
    start, V, U = model._ids["_"], len(model.card.characters), model.card.answer_length
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.model.parameters():  # so unsure that the greedy answer is not the best
            parameter.copy_(torch.randn_like(parameter) / 2)
    every = torch.cartesian_prod(*[torch.arange(V)] * U)
    ts_in = torch.cat((torch.full_like(every[:, :1], start), every[:, :-1]), dim=1)
    questions, better = [a + b + c for a in "abc" for b in "abc" for c in "abc"], 0
    for question, greedy, found in zip(questions, model.answers(questions), model.answers(questions, beam=V**U),
                                       strict=True):
        xs = torch.tensor([model.encode(question)]).expand(len(every), -1)
        with torch.no_grad():
            chances = model.model.score(xs, ts_in).log_softmax(-1).gather(2, every[:, :, None]).sum(dim=(1, 2))
        assert found.text == model._text(every[chances.argmax()].tolist()).rstrip()
        assert found.score == pytest.approx(chances.max().item(), rel=1e-4)
        better += found.score > greedy.score + 1e-3
    assert better, better
    assert run(b"ab\ncba\n", "--beam", 3) == run(b"ab\ncba\n") == (0, "ab\ncba\n", "")
    code, out, err = run(b"ab\n", "--beam", 0)
    assert (code, out) == (2, "") and "argument --beam: '0', expected >= 1" in err


def test_attention_is_drawn(run, folder, tmp_path):
    code, out, err = run(b"ab\ncba\n#\n", "--attention", tmp_path / "look.png")
    assert (code, out) == (1, "ab\ncba\n\n") and err.count("\n") == 1
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")
    looks = torch_port.load_model(folder).look(["ab", "cba"])
    assert [(question, answer) for question, answer, _ in looks] == [("ab ", "ab "), ("cba", "cba")]
    assert all(weights.shape == (3, 3) and weights.sum(axis=1) == pytest.approx(1) for _, _, weights in looks)


def test_three_lines_of_python(folder):
    model = torch_port.load_model(folder)
    assert model(["ab", "cba", "a"]) == ["ab", "cba", "a"]
    assert model([]) == []
    with pytest.raises(TypeError, match="questions is the str 'ab', expected a list"):
        model("ab")
    with pytest.raises(TypeError, match="question is a int, expected a str"):
        model([3])
    with pytest.raises(ValueError, match=r"'#' \(U\+0023\)"):
        model(["#"])


def test_the_directory_needs_nothing_else(folder, tmp_path):
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert torch_port.load_model(tmp_path)(["ab"]) == ["ab"]


def test_answers_come_as_the_questions_do(folder):
    command = [sys.executable, "-m", "torch_port.predict", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=Path(torch_port.__file__).parents[1]) as process:
        for question in ("ab", "cba"):
            process.stdin.write(question + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == question + "\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_a_reader_that_goes_away_ends_it_in_silence(run, monkeypatch):
    class Gone:
        encoding = "utf-8"

        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

        flush = close = write

    monkeypatch.setattr(sys, "stdout", Gone())
    code = run(b"ab\n" * 3)[0]
    assert code == 128 + 13


@pytest.mark.parametrize(("arguments", "words"), [
    (["nowhere"], "No such file or directory: 'nowhere/model.json'"), ([], "the following arguments are required"),
    (["FOLDER", "nowhere.txt"], "No such file or directory: 'nowhere.txt'"),
    (["FOLDER", "--threads", "0"], "argument --threads: '0', expected >= 1"),
    (["PLAIN", "--attention", "x.png"], "a Seq2seq has no attention to look at"),
])
def test_wrong_usage_is_one_line(folders, capsys, arguments, words):
    places = {"FOLDER": str(folders / "attention"), "PLAIN": str(folders / "plain")}
    assert predict.main([places.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("parity-predict: ") and words in err


CARD = {"format": "torch_port model 1", **Card("plain", 2, 3, "ab_", 4, 5, True)._asdict()}


@pytest.mark.parametrize(("change", "words"), [
    (None, "not JSON"), ([], "format None, expected 'torch_port model 1'"), ({"format": "2"}, "format '2'"),
    ({"model": "large"}, "model is 'large', expected one of attention, peeky, plain"),
    ({"hidden_size": 0}, "hidden_size is 0, expected int"), ({"hidden_size": True}, "hidden_size is True"),
    ({"reverse": 1}, "reverse is 1, expected bool"), ({"characters": "aba"}, "expected each once, '_' among them"),
    ({"characters": "ab"}, "expected each once, '_' among them"), ({"start": "ab"}, "start is 'ab'"),
    ({"code": "import os"}, "unknown code"),
], ids=str)
def test_a_spoilt_card_is_refused(tmp_path, change, words):
    path = tmp_path / "model.json"
    path.write_text("{" if change is None else json.dumps(CARD | change if isinstance(change, dict) else change))
    with pytest.raises(ValueError, match=r"model\.json") as caught:
        read_card(path)
    assert words in str(caught.value)


def test_weights_of_another_model_are_refused(folders, tmp_path):
    (tmp_path / "model.json").write_bytes((folders / "plain" / "model.json").read_bytes())
    weights = (folders / "attention" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"model\.safetensors: .*affine"):
        torch_port.load_model(tmp_path)
    (tmp_path / "model.json").write_bytes((folders / "attention" / "model.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"not a \.safetensors file"):
        torch_port.load_model(tmp_path)


def test_as_many_answers_as_questions_come_back_around_every_full_batch(folder):
    model = torch_port.load_model(folder)
    two = [model.answers([question])[0] for question in ("ab", "cb")]
    for size in (TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER + 1):
        found = model.answers(["ab", *["cb"] * (size - 2), "ab"])
        assert [a.text for a in found] == [two[0].text, *[two[1].text] * (size - 2), two[0].text]
        assert model(["cb"] * size) == [two[1].text] * size


def test_questions_of_many_lengths_come_back_in_their_order(folder):
    model = torch_port.load_model(folder)
    questions = ["ab", "abcabc", "c", "abcab", "ba", "abcabc"]
    one_by_one = [model.answers([question])[0] for question in questions]
    together = model.answers(questions)
    assert [a.text for a in together] == [a.text for a in one_by_one]
    assert [a.score for a in together] == pytest.approx([a.score for a in one_by_one], rel=1e-4)


def test_a_model_that_knows_nothing_to_fill_up_with_refuses_shorter_questions_and_takes_others():
    card = Card("plain", 3, 4, "ab_", question_length=2, answer_length=2, reverse=False)
    model = TrainedModel(card.build(), card)
    assert model.encode("ab") == [0, 1] and model.encode("aba") == [0, 1, 0]
    with pytest.raises(ValueError, match="'a' has 1 characters, expected at least 2, as in training"):
        model.encode("a")


def test_questions_go_to_the_device_of_the_model():
    card = Card("plain", 3, 4, "ab_ ", question_length=2, answer_length=2, reverse=False)
    ((places, ids),) = TrainedModel(card.build().to("meta"), card)._batches(["ab", "b"])
    assert places == [0, 1] and ids.device.type == "meta" and ids.shape == (2, 2)
