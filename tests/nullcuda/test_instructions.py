"""Instructions of the row kernels for each element, from their machine code, against what was recorded and the bars."""

import csv

import pytest
import sass

pytestmark = pytest.mark.skipif(sass.missing() is not None, reason=str(sass.missing()))
LOOP = """
.text.pid_step:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/              @!P0 BRA `(.L_x_2) ;
        /*0020*/                   LDG.E R5, desc[UR8][R8.64] ;
        /*0030*/                   BRA `(.L_x_3) ;
.L_x_2:
        /*0040*/                   LDG.E.128 R4, desc[UR8][R8.64] ;
.L_x_3:
        /*0050*/               @P1 BRA `(.L_x_4) ;
        /*0060*/                   FADD R1, R2, R3 ;
.L_x_4:
        /*0070*/               @P2 BRA `(.L_x_5) ;
        /*0080*/                   CALL.REL.NOINC `($slow) ;
.L_x_5:
        /*0090*/                   STG.E.128 desc[UR8][R8.64], R4 ;
        /*00a0*/              @!P3 BRA `(.L_x_1) ;
        /*00b0*/                   EXIT ;
//---
"""


def test_a_full_warp_takes_neither_the_tails_way_nor_a_slow_one():
    path = sass.full_path(*sass.parsed(LOOP, "pid_step"))
    assert [line.removeprefix("@").split()[-2 if "BRA" in line else 0] for line in path] == [
        *("BRA", "LDG.E.128", "BRA", "FADD", "BRA", "STG.E.128", "BRA")
    ]


@pytest.mark.parametrize("row", sass.ROWS)
def test_no_row_costs_more_than_was_recorded(repository, row):
    """Within 5 %, which another NVRTC may make; `python bench/instructions.py` records anew."""
    with (repository / "bench/results/instructions.csv").open(encoding="utf-8") as file:
        recorded = {(line["architecture"], line["row"]): float(line["per_element"]) for line in csv.DictReader(file)}
    instructions, elements = sass.counted(row, 90)
    assert elements >= 4
    assert instructions / elements <= 1.05 * recorded["sm_90", row]


@pytest.mark.parametrize(("row", "most"), [("flow float32 without noise", 13), ("flow float32 with noise", 62)])
def test_the_bars_of_pids_own_row(row, most):
    instructions, elements = sass.counted(row, 90)
    assert instructions / elements <= most
