#!/usr/bin/env python3
"""Looks for registers that machine code overwrites while a warpgroup instruction may still read them.

    cuobjdump -sass OBJECT | scripts/registers_in_flight.py

wgmma with weights in registers reads them some time after it was issued, until a wait covers it. ptxas does not keep other
instructions from writing those registers (seen with nvcc 13.0: loads of dense weights), and the sums are then wrong now and then.
Of each function the shortest loop with such instructions is walked twice. Ends with 1 where a write is found, naming function and
address, and where there is no such loop at all.
"""

import re
import sys

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+\s+)?(.*?);")
MULTIPLY = re.compile(r"HGMMA\S* R\d+, R(\d+), ")
WAIT = re.compile(r"WARPGROUP\.DEPBAR\.LE gsb0, 0x(\d+)")
BRANCH = re.compile(r"BRA.*?(0x[0-9a-f]+)")
WRITE = re.compile(r"(\S+) (?:U?P\w+, )*R(\d+)[, ]")
NO_WRITE = ("ST", "SYNCS", "RED", "BAR", "BRA", "UBLK", "UTMA", "WARP", "HGMMA", "MEMBAR", "CCTL")


def innermost_loop(code):
    """The shortest backward branch over a warpgroup instruction, as (begin, end) of `code`; None where there is none."""
    index_of = {address: index for index, (address, _) in enumerate(code)}
    multiplies = [index for index, (_, text) in enumerate(code) if MULTIPLY.match(text)]
    loops = []
    for end, (_, text) in enumerate(code):
        branch = BRANCH.match(text)
        begin = index_of.get(int(branch.group(1), 16)) if branch else None
        if begin is not None and any(begin <= index <= end for index in multiplies):
            loops.append((end - begin, begin, end))
    return min(loops)[1:] if loops else None


def registers_written(text):
    write = WRITE.match(text)
    if not write or write.group(1).startswith(NO_WRITE):
        return set()
    width = 4 if ".128" in write.group(1) else 2 if ".64" in write.group(1) or "WIDE" in write.group(1) else 1
    first = int(write.group(2))
    return set(range(first, first + width))


def overwritten(loop):
    """(address, instruction) of each write to a register of an instruction in flight."""
    groups, open_group = [], set()
    for address, text in loop * 2:
        if multiply := MULTIPLY.match(text):
            first = int(multiply.group(1))
            open_group |= set(range(first, first + 4))
            if "gsb0" in text:
                groups.append(open_group)
                open_group = set()
        elif wait := WAIT.match(text):
            pending = int(wait.group(1))
            groups = groups[len(groups) - pending:] if pending else []
        elif registers_written(text) & open_group.union(*groups):
            yield address, text


def main():
    found = functions = 0
    for part in sys.stdin.read().split("Function : ")[1:]:
        name = part.split("\n", 1)[0]
        code = [(int(address, 16), text) for address, text in INSTRUCTION.findall(part)]
        loop = innermost_loop(code)
        if loop is None:
            continue
        functions += 1
        for address, text in overwritten(code[loop[0]:loop[1] + 1]):
            found += 1
            print(f"{name}: {address:#x}: {text}")
    print(f"registers_in_flight: {functions} functions, {found} writes to registers in use")
    return 1 if found or not functions else 0


if __name__ == "__main__":
    sys.exit(main())
