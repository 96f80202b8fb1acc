# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""The rules of the house's layout, checked on sources and object files.

Dependencies point one way. Which file needs which is read from the symbols of the object files; who
includes what is read from the sources.
"""

import os.path
import re
import subprocess
from pathlib import Path

# In these folders no circle of files may stand.
FOLDERS = ("engine", "kvm")
# Its functions with libc's names stand in for libc: who calls mmap() does not need this file.
INTERPOSER = "kvm/preload.c"
# Headers that belong to one folder, and who else may look inside: its tests.
PRIVATE = {name: ("kvm/", "tests/kvm/") for name in ("kvm/host.h", "kvm/process.h")}
# Where a program's own files are; what is built there is no source.
SOURCES = ("engine", "figures", "kvm", "measure", "cli", "examples", "bench", "kernel", "lab", "tests")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
# What a header of a stage says in its first comment, if the other stages are to leave it alone.
SAYS_PRIVATE = re.compile(r"\bprivate to[\s*]+(\w+)/", re.IGNORECASE)


def symbols(objects):
    """Maps each file to the symbols that its object defines and to those that it needs."""
    defined, needed = ({file: set() for file in objects} for _ in range(2))
    named = {str(path): file for file, path in objects.items()}
    listing = subprocess.run(["nm", "-A", "-P", *named], text=True, check=True,
                             stdout=subprocess.PIPE).stdout
    for line in listing.splitlines():
        path, name, kind = line.split()[:3]
        file = named[path.removesuffix(":")]
        if kind in "Uvw":
            needed[file].add(name)
        elif kind.isupper() and (file != INTERPOSER or name.startswith("nx_")):
            defined[file].add(name)
    return defined, needed


def dependencies(objects):
    """Maps each file to the files that define what it needs, and to the names of that."""
    defined, needed = symbols(objects)
    where = {}
    for file, names in defined.items():
        for name in names:
            where.setdefault(name, set()).add(file)
    edges = {}
    for file, names in needed.items():
        edges[file] = {}
        for name in sorted(names - defined[file]):
            for other in where.get(name, ()):
                edges[file].setdefault(other, []).append(name)
    return edges


def circles(edges):
    """Returns the groups of files each of which needs all others of its group, by way of others."""
    def reachable(start):
        seen, todo = set(), [start]
        while todo:
            for other in edges.get(todo.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    reach = {file: reachable(file) for file in edges}
    groups = {frozenset(other for other in reach[file] if file in reach[other])
              for file in edges if file in reach[file]}
    return sorted(sorted(group) for group in groups)


def describe_circle(group, edges):
    """Tells a circle with the symbols that tie it, so that one sees which to move."""
    lines = [f"a circle of {len(group)} files:"]
    for file in group:
        for other in group:
            if other in edges[file]:
                lines.append(f"  {file} needs {', '.join(edges[file][other])} of {other}")
    return "\n".join(lines)


def find_circles(objects):
    edges = dependencies(objects)
    return [describe_circle(group, edges) for group in circles(edges)]


def find_headers(root):
    return {str(file.relative_to(root)) for folder in SOURCES
            for file in (root / folder).rglob("*.h") if file.is_file()}


def resolve(file, name, headers):
    """Returns the project's header that a file means by a name in quotes; None: there is none."""
    beside = os.path.normpath(Path(file).parent / name)
    if beside in headers:
        return beside
    # The include paths are those of the folders; a folder of the file's own kind comes first.
    found = sorted((header for header in headers if header == name or header.endswith("/" + name)),
                   key=lambda header: (header.split("/")[0] != file.split("/")[0],
                                       header.count("/"), header))
    return found[0] if found else None


def private_of(root, headers):
    """Maps each private header to the beginnings of the paths of those who may include it."""
    private = {header: who for header, who in PRIVATE.items() if header in headers}
    for header in headers:
        if header.startswith("engine/"):
            text = (root / header).read_text(encoding="utf-8")
            said = SAYS_PRIVATE.search(text[:text.find("#")])
            if said:
                private[header] = (f"engine/{said.group(1)}/", "tests/")
    return private


def find_includes(root):
    """Returns the includes that the layout forbids."""
    root = Path(root)
    headers = find_headers(root)
    private = private_of(root, headers)
    found = []
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".c", ".h", ".S", ".inc") or not path.is_file():
                continue
            file = str(path.relative_to(root))
            for name in INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace")):
                header = resolve(file, name, headers)
                if header in private and not file.startswith(private[header]):
                    found.append(f"{file} includes {header}, which is private to {private[header][0]}")
                if folder == "engine" and (header is None or not header.startswith("engine/")):
                    found.append(f"{file} includes {header or name}, which is outside engine/")
    return found


def misnamed(root, tests):
    """Returns the names of tests that are not the path of the test's file or folder.

    Below tests/, without "_test" and the ending; of a program elsewhere, below the root. A hyphen begins what
    tells apart the tests that one file makes. Valgrind's name stands before those that it runs.
    """
    root = Path(root)

    def stands_for(name):
        path = name.split("-")[0].removeprefix("valgrind/")
        endings = ("_test.c", "_test.py", ".c", ".py", ".sh")
        return ((root / "tests" / name).is_dir() or (root / path).is_file() or
                not path.endswith("_test") and
                any((root / "tests" / f"{path}{ending}").is_file() for ending in endings))

    return [name for name in tests if not stands_for(name)]


def untested(root):
    """Returns the files of kvm/ that have no unit test of their name."""
    root = Path(root)
    return [str(file.relative_to(root)) for file in sorted((root / "kvm").glob("*.c"))
            if not (root / "tests/kvm" / f"{file.stem}_test.c").is_file()]
