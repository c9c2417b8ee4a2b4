"""A standalone program for a finding: literal small arrays, NumPy, the user's class, and an assertion that fails.

It is made for the sizes of the finding, then for smaller ones while it still shows the same, and run each time.
"""

import ast
import inspect
import os
import re
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.case import parse
from ..judge.finding import Finding
from ..spec.axes import axes
from ..spec.spec import Spec
from . import notebooks, samples, sandbox
from .answers import Audited
from .shown import program
from .subject import FunctionLayer, Sample, Subject, quantities

DIGITS = 2  # behind the point of a number in a script

HEAD = '''"""{title}"""
import numpy as np

{imports}

{arrays}


def run():
    np.random.seed(0)
{make}
    return layer, layer.forward({inputs})


'''

NUMERICAL = '''def loss():
    outputs = run()[1]
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum(np.sum(o * c) for o, c in zip(outputs, ({cotangents},)))


layer, _ = run()
returned = layer.backward({cotangents})
gradient = np.array({gradient})

expected = np.zeros({array}.shape)
for i in np.ndindex({array}.shape):
    before = {array}[i]
    {array}[i] = before + {step}
    up = loss()
    {array}[i] = before - {step}
    expected[i] = (up - loss()) / (2 * {step})
    {array}[i] = before

print("backward:", gradient, "numerical derivative:", expected, sep="\\n")
assert np.allclose(gradient, expected, rtol={tolerance}, atol={tolerance})
'''

OTHERS = {
    "forward": '''_, outputs = run()
outputs = outputs if isinstance(outputs, tuple) else (outputs,)
expected = {expected}
print("forward:", outputs[{place}], "canonical:", expected, sep="\\n")
assert np.shape(outputs[{place}]) == np.shape(expected) and np.allclose(outputs[{place}], expected)
''',
    "replaced": '''layer, _ = run()
before = list(layer.grads)
layer.backward({cotangents})
print("the same arrays:", [a is b for a, b in zip(before, layer.grads)])
assert all(a is b for a, b in zip(before, layer.grads))
''',
    "accumulated": '''layer, _ = run()
layer.backward({cotangents})
first = [g.copy() for g in layer.grads]
layer.forward({inputs})
layer.backward({cotangents})
print("first:", first, "second, of the same:", layer.grads, sep="\\n")
assert all(np.allclose(a, b) for a, b in zip(first, layer.grads))
''',
    "second-backward": '''layer, _ = run()
first = layer.backward({cotangents})
first = [np.array(g) for g in (first if isinstance(first, tuple) else (first,)) if g is not None]
first += [g.copy() for g in getattr(layer, "grads", [])]
second = layer.backward({cotangents})
second = [np.array(g) for g in (second if isinstance(second, tuple) else (second,)) if g is not None]
second += [g.copy() for g in getattr(layer, "grads", [])]
print("first:", first, "second:", second, sep="\\n")
assert all(np.allclose(a, b) for a, b in zip(first, second))
''',
    "mutated": '''given = [{inputs}]
cotangents = [{cotangents}]
before = [np.array(a) for a in given + cotangents]
layer, _ = run()
layer.backward(*cotangents)
print("before:", before, "after:", given + cotangents, sep="\\n")
assert all(np.array_equal(a, b) for a, b in zip(before, given + cotangents))
''',
    "state-kept": '''layer, first = run()
first = np.array(first)
second = np.array(layer.forward({inputs}))
print("first:", first, "second, of the same:", second, sep="\\n")
assert np.allclose(first, second)
''',
    "float32": '''layer, outputs = run()
returned = layer.backward({cotangents})
found = [*(outputs if isinstance(outputs, tuple) else (outputs,))]
found += returned if isinstance(returned, tuple) else (returned,)
print("dtypes:", [np.asarray(a).dtype for a in found])
assert all(np.asarray(a).dtype == np.float64 for a in found if a is not None)
''',
    "overflow": '''layer, outputs = run()
returned = layer.backward({cotangents})
found = [*(outputs if isinstance(outputs, tuple) else (outputs,))]
found += [g for g in (returned if isinstance(returned, tuple) else (returned,)) if g is not None]
print(found)
assert all(np.isfinite(a).all() for a in found)
''',
    "linear": '''layer, _ = run()
returned = layer.backward({zeros})
found = [g for g in (returned if isinstance(returned, tuple) else (returned,)) if g is not None]
found += getattr(layer, "grads", [])
print("gradients of a zero cotangent:", found)
assert not any(np.any(g) for g in found)
''',
    "raised": '''layer, _ = run()
layer.backward({cotangents})
layer.forward({inputs})
''',
    "shape": '''layer, _ = run()
returned = layer.backward({cotangents})
gradient = {gradient}
print("shape of the gradient:", np.shape(gradient), "of its array:", {array}.shape)
assert np.shape(gradient) == {array}.shape
''',
    "count": '''layer, outputs = run()
returned = layer.backward({cotangents})
print("number of gradients:", 0 if returned is None else len(returned) if isinstance(returned, tuple) else 1)
print("expected:", {count})
assert (0 if returned is None else len(returned) if isinstance(returned, tuple) else 1) == {count}
''',
}


MAKING = (
    "layer = {name}({params})",
    "layer = {name}()\nfor p, value in zip(layer.params, [{params}]):\n    p[...] = value",
)

NOTEBOOK = '''import json

{text}

namespace = {{"__name__": "notebook"}}
with open({path!r}, encoding="utf-8") as file:
    cells = list(code_cells(json.load(file)))
for _, source in cells:
    try:
        exec(plain(source)[0], namespace)
    except BaseException as error:
        print("a cell failed:", error)
{name} = namespace[{name!r}]'''

ADAPTER = '''


class Adapted:
    def __init__(self, *params):
        self.params, self.grads = list(params), [np.zeros_like(p) for p in params]

    def forward(self, *inputs):
        *outputs, self.cache = {forward}(*inputs, *self.params)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def backward(self, *cotangents):
        found = {backward}(*cotangents, self.cache)
        found = list(found) if isinstance(found, tuple) else [found]
        for grad in reversed(self.grads):
            grad[...] = found.pop()
        return found[0] if len(found) == 1 else tuple(found)'''


class Maker:
    """Makes the scripts of one result.

    Args:
        path: of the file or notebook; empty for a live object.
        layer: the live class or object; None for a file.
        result: the ``Audited`` whose findings they show.
        seconds, memory: that one run may take; memory in MiB.
        setup: path of a file to run first; empty for none.
    """

    def __init__(self, path: str, layer: Any, result: Audited, seconds: float, memory: int, setup: str = "") -> None:
        self.path, self.layer, self.result, self.seconds, self.memory = path, layer, result, seconds, memory
        self.making, self.setup = 0, setup
        self.given: Sample | None = result.given

    def _of_recipe(self, finding: Finding) -> str:
        """That of a layer whose way to be run was found out."""
        recipe = self.result.variants.get(finding.words, self.result.recipe)
        if finding.words and recipe is self.result.recipe and finding.check != "raised":
            return ""
        shapes = self.result.shapes if recipe is self.result.recipe else None
        if self.path.endswith(".ipynb"):
            imports = self._imports() + "".join(f"\n{n} = namespace[{n!r}]" for n in recipe.imports)
        elif self.path:
            imports = "\n".join(_import_from(Path(self.path), n) for n in recipe.imports)
        else:
            imports = self._imports()
        if self.setup:
            imports = f"exec(open({self.setup!r}).read())\n{imports}"
        text = program(finding, recipe, self.given, shapes, imports, _literal)
        return text if text and self._fails(text, finding.check == "raised") else ""

    def _of_given(self, finding: Finding, given: Sample) -> str:
        """The same for inputs that somebody passed: of one or two rows of the batch, where that shows it."""
        if not finding.case_id.endswith(given.id):
            return ""
        rows = [n for n in (1, 2) if n < given.sizes.get("N", 0)]
        for sample in [*(samples.batch(Subject(self.layer), given, n) for n in rows), given]:
            for self.making in range(len(MAKING)):  # how its constructor is called is not known: what runs is right
                text = self._shown(finding, sample)
                if text:
                    return text
        return ""

    def __call__(self, finding: Finding) -> str:
        """The smallest program that fails as the finding says; empty where none does."""
        if finding.kind in ("memory", "ended", "random") or not (finding.case_id or self.result.recipe):
            return ""
        if self.result.recipe is not None:
            return self._of_recipe(finding)
        if self.given is not None:
            return self._of_given(finding, self.given)
        try:
            sample = _sample(finding.case_id, self.result.twin)
        except (ValueError, KeyError):
            return ""
        best = self._shown(finding, sample)
        if not best:
            return ""
        if self.layer is not None and not inspect.isclass(self.layer):
            return best  # an object has the sizes that it has
        spec = _spec(self.result.twin)
        subject = Subject(spec.reference, spec)
        current = dict(sample.drawn.sizes)
        for letter, size in samples.smaller(subject, sample):
            case = replace(sample.drawn, sizes=current | {letter: size})
            try:
                smaller = self._shown(finding, _sample(case.id, self.result.twin))
            except (ValueError, IndexError):
                continue
            if smaller and len(smaller) <= len(best):
                best, current = smaller, case.sizes
        return best

    def _shown(self, finding: Finding, sample: Sample) -> str:
        text = self._text(finding, sample)
        return text if text and self._fails(text, finding.check == "raised") else ""

    def _text(self, finding: Finding, sample: Sample) -> str:
        spec = None if self.given is not None else _spec(self.result.twin)
        taken = self._taken(sample)
        arrays = {n: a for n, a in (sample.params | sample.inputs | sample.states).items()
                  if n not in sample.inputs or n in taken}
        variables = {n: re.sub(r"\W+", "_", n).strip("_") for n in arrays}
        if self.given is not None:
            usual, rows = self.given.sizes.get("N", 0), sample.sizes.get("N", 0)
            shapes = [(rows, *s[1:]) if s and s[0] == usual else s for s in self.result.shapes]
            sample = replace(sample, cotangents={f"output_{i}": np.random.default_rng(i).standard_normal(s)
                                                 for i, s in enumerate(shapes)})
        names = list(sample.cotangents if spec is None else spec.outputs)
        cotangents = [f"d{n}" for n in names]
        literals = [f"{variables[n]} = {_literal(a)}" for n, a in arrays.items()]
        literals += [f"d{n} = {_literal(sample.cotangents[n])}" for n in names]
        literals += [f"{n}_before = {_literal(a)}" for n, a in sample.warm.items()]
        inputs = ", ".join(variables[n] for n in taken)
        pieces = {"cotangents": ", ".join(cotangents), "inputs": inputs, "count": len(
            [n for n in taken if sample.inputs[n].dtype.kind == "f"]),
            "zeros": ", ".join(f"np.zeros_like({c})" for c in cotangents)}
        name = finding.quantity.removeprefix("grad.")
        pieces |= self._gradient(sample, taken, name, variables)
        single = bool(spec and spec.size_arguments)
        pieces |= {"step": "1e-2" if single else "1e-5", "tolerance": "1e-3" if single else "1e-5"}
        body = self._body(finding, sample, spec, name, pieces)
        if body is None:
            return ""
        make = self._make(sample, variables, taken)
        title = f"{self.result.name}: {finding.check} {finding.quantity}; {finding.verdict}".replace('"', "'")
        return HEAD.format(title=title, imports=self._imports(), arrays="\n".join(literals),
                           make=textwrap.indent(make, "    "), inputs=inputs) + body

    def _body(self, finding: Finding, sample: Sample, spec: Spec | None, name: str, pieces: dict[str, Any]
              ) -> str | None:
        kind = finding.kind
        if spec is not None and finding.check in ("forward", "extreme") and kind != "overflow" and name in spec.outputs:
            outputs, _ = quantities(Subject(spec.reference, spec), sample.mapped(lambda a: np.round(a, DIGITS)))
            place = list(spec.outputs).index(name)
            return OTHERS["forward"].format(expected=_literal(outputs[place], 12), place=place)
        template = OTHERS.get("mutated" if kind.startswith("mutated") else kind)
        if finding.check in ("raised", "shape", "count", "second call", "zero cotangent", "linearity"):
            template = OTHERS.get({"second call": "state-kept" if kind == "state-kept" else "accumulated",
                                   "zero cotangent": "linear", "linearity": "linear"}.get(finding.check, finding.check))
        if finding.check == "gradient":
            template = NUMERICAL
        if template is None or ("{gradient}" in template and "gradient" not in pieces):
            return None
        return template.format(**pieces)

    def _gradient(self, sample: Sample, taken: list[str], name: str, variables: dict[str, str]) -> dict[str, str]:
        if name in sample.params:
            return {"gradient": f"layer.grads[{list(sample.params).index(name)}]", "array": variables[name]}
        floating = [n for n in taken if sample.inputs[n].dtype.kind == "f"]
        if name in floating:
            place = f"[{floating.index(name)}]" if len(floating) > 1 else ""
            return {"gradient": f"returned{place}", "array": variables[name]}
        if name in sample.states:
            return {"gradient": f"layer.d{name}", "array": name}
        return {}

    def _taken(self, sample: Sample) -> list[str]:
        if self.given is not None:
            return list(sample.inputs)
        spec = _spec(self.result.twin)
        takes = None if self.layer is None else Subject(self.layer, spec).takes()
        return [n for n in sample.inputs if (n not in spec.drawn if takes is None else n in takes)]

    def _make(self, sample: Sample, variables: dict[str, str], taken: list[str]) -> str:
        if self.given is not None:
            params = ", ".join(variables[n] for n in sample.params)
            name = "Adapted" if isinstance(self.layer, FunctionLayer) else self.result.name
            return MAKING[self.making].format(name=name, params=params).replace("(, ", "(")
        spec = _spec(self.result.twin)
        usual = samples.base_options(spec)
        options = {k: v for k, v in sample.options.items() if v != usual[k] and k in spec.options}
        words = ", ".join(f"{k}={v!r}" for k, v in options.items())
        if spec.size_arguments:
            sizes = [str(sample.sizes[x]) for x in axes(spec.size_arguments)[1]]
            lines = [f"layer = {self.result.name}({', '.join(sizes)})",
                     f"for p, value in zip(layer.params, [{', '.join(variables[n] for n in sample.params)}]):",
                     "    p[...] = value"]
        else:
            given = ", ".join([*(variables[n] for n in sample.params), *([words] if words else [])])
            lines = [f"layer = {self.result.name}({given})"]
        lines += [f"layer.{k} = {v!r}" for k, v in sample.options.items() if k in spec.attributes and v != usual[k]]
        if sample.warm:
            lines.append(f"layer.forward({', '.join(f'{n}_before' for n in sample.warm if n in taken)})")
        if sample.states:
            lines.append(f"layer.set_state({', '.join(sample.states)})")
        return "\n".join(lines)

    def _imports(self) -> str:
        name = self.result.name
        if self.path.endswith(".ipynb"):
            return NOTEBOOK.format(text=inspect.getsource(notebooks), path=self.path, name=name)
        if self.path:
            return _import_from(Path(self.path), name)
        if isinstance(self.layer, FunctionLayer):
            lines = [_import_from(_file_of(f), f.__name__) if _importable(f)
                     else textwrap.dedent(inspect.getsource(f)).rstrip() for f in self.layer.functions]
            forward, backward = (f.__name__ for f in self.layer.functions)
            return "\n".join(lines) + ADAPTER.format(forward=forward, backward=backward)
        kind = self.layer if inspect.isclass(self.layer) else type(self.layer)
        if _importable(kind):
            return _import_from(Path(sys.modules[kind.__module__].__file__ or "").resolve(), name)
        try:
            own = [c for c in reversed(kind.__mro__) if c.__module__ == kind.__module__]
            texts = [textwrap.dedent(inspect.getsource(c)).rstrip() for c in own]
            return "\n\n\n".join([_imports_beside(kind), *texts])
        except (OSError, TypeError):
            return f"from {kind.__module__} import {name}"

    def _fails(self, text: str, raises: bool) -> bool:
        """Whether the program fails by its assertion, or, where that is the finding, by the layer's exception."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "finding.py")
            file.write_text(text, encoding="utf-8")
            folder = str(Path(self.path).parent) if self.path else os.getcwd()
            how, last = sandbox.fresh("program", {"file": str(file), "memory": self.memory}, folder, self.seconds,
                                         lambda *_: None)
        wrong = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError")  # of the script, not of the layer
        failed = how.startswith("it ended the process with exit code 1;")
        return failed and (not last.startswith(wrong) if raises else last.startswith("AssertionError"))


def _imports_beside(kind: Any) -> str:
    """The import statements at the top of the file that a class stands in."""
    file = _file_of(kind)
    text = file.read_text(encoding="utf-8")
    own = [ast.get_source_segment(text, node) or "" for node in ast.parse(text).body
           if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)]
    return "\n".join(["import sys", "", f"sys.path.insert(0, {str(file.parent)!r})", *own])


def _file_of(thing: Any) -> Path:
    return Path(inspect.getsourcefile(thing) or "").resolve()


def _importable(thing: Any) -> bool:
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return thing.__module__ != "__main__" and bool(file) and "<locals>" not in thing.__qualname__


def _import_from(path: Path, name: str) -> str:
    parents: list[str] = []
    folder = path.parent
    while (folder / "__init__.py").exists():
        parents.insert(0, folder.name)
        folder = folder.parent
    module = ".".join([*parents, path.stem])
    return f"import sys\n\nsys.path.insert(0, {str(folder)!r})\nfrom {module} import {name}"


def _spec(twin: str) -> Spec:
    """The catalogue entry of a twin."""
    from ..catalogue import CATALOGUE

    return CATALOGUE[twin]


def _sample(case_id: str, twin: str) -> Sample:
    """The sample of a case id."""
    spec = _spec(twin)
    case = parse(case_id)
    found = samples.sample(Subject(spec.reference, spec), case.sizes, case.pattern, case.scale, case.layout, case.seed,
                           **case.options)
    if found is None:
        raise ValueError(case_id)
    return found


def _literal(a: Any, digits: int = DIGITS) -> str:
    a = np.asarray(a)
    if a.dtype.kind == "f":
        a = np.round(a, digits)
    text = np.array2string(a, separator=", ", threshold=1 << 20, max_line_width=110, floatmode="unique")
    kind = {"f": ", dtype=float", "b": ", dtype=bool"}.get(a.dtype.kind, ", dtype=int")
    return f"np.array({textwrap.indent(text, ' ' * 4).strip()}{kind if not a.size or a.dtype.kind != 'i' else ''})"
