"""Checks that the modules of src/ use each other downwards only: their includes and the LINKS of their CMakeLists.txt.

A file includes headers of its own module and of modules on lower levels; modules on one level never meet. Standard library
only, so that any python3 can run it.

Usage: check_layering.py SOURCE_TREE        (prints one line for each breach; exit status 1 where there is one)
"""

import pathlib
import re
import sys

LEVELS = {
    "core": 0,
    "codec": 1,
    "io": 2,
    "text": 2,
    "kernels": 2,
    "sampling": 2,
    "backend": 3,
    "model": 4,
    "engine": 5,
    "tasks": 6,
    "app": 7,
    "api": 7,
}
SOURCE_SUFFIXES = {".h", ".hpp", ".inc", ".c", ".cc", ".cpp", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
# This project's libraries are called tritllm_MODULE or, where a module has several, tritllm_MODULE_PART.
MODULE_TARGET = re.compile(r"\btritllm_(" + "|".join(LEVELS) + r")(?:_\w+)?\b")


def may_use(module, other):
    return other == module or LEVELS[other] < LEVELS[module]


def breach(place, module, verb, other):
    relation = "above" if LEVELS[other] > LEVELS[module] else "beside"
    return f"{place}: {module} (level {LEVELS[module]}) {verb} {other} (level {LEVELS[other]}), which is {relation} it"


def include_breaches(file, place, module):
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        at = f"{place}:{number}"
        parts = name.split("/")
        if ".." in parts:
            yield f'{at}: includes "{name}"; name headers from src/ on, without ".."'
        elif len(parts) > 1 and parts[0] in LEVELS:
            if not may_use(module, parts[0]):
                yield breach(at, module, "includes", parts[0])
        elif quote == '"' and len(parts) > 1:
            yield f'{at}: includes "{name}", but "{parts[0]}" is no module of src/ (third-party headers take <>)'


def link_breaches(file, place, module):
    text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
    for other in sorted(set(MODULE_TARGET.findall(text))):
        if not may_use(module, other):
            yield breach(place, module, "links", other)


def breaches(tree):
    source = tree / "src"
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        module = folder.name
        if module not in LEVELS:
            yield f"src/{module}: has no level; add it to LEVELS in tests/layering/check_layering.py and to ARCHITECTURE.md"
            continue
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = file.relative_to(tree).as_posix()
            if file.suffix in SOURCE_SUFFIXES:
                yield from include_breaches(file, place, module)
            elif file.name == "CMakeLists.txt":
                yield from link_breaches(file, place, module)


def main(tree):
    if not (tree / "src" / "core").is_dir():
        sys.exit(f"check_layering.py: no src/core in {tree}")
    found = list(breaches(tree))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1])))
