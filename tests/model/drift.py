#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Do the model of the gate, its README and the source still speak of the same? drift.py ROOT. Exit status 0 or 1.

drift.py ROOT --selftest plants differences into a copy and expects each to be found.
"""

import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "house"))
import rules  # noqa: E402

# Labels that the source's comments give; others are the model's own.
OF_SOURCE = re.compile(r"\b(G[OLWSKTH]\d|G6)\b")
LABELS = re.compile(r"/\* (G[A-Z]?\d(?:, G[A-Z]?\d)*)\b")
ROW = re.compile(r"^\| `(\w+)` \| [^|]* \| `(\w+)` \| `(\w+)` \| `([\w/.]+)` \| `(.+)` \|$", re.M)
SOURCES = ["sync/gate.c", "sync/gate_hold.c", "sync/gate_shut.c", "sync/gate_impl.h", "sync/gate_pass.h"]


def squeeze(text):
    return " ".join(text.split())


def bodies(text):
    """{name: body without comments, white space squeezed} of the functions in a source file."""
    lines = rules.bare(text).split("\n")
    found = {}
    for first, length, _ in rules.functions(text):
        whole = "\n".join(lines[first - 1:first - 1 + length])
        head, _, body = whole.partition("\n{")
        names = [n for n in re.findall(r"(\w+)\s*\(", head) if n != "__attribute__"]
        for name in names:
            found.setdefault(name, squeeze(body))
    return found


def model_files(root):
    folder = os.path.join(root, "model")
    return {name: rules.read(root, "model/" + name) for name in sorted(os.listdir(folder))
            if name.endswith(".pml")}


def check_rows(root, rows):
    """Each row's function is in its file, with its code, in the order of the rows."""
    functions = {path: bodies(rules.read(root, "src/" + path))
                 for path in {row[3] for row in rows} if os.path.exists(os.path.join(root, "src", path))}
    reached = {}
    for label, _, function, path, code in rows:
        if path not in functions:
            yield f"{label}: there is no src/{path}"
            continue
        body = functions[path].get(function)
        if body is None:
            yield f"{label}: {function}() is not in src/{path}"
            continue
        start = reached.get((path, function), 0)
        at = body.find(squeeze(code), start)
        if at >= 0:
            reached[path, function] = at + 1
        elif squeeze(code) in body:
            yield f"{label}: in {function}() the order is another: {code}"
        else:
            yield f"{label}: {function}() has no {code}"


def check_labels(root, rows, model):
    """The labels of the table are those of the model; those of the source are among them."""
    told = {row[0] for row in rows}
    used = {label for text in model.values() for labels in LABELS.findall(text)
            for label in labels.split(", ")}
    source = {label for path in SOURCES
              for comment in re.findall(r"/\*.*?\*/", rules.read(root, "src/" + path), re.S)
              for label in OF_SOURCE.findall(comment)}
    for label in sorted(told - used):
        yield f"{label} is in README.md, but not in the model"
    for label in sorted(used - told):
        yield f"{label} is in the model, but not in README.md"
    for label in sorted(source - told):
        yield f"{label} is in a comment of the source, but not in README.md"
    for label in sorted(label for label in told - source if OF_SOURCE.match(label)):
        yield f"{label} is in README.md, but in no comment of the source"


def check_names(root, rows, model, readme):
    """What README.md and run.py name is in the model, and the other way round."""
    text = "\n".join(model.values())
    for label, place, *_ in rows:
        if not re.search(rf"(?:inline|proctype|#define) {place}\b", text):
            yield f"{label}: the model has no {place}"
    run = rules.read(root, "model/run.py")
    mistakes = readme.partition("\n## Mutants\n")[2]
    defined = set(re.findall(r"^#define ([a-z]\w*) \d+$", model["config.pml"], re.M)) - {"none"}
    for where, names in (
            ("run.py", set(re.findall(r'Check\("([a-z0-9_]+_[a-z0-9_]+)"', run))),
            ("the mutants of README.md", set(re.findall(r"^\| `([a-z0-9_]+)` \| [^|]+ \|$", mistakes, re.M))),
            ("an #if of the model", set(re.findall(r"MUTANT [!=]= ([a-z]\w+)", text)) - {"none"})):
        for name in sorted(names ^ defined):
            yield f"mutant {name} is in one only of config.pml and {where}"
    for name in sorted(set(re.findall(r"^hidden byte (\w+)", text, re.M))):
        if f"`{name}`" not in readme:
            yield f"property {name} is not in README.md"
    for name in re.findall(r'^[A-Z]+ = "(\w+)"$', run, re.M):
        if f"hidden byte {name};" not in text:
            yield f"run.py expects {name}, which the model does not have"
    for invariant in sorted(set(re.findall(r"^ \*  (G\d)  ", rules.read(root, "src/sync/gate.h"), re.M))):
        if not re.search(rf"^\| `\w+` \|.*\b{invariant}\b", readme, re.M):
            yield f"invariant {invariant} of gate.h is not in the properties of README.md"


def problems(root):
    readme = rules.read(root, "model/README.md")
    rows = ROW.findall(readme)
    model = model_files(root)
    if len(rows) < 20:
        yield f"README.md has {len(rows)} rows only that could be read"
    yield from check_rows(root, rows)
    yield from check_labels(root, rows, model)
    yield from check_names(root, rows, model, readme)


# What is planted: file, what is replaced (all of it), by what, and what must be said.
PLANTED = [
    ("src/sync/gate.c", "gm_gate_sleep(", "gm_gate_doze(", "gm_gate_sleep() is not in"),
    ("src/sync/gate_shut.c", " drain(", " drain_all(", "drain() is not in"),
    ("src/ops/vcpu.c", "gpamap_vcpu_run", "gpamap_vcpu_go", "gpamap_vcpu_run() is not in"),
    ("src/sync/gate_pass.h", "gm_pass_set_light(p, 0)", "gm_pass_set_light(p, 2)", "gm_pass_leave() has no"),
    ("src/sync/gate_shut.c", "atomic_load(&g->left)", "g->left", "drain() has no"),
    ("src/sync/gate_shut.c", "atomic_exchange(&p->awaited, true)", "p->awaited", "await_pass() has no"),
    ("src/sync/gate.c", "gm_take_token(p) &&", "p->awaited &&", "gm_pass_give_token() has no"),
    ("src/sync/gate_hold.c", "	atomic_fetch_add(&g->crowd, 1);\n	for (;;) {\n		uint32_t freed = "
     "atomic_load(&g->freed);\n", "	for (;;) {\n		uint32_t freed = atomic_load(&g->freed);\n"
     "		atomic_fetch_add(&g->crowd, 1);\n", "GC3: in claim_in_crowd() the order is another"),
    ("src/sync/gate.c", "GL4", "GL5", "GL4 is in README.md, but in no comment"),
    ("src/sync/gate.c", "GL4", "GL5", "GL5 is in a comment of the source"),
    ("model/shut.pml", "/* GS1 */", "", "GS1 is in README.md, but not in the model"),
    ("model/hold.pml", "/* GC5 */", "/* GC9 */", "GC9 is in the model"),
    ("model/pass.pml", "inline take_back(", "inline took_back(", "the model has no take_back"),
    ("model/run.py", '"no_wake_on_leave"', '"no_wake_at_leave"', "mutant no_wake_at_leave"),
    ("model/README.md", "| `no_membarrier` |", "| `no_barrier` |", "mutant no_barrier"),
    ("model/memory.pml", "hidden byte G5_no_mark_forgotten", "hidden byte G5_none", "run.py expects G5_no"),
    ("src/sync/gate.h", " *  G6  A", " *  G6  A\n *  G9  A", "invariant G9"),
]


def selftest(root):
    """What was planted and not found."""
    for path, old, new, expected in PLANTED:
        with tempfile.TemporaryDirectory() as copy:
            for folder in ("model", "src/sync", "src/ops"):
                shutil.copytree(os.path.join(root, folder), os.path.join(copy, folder))
            text = rules.read(copy, path)
            with open(os.path.join(copy, path), "w", encoding="utf-8") as f:
                f.write(text.replace(old, new))
            found = list(problems(copy))
        if old not in text:
            yield f"{path}: nothing to replace: {old}"
        elif not any(expected in problem for problem in found):
            yield f"{path}: not found: {old.strip()} -> {new.strip()}; but {found}"


def main():
    root = sys.argv[1]
    found = list((selftest if "--selftest" in sys.argv else problems)(root))
    for problem in found:
        print(problem)
    print(f"{len(found)} differences" if found else "fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
