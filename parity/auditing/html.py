"""The report as one HTML page, with heat maps of what was expected, what was got and the difference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..judge.finding import Finding, valued
from ..judge.report import Report

ROWS, COLUMNS = 24, 32  # of a heat map; a larger array shows its first entries

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Audit</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
 h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc } h3 { margin-bottom: .2rem }
 .error { color: #a01010 } .warning, .note { color: #8a6100 } .right { color: #116611 }
 table { border-collapse: collapse; font: 11px/1 ui-monospace, monospace; margin: .3rem 1.2rem .3rem 0 }
 td { width: 3.4em; height: 1.8em; text-align: right; padding: 0 .3em; border: 1px solid #eee }
 figure { display: inline-block; vertical-align: top; margin: 0 } figcaption { font-size: 13px; color: #555 }
 pre { background: #f6f6f6; padding: .7rem; overflow-x: auto }
</style>
<h1>Audit{% if report.path %} of {{ report.path }}{% endif %}</h1>
{% for text in report.remarks %}<p>{{ text }}</p>{% endfor %}
{% for r in report.results %}
<h2>{{ r.name }}{% if r.twin %} (twin: {{ r.twin }}){% endif %}:
 <span class="{{ 'right' if r.ok else 'error' }}">{{ r.verdict }}</span></h2>
{% if r.skipped %}<p>skipped: {{ r.skipped }}</p>
{% else %}<ul>{% for asked, answer in r.answers.items() %}<li>{{ asked }}: {{ answer }}</li>{% endfor %}</ul>
{% endif %}
{% for f in r.findings %}
<h3 class="{{ f.severity }}">{{ f.check }} {{ f.where }}{% if f.words %}, {{ f.words }}{% endif %}</h3>
<p><b>{{ f.verdict }}</b>{% if f.diagnosis %}: {{ f.diagnosis }}{% endif %}</p>
{% if f.values %}<p>
 {{ valued(f.values) }}
 {% if f.share is not none %}; {{ "%.3g"|format(f.share) }} budgets away{% endif %}
</p>{% endif %}
{% if f.breaks %}<p>{{ f.breaks }}</p>{% endif %}
{% for title, rows in maps(f) %}<figure><figcaption>{{ title }}</figcaption><table>
{% for row in rows %}<tr>{% for text, color in row %}<td style="background:{{ color }}">{{ text }}</td>{% endfor %}</tr>
{% endfor %}</table></figure>{% endfor %}
{% if f.detail %}<pre>{{ f.detail }}</pre>{% endif %}
{% endfor %}
{% for text in r.remarks %}<p>({{ text }})</p>{% endfor %}
{% endfor %}
</html>
"""


def page(report: Report) -> str:
    """The page as text.

    Raises:
        UsageError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise UsageError("an HTML report needs Jinja2: python -m pip install jinja2") from None
    return Environment(autoescape=True).from_string(PAGE).render(report=report, maps=maps, valued=valued)


def maps(finding: Finding) -> list[tuple[str, list[list[tuple[str, str]]]]]:
    """Title and rows of ``(text, colour)`` of each heat map of a finding."""
    pairs = [("expected", finding.expected), ("got", finding.got)]
    if all(a is not None for _, a in pairs) and np.shape(finding.expected) == np.shape(finding.got):
        with np.errstate(all="ignore"):
            pairs.append(("difference", np.asarray(finding.got, float) - np.asarray(finding.expected, float)))
    sizes = [np.abs(a[np.isfinite(a)]).max(initial=0) for _, a in pairs if a is not None]
    top = max(sizes, default=0) or 1.0
    return [(f"{title} {np.shape(a)}", [[_cell(x, top) for x in row[:COLUMNS]] for row in _matrix(a)[:ROWS]])
            for title, a in pairs if a is not None]


def _matrix(array: Any) -> NDArray[Any]:
    a: NDArray[Any] = np.asarray(array, float)
    return a.reshape(-1, a.shape[-1]) if a.ndim > 1 else a.reshape(1, -1)


def _cell(x: float, top: float) -> tuple[str, str]:
    if not np.isfinite(x):
        return f"{x}", "#d9a0ff"
    pale = round(255 - 175 * min(abs(x) / top, 1))
    return f"{x:.3g}", f"rgb(255,{pale},{pale})" if x > 0 else f"rgb({pale},{pale},255)"
