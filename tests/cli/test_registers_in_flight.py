"""scripts/registers_in_flight.py: which writes it finds in a loop of machine code as cuobjdump prints it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(os.environ["TRITLLM_SOURCE_DIR"]) / "scripts" / "registers_in_flight.py"

MULTIPLY = "HGMMA.64x64x16.F32 R24, R152, gdesc[UR16], R24, gsb0"
OTHER_MULTIPLY = "HGMMA.64x64x16.F32 R24, R168, gdesc[UR16], R24, gsb0"
WAIT_FOR_ALL = "WARPGROUP.DEPBAR.LE gsb0, 0x0"
WAIT_FOR_ALL_BUT_ONE = "WARPGROUP.DEPBAR.LE gsb0, 0x1"
LOAD = "LDG.E.NA.128.CONSTANT R152, desc[UR10][R22.64]"


def examined(*loop):
    lines = ["MOV R1, c[0x0][0x28]", *loop, "@!P0 BRA 0x10", "EXIT"]
    text = "Function : kernel\n" + "".join(f"        /*{16 * i:04x}*/   {line} ;\n" for i, line in enumerate(lines))
    return subprocess.run([sys.executable, SCRIPT], input=text, text=True, capture_output=True)


@pytest.mark.parametrize("write", [LOAD, "@P1 LDG.E.64 R154, desc[UR10][R22.64]", "IMAD.MOV.U32 R155, RZ, RZ, R3",
                                   "LDG.E.128 R149, desc[UR10][R22.64]"])
def test_writes_before_the_wait_are_found(write):
    result = examined(MULTIPLY, write, WAIT_FOR_ALL)
    assert result.returncode == 1
    assert "kernel: 0x20: " + write.removeprefix("@P1 ") in result.stdout


def test_a_write_in_the_next_turn_of_the_loop_is_found():
    assert examined(LOAD, WAIT_FOR_ALL, MULTIPLY).returncode == 1


@pytest.mark.parametrize("loop", [
    (MULTIPLY, WAIT_FOR_ALL, LOAD),
    (MULTIPLY, "LDG.E.64 R150, desc[UR10][R22.64]", WAIT_FOR_ALL),
    (MULTIPLY, "STG.E.128 desc[UR10][R22.64], R152", WAIT_FOR_ALL),
    (MULTIPLY, OTHER_MULTIPLY, WAIT_FOR_ALL_BUT_ONE, LOAD, WAIT_FOR_ALL),
])
def test_other_writes_are_not(loop):
    result = examined(*loop)
    assert result.returncode == 0, result.stdout
    assert "1 functions, 0 writes" in result.stdout


def test_the_group_that_a_wait_leaves_is_still_in_flight():
    assert examined(OTHER_MULTIPLY, MULTIPLY, WAIT_FOR_ALL_BUT_ONE, LOAD, WAIT_FOR_ALL).returncode == 1


def test_code_without_such_a_loop_is_no_success():
    assert examined("MOV R2, R3").returncode == 1
