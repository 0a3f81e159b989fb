# SPDX-License-Identifier: BSD-3-Clause
"""The rules of the house. Each takes the root of a source tree and yields what breaks the rule, as text.

They read the sources as clang-format leaves them: a function's braces stand at the beginning of a line.
"""

import os
import re
import shutil
import subprocess

# Layers from the lowest up; folders of one level don't meet.
LEVEL = {"base": 0, "map": 1, "plan": 2, "sync": 2, "backend": 3, "ops": 4, "api": 5, "sim": 6}
# The libraries, and the public headers whose functions each exports.
LIBRARIES = {"libgpamap.so": ("gpamap.h", "gpamap-vcpu.h", "gpamap-listener.h"), "libgpamap-sim.so": ("gpamap-sim.h",)}
PUBLIC = {name for names in LIBRARIES.values() for name in names}
# What libgpamap.so exports for libgpamap-sim.so alone, and under what node.
PRIVATE = {"gm_private_map_new", "gm_private_vcpu_attach"}
PRIVATE_NODE = "GPAMAP_PRIVATE_"
# All that the simulated VM sees of the library's inside; it is another library.
SIM_SEES = {"api/private.h", "backend/backend.h", "plan/kvm_rules.h"}
SIM_SEES_FOLDERS = {"base", "sim"}

# map/, plan/ and the verifier of plans reach nothing else, through whatever they include.
PURE = {"map", "plan"}
PURE_FOLDERS = ["src/map", "src/plan", "tests/plan/verify"]
PURE_HEADERS = {
    "assert.h", "errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h",
    "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "stdnoreturn.h", "string.h",
}
# What an object of theirs may not call.
IMPURE_SYMBOL = re.compile(r"^(pthread_|thrd_|mtx_|cnd_|sem_|urcu_|rcu_|synchronize_rcu|syscall$|ioctl$|"
                           r"mmap|munmap|open$|read$|write$|close$|futex|membarrier)")

FUNCTION_LINES = 60
FILE_LINES = 600
C_FOLDERS = ["include", "src", "tools", "examples", "bench", "tests"]
FILE_FOLDERS = C_FOLDERS + ["scripts", "model"]
CODE = (".c", ".h", ".S", ".cpp", ".py", ".sh")

CLANG_FORMAT_VERSION = "14"

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def files(root, folders, endings):
    """Paths, relative to root, of the files in folders, in a stable order."""
    for folder in folders:
        for at, dirs, names in os.walk(os.path.join(root, folder)):
            dirs.sort()
            for name in sorted(names):
                if name.endswith(endings):
                    yield os.path.relpath(os.path.join(at, name), root)


def programs(root, folders):
    """Paths of the scripts whose names have no ending: their first line says what runs them."""
    for path in files(root, folders, ""):
        if "." not in os.path.basename(path):
            with open(os.path.join(root, path), "rb") as f:
                if f.read(2) == b"#!":
                    yield path


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def bare(text):
    """The text without comments and literals; lines stay where they are."""
    return COMMENT_OR_STRING.sub(lambda m: "\n" * m.group(0).count("\n"), text)


def includes(text):
    """(quoted?, name) of each include."""
    return [(kind == '"', name) for kind, name in INCLUDE.findall(text)]


# --------------------------------------------------------------------------------- arrows ---


def may_include(layer, other):
    """May a file of one layer include a header of another?"""
    return layer == other or LEVEL[other] < LEVEL[layer]


def layer_of(name):
    folder = name.split("/")[0]
    return folder if "/" in name and folder in LEVEL else None


def check_arrows(root):
    """In src/ and the unit tests, a file includes its own folder, lower layers and the public headers."""
    for top in ("src", "tests"):
        for layer in LEVEL:
            for path in files(root, [os.path.join(top, layer)], (".c", ".h")):
                yield from arrows_of(root, path, layer, top == "tests")


def arrows_of(root, path, layer, is_test):
    for quoted, name in includes(read(root, path)):
        if is_test and name.startswith("../boot/"):
            continue
        # Tests may share what the tests of a lower layer have: "../base/counting.h".
        shared = is_test and name.startswith("../")
        other = layer_of(name[3:] if shared else name)
        if layer == "sim" and not is_test and other and other not in SIM_SEES_FOLDERS and name not in SIM_SEES:
            yield f'{path}: includes "{name}", which is inside of the other library'
        if other and not may_include(layer, other):
            yield f'{path}: {layer}/ includes "{name}", which is not below it'
        elif quoted and not other and name not in PUBLIC and not is_test:
            yield f'{path}: includes "{name}": say folder/file.h'
        elif ".." in name.split("/") and not (shared and other):
            yield f'{path}: includes "{name}"'


def check_pure(root):
    """map/, plan/ and the verifier reach no threads and no Linux headers, not even through others."""
    for folder in PURE_FOLDERS:
        for path in files(root, [folder], (".c", ".h")):
            for name, via in sorted(system_headers(root, path, {}).items()):
                if name not in PURE_HEADERS:
                    yield f"{path}: reaches <{name}> through {via}"


def system_headers(root, path, seen):
    """{system header: the file that includes it} of everything that path includes."""
    found = {}
    if path in seen:
        return found
    seen[path] = True
    for quoted, name in includes(read(root, path)):
        inner = next((p for p in (os.path.join(os.path.dirname(path), name), "src/" + name, "include/" + name)
                      if os.path.exists(os.path.join(root, p))), None)
        if inner:
            found.update(system_headers(root, inner, seen))
        elif name not in PUBLIC:
            found[name] = path
    return found


def check_ioctl(root):
    """Only the KVM backend has ioctl()."""
    for path in files(root, ["src"], (".c", ".h")):
        if re.match(r"src/backend/kvm[^/]*$", path):
            continue
        text = read(root, path)
        if re.search(r"\bioctl\s*\(", bare(text)) or (False, "sys/ioctl.h") in includes(text):
            yield f"{path}: has ioctl()"


def check_public_only(root):
    """Tools and examples see the public headers only; the internal part of bench/ says so by its name."""
    for path in files(root, ["tools", "examples", "bench"], (".c", ".h", ".S")):
        if os.path.basename(path).startswith("internal"):
            continue
        for quoted, name in includes(read(root, path)):
            if layer_of(name) or ".." in name.split("/"):
                yield f'{path}: includes "{name}", which is internal'
            elif path.startswith("examples/") and quoted and \
                    not os.path.exists(os.path.join(root, os.path.dirname(path), name)):
                yield f'{path}: includes "{name}": an example has the installed headers and its neighbours only'


# ----------------------------------------------------------------------------------- size ---


def functions(text):
    """(first line, lines, signature) of each function body, from its signature to its last brace."""
    lines = text.split("\n")
    opened = None
    for i, line in enumerate(lines):
        if line == "{":
            opened = i
        elif line == "}" and opened is not None:
            first = opened
            while first > 0 and re.match(r"[\w\s*(),.\[\]]", lines[first - 1] or "}") \
                    and not lines[first - 1].endswith((";", "*/")):
                first -= 1
            yield first + 1, i - first + 1, lines[first]
            opened = None


def check_functions(root):
    """No function is longer than a screen."""
    for path in files(root, C_FOLDERS, (".c", ".h", ".cpp")):
        for line, length, signature in functions(read(root, path)):
            if length > FUNCTION_LINES:
                yield f"{path}:{line}: {length} lines: {signature}"


def check_files(root):
    """No file is longer than what one reads at a sitting."""
    for path in [*files(root, FILE_FOLDERS, CODE), *programs(root, FILE_FOLDERS)]:
        length = read(root, path).count("\n")
        if length > FILE_LINES:
            yield f"{path}: {length} lines"


LABEL = re.compile(r"^ \*  ([A-Z]{1,3}[0-9]+)  ?\S", re.M)


def check_labels(root):
    """An invariant has a label of its own: whoever greps for it finds one."""
    where = {}
    for path in files(root, ["src", "tools", "bench", "tests"], (".c", ".h")):
        for label in sorted(set(LABEL.findall(read(root, path)))):
            where.setdefault(label, []).append(path)
    for label, paths in sorted(where.items()):
        if len(paths) > 1:
            yield f"{', '.join(paths)}: {label} stands for more than one thing"


def check_licence(root):
    """Each file says its licence first, and then what it is for."""
    for path in files(root, C_FOLDERS, (".c", ".h", ".S", ".cpp")):
        lines = read(root, path).split("\n")
        if "SPDX-License-Identifier: BSD-3-Clause" not in lines[0]:
            yield f"{path}: no licence in its first line"
        elif len(lines) < 2 or not lines[1].startswith(("/*", "//")):
            yield f"{path}: no comment that says what the file is for"


# ---------------------------------------------------------------------------------- format ---


def clang_format():
    """The clang-format that the style was written for, or (None, why not)."""
    for name in ("clang-format-" + CLANG_FORMAT_VERSION, "clang-format"):
        if not shutil.which(name):
            continue
        out = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
        if f"version {CLANG_FORMAT_VERSION}." in out:
            return name, None
        return None, f"another clang-format than version {CLANG_FORMAT_VERSION}: {out.strip()}"
    return None, "clang-format is not installed"


def sources(root):
    return list(files(root, C_FOLDERS, (".c", ".h", ".cpp")))


def check_format(root):
    """The sources are as clang-format leaves them."""
    program, why = clang_format()
    if not program:
        raise LookupError(why)
    run = subprocess.run([program, "--dry-run", "-Werror", *sources(root)], cwd=root,
                         capture_output=True, text=True)
    seen = set()
    for line in run.stderr.splitlines():
        path = line.split(":")[0]
        if ": error:" in line and path not in seen:
            seen.add(path)
            yield line + " (make format)"
    if run.returncode and not seen:
        yield run.stderr


# --------------------------------------------------------------------------------- symbols ---


def declarations(header):
    """[(function, has a comment)] of a public header. A comment stands for all that follow it without an
    empty line between."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "@", header, flags=re.S)
    text = re.sub(r"^\s*#(?:.*\\\n)*.*$", "", text, flags=re.M)
    text = re.sub(r'extern "C" *\{?', "", text)
    while re.search(r"\{[^{}]*\}", text):
        text = re.sub(r"\{[^{}]*\}", "", text)
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        commented = False
        for statement in paragraph.split(";"):
            commented = commented or "@" in statement
            name = re.search(r"\b(gpamap_\w+)\s*\(", statement)
            if name and "typedef" not in statement:
                found.append((name.group(1), commented))
    return found


def check_comments(root):
    """Every public function has a comment."""
    for path in sorted("include/" + name for name in PUBLIC):
        if os.path.exists(os.path.join(root, path)):
            for name, commented in declarations(read(root, path)):
                if not commented:
                    yield f"{path}: {name}() has no comment"


def nm(*args):
    return subprocess.run(["nm", *args], capture_output=True, text=True, check=True).stdout


def exports_of(library):
    """{symbol: node} of what a shared library exports; the node is "" where it has none."""
    symbols = (line.split()[-1] for line in nm("-D", "--defined-only", library).splitlines()
               if line.split()[-2] != "A")
    return {name: node for name, _, node in (symbol.replace("@@", "@").partition("@") for symbol in symbols)}


def check_exports(root, *libraries):
    """Each shared library exports what its public headers declare, and nothing else; but for the private functions,
    each by its name, and under a node of their own."""
    for library in libraries:
        base = re.sub(r"\.so\..*", ".so", os.path.basename(library))
        exported = exports_of(library)
        declared = set()
        for name in LIBRARIES[base]:
            path = os.path.join("include", name)
            if os.path.exists(os.path.join(root, path)):
                declared.update(function for function, _ in declarations(read(root, path)))
        private = PRIVATE if base == "libgpamap.so" else set()
        for symbol in sorted(exported.keys() - declared - private):
            yield f"{base}: {symbol} is exported, and no public header declares it"
        for symbol in sorted((declared | private) - exported.keys()):
            yield f"{base}: {symbol} is declared, and the library does not export it"
        for symbol in sorted(symbol for symbol, node in exported.items()
                             if node.startswith(PRIVATE_NODE) != (symbol in private)):
            yield f"{base}: {symbol} is under the wrong node, {exported[symbol]}"


def calls_between(places):
    """{object: {object that it calls}} of all objects in archives, or in folders of objects."""
    home, uses = {}, {}
    for place in places:
        members = [os.path.join(place, name) for name in sorted(os.listdir(place)) if name.endswith(".o")] \
            if os.path.isdir(place) else [place]
        for line in nm("-A", *members).splitlines():
            where, _, rest = line.rpartition(":")
            where = os.path.basename(where.rpartition(":")[2] or where)
            kind, symbol = rest.split()[-2:]
            uses.setdefault(where, set())
            if kind in "TDBRVWC":
                home[symbol] = where
            elif kind == "U":
                uses[where].add(symbol)
    return {where: {home[symbol] for symbol in symbols if home.get(symbol, where) != where}
            for where, symbols in uses.items()}


def check_circles(*places):
    """No two files call each other, be it through others: then a name is in the wrong file, or they are one."""
    calls = calls_between(places)
    if not calls:
        yield f"{places}: no objects were found"
    reach = {where: set(others) for where, others in calls.items()}
    for via in reach:
        for where in reach:
            if via in reach[where]:
                reach[where] |= reach[via]
    for where in sorted(reach):
        circle = sorted(other for other in reach[where] if where in reach[other])
        if where in circle and where == circle[0]:
            yield "a circle of calls: " + ", ".join(circle)


def object_layer(member):
    """The layer of an object of the library, by the name that the build gives it: base_tree.c.o"""
    name = os.path.basename(member)
    return next((layer for layer in LEVEL if name.startswith(layer + "_")), None)


def check_calls(*archives):
    """What the objects call obeys the arrows, too, whatever headers they have."""
    home = {}
    uses = []
    for line in (line for archive in archives for line in nm("-A", archive).splitlines()):
        where, _, rest = line.rpartition(":")
        fields = rest.split()
        layer = object_layer(where.rpartition(":")[2] or where)
        if not layer or len(fields) < 2:
            continue
        kind, symbol = fields[-2:]
        if kind in "TDBRVW":
            home[symbol] = layer
        elif kind == "U":
            uses.append((layer, where, symbol))
    if not home:
        yield f"{archives}: no objects of the library were found"
    for layer, where, symbol in uses:
        other = home.get(symbol)
        if other and not may_include(layer, other):
            yield f"{os.path.basename(where)}: {layer}/ uses {symbol}, which is in {other}/"
        elif layer in PURE and IMPURE_SYMBOL.match(symbol):
            yield f"{os.path.basename(where)}: {layer}/ is pure, and uses {symbol}"
