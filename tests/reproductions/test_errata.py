import sys
from decimal import Decimal

import pytest

from reproductions import errata
from reproductions.errata import faults, recompute, rounds_to
from reproductions.paper import Arithmetic, Erratum, Mark
from reproductions.spec import load_paper
from retable import cli
from retable.errors import SpecError

SONA = load_paper("sona")
CELLS = {cell.id: cell for cell in SONA.cells}
MGN, BFE = "table2-MGN-market1501", "table2-BFE-market1501"


def value(formula: str) -> Decimal:
    return recompute(SONA, Arithmetic(formula=formula, gives="0")).value


def printed(cell: str) -> Decimal:
    return CELLS[f"sona-{cell}"].value


def erratum(mark: Mark, gives: str, says: str) -> Erratum:
    check = (Arithmetic(formula="2 + 2", gives=gives, says=says),)
    return Erratum(id="E", mark=mark, source="s", printed="p", follows="f", check=check)


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["errata", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.execute(errata.main)
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.mark.parametrize(
    ("formula", "expected"),
    [("1 + 2 * 3", "7"), ("(1 + 2) * -3", "-9"), ("0.1 + 0.2", "0.3"), ("7 / 2", "3.5"), ("2 ** 3", "8")],
)
def test_arithmetic_is_decimal(formula, expected):
    assert value(formula) == Decimal(expected)


def test_cells_are_their_printed_values():
    assert value(f"{{{MGN}-mAP}}") == printed(f"{MGN}-mAP")
    assert value(f"{{{MGN}-mAP}} - {{{BFE}-mAP}}") == printed(f"{MGN}-mAP") - printed(f"{BFE}-mAP")


def test_a_star_in_a_label_is_no_pattern():
    assert value("{table2-PDC*-market1501-mAP}") == printed("table2-PDC*-market1501-mAP")


def test_patterns_leave_deviations_out_unless_they_ask_for_them():
    own = SONA.select(table="table3", row="SONA2-Net")

    assert value("count({table3-SONA2-Net-*})") == sum(not cell.is_deviation for cell in own) == 4
    assert value("count({table3-SONA2-Net-*-std})") == sum(cell.is_deviation for cell in own) == 4
    assert value("count({table3-SONA2-Net-dukemtmc-mAP-std})") == 1


def test_functions_of_cells():
    column = [cell.value for cell in SONA.select(table="table2", metric="mAP") if not cell.is_deviation]

    assert value("max({table2-*-mAP})") == max(column)
    assert value("min({table2-*-mAP})") == min(column)


def test_comparisons_pair_cells_by_data_set_and_metric():
    a, b = "{table5-BL+SONA2-*}", "{table5-BL-*}"

    assert value(f"above({a}, {b}) + at_least({b}, {a})") == 16
    assert value(f"above({a}, {a})") == 0
    assert value(f"at_least({a}, {a})") == 16
    assert value("above({table5-SONA2-Net-*}, {table5-MGN-*})") <= 8  # MGN has eight cells


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        ("{table2-MGM-market1501-mAP}", "did you mean 'sona-table2-MGN-market1501-mAP'"),
        ("{table2-*-mAP} + 1", "where one number is needed"),
        ("open({table2-*})", "known functions: max, min"),
        ("max(3)", "'3' is not a cell in braces"),
        ("__import__('os')", "cannot read"),
        ("1 +", "formula '1 +'"),
        ("1 / 0", "formula '1 / 0'"),
        ("'a' + 'b'", "cannot read"),
        ("cell0", "not a cell in braces"),
    ],
)
def test_what_is_no_formula_is_refused_by_name(formula, part):
    with pytest.raises(SpecError, match=r"papers/sona/paper\.toml") as caught:
        value(formula)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("number", "shown", "rounds"),
    [
        *[("3.83", "3.8", True), ("1.18", "1.1", False), ("1.18", "1.2", True), ("6.97", "7.0", True)],
        *[("0.25", "0.3", True), ("0.25", "0.2", True), ("-0.72", "0.72", False)],
    ],
)
def test_a_half_may_be_rounded_either_way(number, shown, rounds):
    assert rounds_to(Decimal(number), shown) == rounds


@pytest.mark.parametrize(
    ("mark", "gives", "says", "part"),
    [
        ("wrong", "4", "5", None),
        ("wrong", "4", "", None),
        ("wrong", "4", "4", "nothing is contradicted"),
        ("rounded", "4", "4", "nothing is contradicted"),
        ("wrong", "5", "6", "is 4, not 5"),
        ("unclear", "4", "4", None),
        ("right", "4", "4", None),
        ("right", "4", "5", "the text says 5, not 4"),
    ],
)
def test_an_erratum_must_contradict_and_a_right_sentence_must_not(mark, gives, says, part):
    stated = erratum(mark, gives, says)
    found = faults(stated, [recompute(SONA, check) for check in stated.check])

    assert (part in found[0] and len(found) == 1) if part else not found


def test_the_command_shows_every_erratum(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "sona")

    assert code == 0
    assert all(f"sona {one.id}  {one.mark}" in out for one in SONA.errata)
    assert all(one.id not in out for one in SONA.statements)
    assert f"{len(SONA.statements)} of {len(SONA.statements)} other sentences" in out


def test_the_command_shows_sentences_that_check_out_on_request(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "--verified")

    assert code == 0
    assert all(f"sona {one.id}  right" in out for one in SONA.statements)


@pytest.mark.parametrize("section", ["errata", "statements"])
@pytest.mark.parametrize("arguments", [[], ["--verified"]])
def test_a_recomputation_that_disagrees_exits_with_1(monkeypatch, capsys, section, arguments):
    broken = SONA.model_copy(update={section: (erratum("right", "5", "5"),)})
    monkeypatch.setattr(errata, "load_paper", lambda _key: broken)

    assert run(monkeypatch, capsys, "sona", *arguments)[0] == 1
