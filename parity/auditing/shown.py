"""The standalone program for a finding of a layer that a ``Recipe`` runs: its texts, literal arrays, an assertion."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from . import adapted
from .adapted import Recipe

HEAD = '''"""{title}"""
import numpy as np

{imports}

{arrays}


def run():
{run}
    return layer, result, ({outputs},)


'''

GRADIENT = '''layer, result, outputs = run()
{before}returned = {backward}
gradient = np.array({gradient})


def loss():
    return sum(np.sum(o * c) for o, c in zip(run()[2], ({cotangents},)))


expected = np.zeros({array}.shape)
for i in np.ndindex({array}.shape):
    kept = {array}[i]
    {array}[i] = kept + 1e-5
    up = loss()
    {array}[i] = kept - 1e-5
    expected[i] = (up - loss()) / 2e-5
    {array}[i] = kept

print("backward:", gradient, "numerical derivative:", expected, sep="\\n")
assert np.allclose(gradient, expected, rtol=1e-5, atol=1e-5)
'''

SHAPE = '''layer, result, outputs = run()
{before}returned = {backward}
gradient = {gradient}
print("shape of the gradient:", np.shape(gradient), "of its array:", {array}.shape)
assert np.shape(gradient) == {array}.shape
'''

RAISED = '''layer, result, outputs = run()
returned = {backward}
print("once:", returned)
{again}result = {forward}
returned = {backward}
print("again:", returned)
'''


def program(finding: Any, recipe: Recipe, given: Any, shapes: Any, imports: str,
            literal: Callable[..., str]) -> str:
    """The text of a program; empty for a finding that none is known for.

    Args:
        finding: the ``Finding``.
        recipe: how the layer is run.
        given: the ``Sample`` of its inputs and parameters.
        shapes: of its outputs; None where they are not known.
        imports: statements that import it.
        literal: function of an array that gives its text.
    """
    name = finding.quantity.removeprefix("grad.")
    template = {"gradient": GRADIENT, "shape": SHAPE, "raised": RAISED}.get(finding.check, "")
    expression = {**recipe.gradients, **recipe.grads}.get(name, "")
    if not template or (template is not RAISED and not expression):
        return ""
    arrays = {n: literal(a, 3) for n, a in given.inputs.items()}
    params = {f"given_{n}": (recipe.params[n], literal(a, 3)) for n, a in given.params.items() if n in recipe.params}
    cotangents = [f"dy{i}" for i in range(len(recipe.outputs))]
    late = "".join(f"{c} = np.random.default_rng({i}).standard_normal(np.shape(run()[2][{i}]))\n"
                   for i, c in enumerate(cotangents) if shapes is None)
    for i, c in enumerate(cotangents if shapes is not None else ()):
        shape = () if recipe.scalar or i >= len(shapes) else shapes[i]
        arrays[c] = literal(np.random.default_rng(i).standard_normal(shape), 3) if shape else "1.0"
    texts = " ".join([recipe.make, *recipe.before, recipe.forward, recipe.backward, *recipe.grads.values()])
    helpers = [inspect.getsource(getattr(adapted, kind)).rstrip() for word, kind in (
        ("optimizer", "Recorder"), ("softmax(", "softmax"), ("identity", "Identity")) if word in texts]
    helpers += [f"{word} = {kind}()" for word, kind in (("optimizer", "Recorder"), ("identity", "Identity"))
                if word in texts]
    steps = ["np.random.seed(0)", f"layer = {recipe.make or None}", *recipe.before]
    if recipe.make and not recipe.once:
        steps += [*recipe.reset, recipe.forward]  # which makes the parameters of some
    steps += [f"{expr}[...] = {n}" for n, (expr, _) in params.items()]
    steps += ["np.random.seed(0)", *recipe.reset, f"result = {recipe.forward}"]
    before = f"before = {{{', '.join(f'{n!r}: np.array({e})' for n, e in recipe.params.items())}}}\n"
    lines = [f"{n} = {text}" for n, text in arrays.items()] + [f"{n} = {text}" for n, (_, text) in params.items()]
    title = f"{recipe.name}: {finding.check} {finding.quantity}; {finding.verdict} {finding.words}".replace('"', "'")
    head = HEAD.format(title=title.strip(), imports="\n\n\n".join([imports, *helpers]), arrays="\n".join(lines),
                       run=textwrap.indent("\n".join(steps), "    "), outputs=", ".join(recipe.outputs))
    return head + late + template.format(
        again="".join(f"{r}\n" for r in recipe.reset), before=before if "before[" in expression else "",
        backward=recipe.backward or "None", forward=recipe.forward,
        gradient=expression, cotangents=", ".join(cotangents), array=f"given_{name}" if name in given.params else name)
