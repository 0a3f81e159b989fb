#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Figures get from the benchmark's JSON into the document: test_figures.py SCRIPT DOCUMENT README"""

import json
import os
import re
import subprocess
import sys
import tempfile

script, document, readme = sys.argv[1:]


def row(section, what, at, p50, unit="us"):
    return {"section": section, "what": what, "size": at, "unit": unit, "samples": 9, "min": 0.0, "p10": p50 / 2,
            "p50": p50, "p90": p50, "p99": 2 * p50, "max": 3 * p50}


def measured():
    """Something of all there is; each value once."""
    rows = [row("gate", what, n, 1.25 + n, "ns") for what in ("nothing", "gpamap, vCPU") for n in (1, 2)]
    for rival in ("gpamap", "by hand", "inhibit"):
        for state in ("running", "halted", "outside"):
            rows.append(row("blackout-vcpus", f"{rival}, {state}", 16, 1234.5))
            rows.append(row("back-vcpus", f"{rival}, {state}", 16, 2345.6))
    for rival in ("gpamap", "by hand", "inhibit", "floor"):
        rows.append(row("blackout-size", rival, 64 << 30, 34.56))
        rows.append(row("blackout-slots", rival, 32000, 45.67))
    for what in ("levels of aliases", "stacked containers", "aliases of a page"):
        rows += [row("shapes", f"{step}, {what}", 31, 3.21) for step in ("edit", "flatten")]
    rows.append(row("shapes", "flatten, 2^levels places: refused", 31, 4321.0))
    rows += [row("fetch", what, 1024, 0.234) for what in ("one page", "all, slot by slot: each")]
    for what in ("edit", "flatten", "plan"):
        rows.append(row("flatten", f"{what}, regions", 1000, 0.123))
    rows += [row("commit", what, 1000, 56.7) for what in ("commit", "two slot operations")]
    for kind in ("zap all", "zap slot only"):
        rows += [row("quirk", f"{kind}, {what}", 64 << 20, 98765.4, "pages") for what in ("no commit", "after a commit")]
        rows += [row("quirk", f"{kind}, {what}", 64 << 20, 87.6) for what in ("blackout", "the commit")]
    rows += [row("refault", f"{rival}, {what}", 64 << 20, pages, "pages")
             for rival, pages in (("gpamap", 411.0), ("gpamap, zap slot only", 1.0), ("by hand", 412.0), ("remap", 2.0))
             for what in ("in use", "first change", "change")]
    ratios = [{"section": "gate", "what": "vCPU / locked counter", "value": 0.13, "limit": 0.2, "ok": True},
              {"section": "refault", "what": "gpamap / by hand", "value": 0.99, "limit": 1.05, "ok": True}]
    return {"rows": rows, "ratios": ratios, "notes": [], "others": 0.25, "quick": False, "kernel": "7.3-test"}


def not_measured(section, why):
    """The same, without what a section has measured."""
    data = measured()
    return {**data, "rows": [r for r in data["rows"] if r["section"] != section],
            "notes": [{"section": section, "text": why}]}


def run(data, text, *options):
    """Returns the script's status and what it has made of the text."""
    with tempfile.TemporaryDirectory() as folder:
        figures, doc = os.path.join(folder, "bench.json"), os.path.join(folder, "doc.md")
        with open(figures, "w", encoding="utf-8") as f:
            json.dump(data, f)
        with open(doc, "w", encoding="utf-8") as f:
            f.write(text)
        status = subprocess.run([sys.executable, script, *options, figures, doc], stderr=subprocess.PIPE).returncode
        with open(doc, encoding="utf-8") as f:
            return status, f.read()


def expect(ok, what):
    if not ok:
        sys.exit(f"FAILED: {what}")


def block(name, inside=""):
    return f"before\n<!-- figures: {name} -->\n{inside}<!-- end -->\nafter\n"


def blocks_of(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    names = re.findall(r"<!-- figures: (\S+) -->", text)
    expect(len(names) == text.count("<!-- end -->") and len(names) == len(set(names)),
           f"the blocks of {path} are well formed")
    return text, names


def main():
    status, text = run(measured(), block("size", "old\n"))
    expect(status == 0, "a table is made")
    expect("| 64 GiB | 35 us (69) | 35 us (69) | 35 us (69) | 35 us (69) |" in text, f"of these:\n{text}")
    expect("old" not in text and "<!-- figures: size -->" in text and "<!-- end -->" in text,
           "of the block all but the marks goes")
    expect(text.startswith("before\n") and text.endswith("after\n"), "the rest stays")
    expect(run(measured(), text) == (0, text), "once more changes nothing")

    status, text = run(measured(), block("size"), "--low")
    expect(status == 0 and "| 64 GiB | 17.3 us (35) |" in text, f"10th percentiles, if they are asked for:\n{text}")

    for name, data in (("no-such", measured()), ("slots", {**measured(), "rows": []}),
                       ("size", {**measured(), "quick": True})):
        old = block("size") + block(name)
        status, text = run(data, old)
        expect(status == 1 and text == old, f"{name}: refused, and nothing is changed")

    here, there = block("size", "here\n"), block("size@there", "there\n")
    status, text = run(measured(), here + there)
    expect(status == 0 and "here" not in text.partition(there)[0] and text.endswith(there),
           "those of another machine are left alone")
    status, text = run(measured(), here + there, "--at", "there")
    expect(status == 0 and text.startswith(here) and "there\n<" not in text and "| 64 GiB |" in text,
           "and filled alone, if they are asked for")

    status, text = run(measured(), block("refault") + block("ratios-refault"))
    expect(status == 0 and "| 64 MiB | 1,233 | 1 | 1,236 | - | - | 1,233 | 3 | 6 |" in text,
           f"the most that was counted is shown, and a dash for who was not measured:\n{text}")
    expect("| refault | gpamap / by hand | 0.99 |" in text and "locked counter" not in text, "ratios of one section")
    status, text = run(not_measured("refault", "no such counter here"), block("refault"))
    expect(status == 0 and "-->\nno such counter here.\n<!--" in text, "or why it was not measured")
    expect(run(not_measured("quirk", "no"), block("refault") + block("quirk"))[0] == 1, "which stands for nothing else")

    old, names = blocks_of(readme)
    expect({name.partition("@")[2] for name in names} == {"svm-newest"} and
           run(measured(), old, "--at", "svm-newest")[0] == 0, "the README's blocks can be filled")
    old, names = blocks_of(document)
    expect(len(names) > 5, "the document has blocks")
    status, text = run(measured(), old)
    expect(status == 0, "the document can be filled")
    for figure in ("2.2 ns (4.5)", "1,234 us (2,469)", "2,346 us (4,691)", "46 us (91)", "Linux 7.3-test. ", "0.25 processors",
                   "| 1,000 | 0.12 us |", "| 0.13 | 0.20 |", "| zap all | 98,765 pages | 98,765 pages | 88 us (175) |"):
        expect(figure in text, f"{figure} is in it")
    for where in {name.partition("@")[2] for name in names} - {""}:
        expect(run(measured(), old, "--at", where)[0] == 0, f"the blocks of {where} can be filled")


if __name__ == "__main__":
    main()
