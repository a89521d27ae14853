"""A run's findings as text, as JSON and as a page of HTML."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from typing import Any, Final

from revrnn.rules import rules
from revrnn.vectors import flags

from .findings import Failure, Report, Tally
from .limits import printable
from .profiles import PROFILES, UNKNOWN_OPERATION, operations_of

NOTHING_CLAIMED: Final = "it claims no profile (CONF-001), so there is nothing to judge"
# Suspects that are named, and how well they must explain the failures.
_SUSPECTS: Final = 5
_LIKELY: Final = 0.3


def as_json(report: Report) -> str:
    """Return everything as JSON."""
    data: dict[str, Any] = asdict(report)
    data["verdicts"] = report.verdicts()
    data["passed"] = report.passed()
    data["suspects"] = [{"name": name, "score": score} for name, score in report.suspects()]
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def as_text(report: Report) -> str:
    """Return what a person reads in a terminal."""
    lines = [
        f"{report.port}, specification {report.spec_version}: "
        f"{'PASS' if report.passed() else 'FAIL'}{_judged(report)} ({report.seconds:.1f} s)"
    ]
    verdicts = report.verdicts()
    for profile in PROFILES:
        lines.append(f"  {profile:10} {verdicts[profile]}")
        if profile in report.judged:
            lines += [f"    {_row(report, operation)}" for operation in operations_of(profile)]
    if UNKNOWN_OPERATION in report.vectors:
        lines += ["  of all", f"    {_row(report, UNKNOWN_OPERATION)}"]
    lines += [f"  {remark}" for remark in _of_all_profiles(report)]
    suspects = _likely(report)
    if suspects:
        lines += ["", "Most likely, by the first operation that fails:"]
        lines += [f"  {name}: {meaning}" for name, meaning in suspects]
    if report.failures:
        lines += ["", "Failures; start with the first, what comes later may follow from it:"]
    for failure in report.failures:
        lines += ["", *_described(failure), "  To repeat it, paste into Python:", failure.program]
    return printable("\n".join(lines))


def as_html(report: Report) -> str:
    """Return a self-contained page."""
    verdicts = report.verdicts()
    passed = report.passed()
    rows = []
    for profile in PROFILES:
        mark = verdicts[profile]
        kind = {"pass": "pass", "fail": "fail"}.get(mark, "none")
        rows.append(f'<tr class="{kind}"><th>{profile}</th><td>{mark}</td><td></td><td></td></tr>')
        if profile in report.judged:
            rows += [_html_row(report, operation) for operation in operations_of(profile)]
    if UNKNOWN_OPERATION in report.vectors:
        rows.append('<tr class="none"><th>of all</th><td></td><td></td><td></td></tr>')
        rows.append(_html_row(report, UNKNOWN_OPERATION))
    suspects = "".join(
        f"<li><b>{html.escape(name)}</b> {html.escape(meaning)}</li>"
        for name, meaning in _likely(report)
    )
    failures = "".join(_section(failure) for failure in report.failures)
    page = _PAGE.format(
        title=f"{html.escape(report.port)}: revrnn conformance",
        port=html.escape(report.port),
        verdict="passes" if passed else "does not pass",
        kind="pass" if passed else "fail",
        facts=f"Specification {report.spec_version}; {report.examples} random requests for each "
        f"operation{_judged(report)}, seed {report.seed}; {report.seconds:.1f} s."
        + "".join(f"<br>{html.escape(remark)}" for remark in _of_all_profiles(report)),
        rows="".join(rows),
        suspects=f"<h2>Most likely, by the first operation that fails</h2><ul>{suspects}</ul>"
        if suspects
        else "",
        failures=f"<h2>Failures</h2><p>Start with the first; what comes later may follow from it."
        f"</p>{failures}"
        if failures
        else "",
    )
    return printable(page)


def _row(report: Report, operation: str) -> str:
    return (
        f"{operation:18} vectors {_counts(report.vectors.get(operation)):24} "
        f"random {_counts(report.random.get(operation))}"
    )


def _html_row(report: Report, operation: str) -> str:
    cells = [_counts(part.get(operation)) for part in (report.vectors, report.random)]
    return (
        f"<tr><td>{operation}</td><td></td>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _of_all_profiles(report: Report) -> list[str]:
    """Return what no profile passes with."""
    remarks = []
    if not report.judged:
        remarks.append(NOTHING_CLAIMED)
    if report.vectors.get(UNKNOWN_OPERATION, Tally()).failed:
        remarks.append("a request for an operation that does not exist is not answered by E_OP")
    if report.ending:
        due = "it does not end with its input, with status 0 and no line more (CONF-003)"
        remarks.append(f"{due}: {report.ending}")
    return remarks


def _judged(report: Report) -> str:
    by = f", random requests judged by {report.judge}" if report.examples else ""
    return by if report.judge else ", the vectors alone"


def _counts(tally: Tally | None) -> str:
    if tally is None:
        return "–"
    text = f"{tally.passed} right"
    if tally.failed:
        text += f", {tally.failed} WRONG"
    return text + (f", {tally.left_out} left out" if tally.left_out else "")


def _likely(report: Report) -> list[tuple[str, str]]:
    """Return the mistakes and rules that explain the first failures best, with their meaning."""
    titles, mistakes = rules(), flags()
    suspects = [(name, score) for name, score in report.suspects() if score >= _LIKELY]
    wrong = [(name, mistakes[name]) for name, _ in suspects if name in mistakes]
    broken = [(name, titles[name]) for name, _ in suspects if name in titles]
    return wrong[:_SUSPECTS] or broken[:_SUSPECTS]


def _described(failure: Failure) -> list[str]:
    titles = rules()
    lines = [f"{failure.operation}: {failure.case}"]
    lines.append("  rules: " + "; ".join(f"{name} {titles[name]}" for name in failure.rules))
    if failure.first_step:
        lines.append(f"  first difference: {failure.first_step}")
    return lines + [f"  {line}" for line in failure.lines]


def _section(failure: Failure) -> str:
    described = html.escape("\n".join(_described(failure)))
    return (
        f"<section><pre>{described}</pre><details><summary>To repeat it</summary>"
        f"<pre>{html.escape(failure.program)}</pre></details></section>"
    )


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 1rem }}
table {{ border-collapse: collapse }} th, td {{ text-align: left; padding: .1rem 1rem .1rem 0 }}
tr.pass, tr.fail, tr.none {{ border-top: 1px solid #bbb }}
.pass td:nth-child(2), b.pass {{ color: #16672b }}
.fail td:nth-child(2), b.fail {{ color: #a11a1a }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .6rem }}
@media (prefers-color-scheme: dark) {{
 body {{ background: #161616; color: #ddd }} pre {{ background: #242424 }}
 .pass td:nth-child(2), b.pass {{ color: #6fce85 }}
 .fail td:nth-child(2), b.fail {{ color: #ff8f8f }}
}}
</style></head><body>
<h1>{port} <b class="{kind}">{verdict}</b></h1>
<p>{facts}</p>
<table><thead><tr><th></th><th></th><th>vectors</th><th>random</th></tr></thead>
<tbody>{rows}</tbody></table>
{suspects}{failures}
</body></html>
"""
