"""Checks that the modules of src/ use each other downwards only: their includes and the LINKS of their CMakeLists.txt.

A file includes headers of its own module and of modules on lower levels; modules on one level never meet. The levels are those of
the table in ARCHITECTURE.md, whose rows must be exactly the folders of src/. Standard library only, so that any python3 can run it.

Usage: check_layering.py SOURCE_TREE        (prints one line for each breach; exit status 1 where there is one)
"""

import pathlib
import re
import sys

LEVEL_ROW = re.compile(r"^\| (\d+) \| `src/(\w+)` \|", re.MULTILINE)
SOURCE_SUFFIXES = {".h", ".hpp", ".inc", ".c", ".cc", ".cpp", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
# This project's libraries are called tritllm_MODULE or, where a module has several, tritllm_MODULE_PART.
TARGET = re.compile(r"\btritllm_(\w+?)(?:_\w+)?\b")


def levels_of(tree):
    """The level of each module, by name."""
    return {module: int(level) for level, module in LEVEL_ROW.findall((tree / "ARCHITECTURE.md").read_text(encoding="utf-8"))}


def breach(levels, place, module, verb, other):
    """The sentence about one use, or nothing where it is allowed."""
    if other == module or levels[other] < levels[module]:
        return
    relation = "above it" if levels[other] > levels[module] else "on the same level"
    yield f"{place}: {module} (level {levels[module]}) {verb} {other} (level {levels[other]}), which is {relation}"


def include_breaches(levels, file, place, module):
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        at = f"{place}:{number}"
        parts = name.split("/")
        if ".." in parts:
            yield f'{at}: includes "{name}"; name headers from src/ on, without ".."'
        elif len(parts) > 1 and parts[0] in levels:
            yield from breach(levels, at, module, "includes", parts[0])
        elif quote == '"' and len(parts) > 1:
            yield f'{at}: includes "{name}", but src/ has no module "{parts[0]}" (third-party headers take <>)'


def link_breaches(levels, file, place, module):
    text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
    for other in sorted(set(TARGET.findall(text)) & levels.keys()):
        yield from breach(levels, place, module, "links", other)


def breaches(tree):
    source = tree / "src"
    levels = levels_of(tree)
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    for module in sorted(levels.keys() - {folder.name for folder in folders}):
        yield f"ARCHITECTURE.md: the table of levels has src/{module}, which does not exist"
    for folder in folders:
        module = folder.name
        if module not in levels:
            yield f"src/{module}: has no level; add it to the table in ARCHITECTURE.md"
            continue
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = file.relative_to(tree).as_posix()
            if file.suffix in SOURCE_SUFFIXES:
                yield from include_breaches(levels, file, place, module)
            elif file.name == "CMakeLists.txt":
                yield from link_breaches(levels, file, place, module)


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
