"""The picture of the shares of the budget by size."""

import builtins

import numpy as np
import pytest

from parity.cli import main
from parity.engine import Outcome
from parity.trust import shares
from parity.trust.shares import Shares

CHECK = ["check", "--layer", "Affine", "--lane", "cpu-float32", "--cases", "6", "--jobs", "1", "--plot"]


def outcome(sizes, share, layer="Softmax"):
    return Outcome(f"p2:{layer}:{sizes}:normal:1:C::0", layer, "cpu-float32", shares={"y": share, "grad.x": 0.01})


def test_the_largest_share_of_each_size_is_kept():
    found = Shares()
    for one in (outcome("lead=2x3,V=64", 0.2), outcome("lead=2,V=63", 0.3), outcome("lead=-,V=1", 0.1),
                outcome("N=0,V=2", None, "Other")):
        found.add(one)
    assert found.cases == 4 and found.largest["V"]["Softmax"] == {6: 0.3, 0: 0.1}
    assert found.largest["lead"]["Softmax"] == {1: 0.3, 2: 0.2}
    assert found.largest["V"]["Other"] == {1: 0.01} and not found.largest["N"]["Other"]


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_check_draws_it(tmp_path, capsys, ending, begins):
    file = tmp_path / f"shares.{ending}"
    assert main([*CHECK, str(file)]) == 0
    assert file.read_bytes().startswith(begins) and [p.name for p in tmp_path.iterdir()] == [file.name]
    assert "all within budget" in capsys.readouterr().out


def test_every_layer_has_a_line_in_each_of_its_panels_beside_the_limit(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *where, **how: (drawn.append(self), save(self, *where, **how)))
    found = Shares()
    for layer, scale in (("Affine", 0.1), ("LSTM", 0.2)):
        for size in (1, 8, 1025):
            found.add(outcome(f"N={size},H=3", scale * np.log2(size + 1) / 3, layer))
    found.add(outcome("N=2,H=70000", np.inf, "Affine"))
    found.write(str(tmp_path / "a.png"))
    panels = {panel.get_title(): panel for panel in drawn[0].axes if panel.get_title()}
    assert set(panels) == {"N", "H"}
    for panel in panels.values():
        lines = {line.get_label(): line for line in panel.get_lines()}
        assert {"Affine", "LSTM"} < set(lines) and panel.get_xscale() == "log"
        assert any(list(line.get_ydata()) == [1, 1] for line in lines.values())
    assert max(panels["H"].get_lines()[0].get_ydata()) == shares.TOP < panels["H"].get_ylim()[1]
    assert list(panels["N"].get_lines()[1].get_xdata()) == [1, 8, 1024]


def test_where_nothing_was_judged_it_is_empty(tmp_path):
    Shares().write(str(tmp_path / "a.svg"))
    assert (tmp_path / "a.svg").stat().st_size


@pytest.mark.parametrize(("path", "words"), [("a.jpg", "expected a file that ends in .png or .svg"), ("a", "ends in"),
                                             ("nowhere/a.png", "cannot be written, there is no folder"),
                                             ("folder.png", "is a folder")])
def test_a_path_that_is_none_is_refused_before_the_work(tmp_path, monkeypatch, capsys, path, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("parity.engine.check", None)
    with pytest.raises(SystemExit, match="2"):
        main([*CHECK, path])
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_without_matplotlib_it_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SystemExit, match="2"):
        main([*CHECK, str(tmp_path / "a.png")])
    assert "--plot needs matplotlib: python -m pip install matplotlib" in capsys.readouterr().err


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(b"before")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        Shares().write(str(file))
    assert file.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["a.png"]
