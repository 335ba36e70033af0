"""The check of skips finds what it has to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import check_skips

REPORT = """<testsuites><testsuite tests="3">
<testcase classname="tests.unit.test_a" name="test_passes"/>
<testcase classname="tests.unit.test_a" name="test_x[fork]">
  <skipped type="pytest.skip" message="no /dev/shm here">...</skipped></testcase>
<testcase classname="" name="tests.unit.test_b"><skipped message="collected late"/></testcase>
</testsuite></testsuites>"""


def run(tmp_path: Path, allowed: str, report: str = REPORT) -> int:
    (tmp_path / "skips.txt").write_text(allowed)
    (tmp_path / "report.xml").write_text(report)
    return check_skips.main([str(tmp_path / "skips.txt"), str(tmp_path / "report.xml")])


def test_skips_that_are_listed_pass(tmp_path: Path) -> None:
    allowed = (
        "# why\ntests.unit.test_a::test_x[*] | no /dev/shm*\ntests.unit.test_b | collected *\n"
    )
    assert run(tmp_path, allowed) == 0


def test_a_skip_that_is_not_listed_fails_and_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "tests.unit.test_b | *\n") == 1
    assert "tests.unit.test_a::test_x[fork] | no /dev/shm here" in capsys.readouterr().out


def test_a_listed_test_with_another_reason_fails(tmp_path: Path) -> None:
    assert run(tmp_path, "tests.unit.test_a::* | some other reason\ntests.unit.test_b | *\n") == 1


def test_a_report_without_tests_fails(tmp_path: Path) -> None:
    assert run(tmp_path, "", "<testsuites><testsuite/></testsuites>") == 1


def test_a_line_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="line 2"):
        run(tmp_path, "# why\ntests.unit.test_b without a reason\n")


def own(name: str) -> list[check_skips.Skip]:
    return check_skips.read_allowed(Path(check_skips.__file__).with_name(name).read_text())


@pytest.mark.parametrize("name", ["skips.txt", "skips-bench.txt"])
def test_the_projects_own_lists_can_be_read(name: str) -> None:
    assert own(name)


def test_a_library_may_be_absent_only_where_no_library_is_needed() -> None:
    test = "tests.unit.test_benchmarks::test_each_library_gives_numbers_where_it_is_installed"
    reason = "absent: {0} cannot be imported: No module named '{0}'"
    for peer, allowed in (("zeroq", False), ("hyperq", False), ("torch", True)):
        skip = check_skips.Skip(f"{test}[queue-int-{peer}]", reason.format(peer))
        assert check_skips.is_allowed(skip, own("skips.txt"))
        assert check_skips.is_allowed(skip, own("skips-bench.txt")) == allowed
