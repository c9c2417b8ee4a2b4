"""The date data set: how a file is read, and what the generator writes."""

import datetime
import errno
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from reference.data import MONTHS, WEEKDAYS, date_lines, encode_lines, load_data, write_atomically, write_dates

LINES = 50_000
FORMATS = {
    "M/D/YY": r"\d{1,2}/\d{1,2}/\d\d",
    "Mon D, YYYY": rf"({'|'.join(m[:3] for m in MONTHS)}) \d{{1,2}}, \d{{4}}",
    "Month D, YYYY": rf"({'|'.join(MONTHS)}) \d{{1,2}}, \d{{4}}",
    "Weekday, Month D, YYYY": rf"({'|'.join(WEEKDAYS)}), ({'|'.join(MONTHS)}) \d{{1,2}}, \d{{4}}",
}


@pytest.fixture(scope="module")
def lines():
    return date_lines(LINES)


@pytest.fixture(scope="module")
def pairs(lines):
    """Each line's question without its padding, and its date."""
    return [(line[:29].rstrip(" "), datetime.date.fromisoformat(line[30:])) for line in lines]


def write(path, text):
    path.write_bytes(text.encode())
    return path


# --- load_data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", ""], ids=["newline", "no-newline"])
def test_characters_are_numbered_as_they_appear(tmp_path, end):
    (x, t), (x_test, t_test), vocabulary = load_data(write(tmp_path / "data", "ba _1\nacb_a" + end), seed=None)
    assert list(vocabulary.char_to_id) == ["b", "a", " ", "_", "1", "c"]
    assert list(vocabulary.char_to_id.values()) == [*range(6)]
    assert vocabulary.id_to_char == {i: c for c, i in vocabulary.char_to_id.items()}
    assert x.tolist() == [[0, 1, 2], [1, 5, 0]]
    assert t.tolist() == [[3, 4], [3, 1]]
    assert x_test.shape == (0, 3)
    assert t_test.shape == (0, 2)
    assert {a.dtype for a in (x, t, x_test, t_test)} == {np.dtype(np.int64)}


@pytest.mark.parametrize("size", [1, 9, 10, 37, 100])
@pytest.mark.parametrize("seed", [None, 1984, 7])
def test_rows_are_shuffled_by_the_legacy_generator_and_the_last_tenth_is_kept(tmp_path, size, seed):
    path = write(tmp_path / "data", "\n".join(f"{i:03}_{i:03}" for i in range(size)))
    train, test, vocabulary = load_data(path) if seed == 1984 else load_data(path, seed=seed)
    order = np.arange(size)
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    assert len(test[0]) == len(test[1]) == size // 10
    for found, skip in zip(zip(train, test, strict=True), (0, 1), strict=True):
        rows = np.concatenate(found)[:, skip:]
        assert [int("".join(vocabulary.id_to_char[i] for i in row)) for row in rows.tolist()] == order.tolist()


@pytest.mark.parametrize(("text", "words"), [
    ("", ": no lines"),
    ("a_1\nb-2\n", "line 2: no '_' in 'b-2'"),
    ("a_1\n\n", "line 2: no '_' in ''"),
    ("a_1\nb_2\nbc_3", r"line 3: 2 \+ 2 characters, expected 1 \+ 2 as in line 1"),
    ("a_1\nb_23", r"line 2: 1 \+ 3 characters, expected 1 \+ 2 as in line 1"),
], ids=["empty", "no-answer", "blank", "question", "answer"])
def test_a_file_that_is_no_data_set_is_refused_by_line(tmp_path, text, words):
    path = write(tmp_path / "data", text)
    with pytest.raises(ValueError, match=words) as caught:
        load_data(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_data(tmp_path / "none")


# --- the generator ------------------------------------------------------------------------------------------


def test_the_task_has_29_and_11_characters_and_59_symbols(lines):
    assert {(len(line), line[29]) for line in lines} == {(29 + 11, "_")}
    assert all(re.fullmatch(r"_\d{4}-\d\d-\d\d", line[29:]) for line in lines)
    assert len(set("".join(lines))) == 59


def test_dates_are_uniform_from_the_first_to_the_last_day(pairs):
    first, last = datetime.date(1970, 1, 1), datetime.date(2017, 12, 31)
    days = Counter((date - first).days for _, date in pairs)
    assert min(days) >= 0
    assert max(days) <= (last - first).days
    # a day is missed with probability exp(-50,000 / 17,532); 20 days at both ends all with exp(-57)
    assert min(days) < 20
    assert max(days) > (last - first).days - 20
    # 48 years, within 5 standard deviations of a binomial count
    years = Counter(date.year for _, date in pairs)
    assert len(years) == 48
    assert all(abs(n - LINES / 48) < 5 * (LINES / 48) ** 0.5 for n in years.values())


@pytest.mark.parametrize("year", [1970, 2017])
def test_the_first_and_the_last_day_occur(year):
    end = {1970: "_1970-01-01", 2017: "_2017-12-31"}[year]
    # half a million draws from 17,532 days miss one with probability exp(-28)
    assert any(line.endswith(end) for seed in range(1, 11) for line in date_lines(LINES, seed))


def test_formats_and_cases_have_their_shares(pairs):
    def share(count, expected):
        # 5 standard deviations of a binomial share
        return abs(count / LINES - expected) <= 5 * (expected * (1 - expected) / LINES) ** 0.5

    formats = Counter()
    for question, _ in pairs:
        found = [name for name, pattern in FORMATS.items() if re.fullmatch(pattern, question, re.IGNORECASE)]
        formats["+".join(found)] += 1
    may = sum(date.month == 5 for _, date in pairs) / LINES  # "May" is its own abbreviation
    assert set(formats) == {*FORMATS, "Mon D, YYYY+Month D, YYYY"}
    assert share(formats["M/D/YY"], 1 / 4)
    assert share(formats["Weekday, Month D, YYYY"], 1 / 4)
    assert share(formats["Mon D, YYYY+Month D, YYYY"], may / 2)
    assert share(formats["Mon D, YYYY"], (1 - may) / 4)
    assert share(formats["Month D, YYYY"], (1 - may) / 4)
    words = [question for question, _ in pairs if "/" not in question]
    cases = Counter("lower" if q == q.lower() else "upper" if q == q.upper() else "as written" for q in words)
    lettered = len(words) / LINES
    assert share(cases["as written"], lettered / 2)
    assert share(cases["lower"], lettered / 4)
    assert share(cases["upper"], lettered / 4)


def test_every_question_says_its_date(pairs):
    for question, date in pairs[:5_000]:
        if "/" in question:
            assert question == f"{date.month}/{date.day}/{date.year % 100:02}"
        else:
            *weekday, month, day, year = re.split(r",? ", question.title())
            assert weekday in ([], [WEEKDAYS[date.isoweekday() - 1]])
            assert month in (MONTHS[date.month - 1], MONTHS[date.month - 1][:3])
            assert (int(day), int(year)) == (date.day, date.year)


def test_the_seed_decides():
    assert date_lines(100, seed=1) == date_lines(100, seed=1) != date_lines(100, seed=2)
    assert date_lines(100) == date_lines(100, seed=0)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match=f"size is {size}, expected >= 1"):
        write_dates(tmp_path / "dates", size)
    assert not list(tmp_path.iterdir())


# --- writing ------------------------------------------------------------------------------------------------


def test_a_written_file_is_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dates("dates", 200, seed=3)  # a name without a directory
    assert (tmp_path / "dates").read_bytes().decode() == "".join(f"{line}\n" for line in date_lines(200, seed=3))
    (x, t), (x_test, _), vocabulary = load_data("dates", seed=None)
    assert (x.shape, t.shape, x_test.shape) == ((180, 29), (180, 11), (20, 29))
    read = ["".join(vocabulary.id_to_char[i] for i in row) for row in np.concatenate((x, t), axis=1).tolist()]
    assert read == date_lines(200, seed=3)[:180]


@pytest.mark.parametrize("broken", ["chmod", "replace"])
def test_a_failing_write_leaves_what_was_there(tmp_path, monkeypatch, broken):
    path = write(tmp_path / "dates", "old")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space left on device", "a name of our own")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match=f"no space left on device: '{path}'"):
            write_dates(path, 10)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_dates(path, 10)
    assert len(path.read_text().splitlines()) == 10
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_a_written_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "file").chmod(0o600)
    write_atomically(tmp_path / "file", b"replaced")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="the umask is POSIX's")
def test_writing_leaves_the_umask_of_the_process_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("another thread would make files with these rights"))
    write_atomically(tmp_path / "file", b"")


@pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")
def test_what_is_no_ordinary_file_stays_what_it_is(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "link").symlink_to("../there")
    for text in (b"first", b"second"):  # to a target that is not there yet, and to one that is
        write_atomically(here / "link", text)
        assert (here / "link").is_symlink() and there.read_bytes() == text
    assert sorted(tmp_path.iterdir()) == [here, there] and list(here.iterdir()) == [here / "link"]

    os.mkfifo(here / "pipe")
    reader = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(here / "pipe", b"through")
    assert os.read(reader, 100) == b"through" and (here / "pipe").is_fifo()
    os.close(reader)

    control, device = os.openpty()  # no file can be made beside it, whatever this does
    write_atomically(os.ttyname(device), b"shown")
    assert os.read(control, 100) == b"shown"
    os.close(control)
    os.close(device)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd/1"), reason="standard output has a name of its own on Linux")
@pytest.mark.parametrize("path", ["stdout", "printed"])
def test_what_is_written_to_standard_output_comes_after_what_was_printed(tmp_path, path):
    code = "import sys; from reference.data import write_atomically as w; print(1); w(sys.argv[1], b'2'); print(3)"
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    with open(tmp_path / "printed", "w") as file:
        subprocess.run([sys.executable, "-c", code, path], stdout=file, cwd=tmp_path, check=True)
    assert (tmp_path / "printed").read_text() == "1\n23\n"


def test_lines_may_be_an_iterator_and_none_is_refused():
    lines = ["1+1_2", "1+2_3"]
    (x, _), _, _ = encode_lines(iter(lines), None)
    assert np.array_equal(x, encode_lines(lines, None)[0][0])
    with pytest.raises(ValueError, match="no lines"):
        encode_lines(iter([]))
