"""The steps of the models, of csrc/PROTOCOL.md and of the comments of csrc are the same ones.

That the protocol's are the code's is a test of tests/unit/test_protocol.py. The models themselves
are checked by `python -m tests.model`, which needs spin.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.model.models import FOLDER, Model, Run, all_models
from tests.model.search import Result, complaint, never_reached
from tests.support import ROOT

STEP = r"[a-z]+(?:-[a-z]+)+"


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"there is no section {title!r}"
    return found.group(1)


def first_cells(text: str) -> list[str]:
    return [
        name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in row.split("`")[1::2]
    ]


def steps_of_the_models() -> dict[str, set[str]]:
    return {model.name: model.steps for model in all_models()}


def steps_of_the_protocol() -> set[str]:
    return set(first_cells(section((ROOT / "csrc" / "PROTOCOL.md").read_text(), "Crash table")))


def steps_of_the_code() -> set[str]:
    comments = [
        comment
        for path in (ROOT / "csrc").glob("*.[ch]")
        for comment in re.findall(r"/\*.*?\*/", path.read_text(), re.S)
    ]
    return set(re.findall(rf"\bstep ({STEP})", "\n".join(comments)))


def test_each_step_of_a_model_is_one_of_the_protocol_and_of_the_code() -> None:
    for name, steps in steps_of_the_models().items():
        assert steps, f"{name} has no step"
        assert steps - steps_of_the_protocol() == set(), f"{name}: not in PROTOCOL.md"
        assert steps - steps_of_the_code() == set(), f"{name}: no comment in csrc"


def test_each_step_is_in_a_model_or_has_a_reason_why_not() -> None:
    modelled = set().union(*steps_of_the_models().values())
    text = section((FOLDER / "README.md").read_text(), "Steps without a model")
    left_out = first_cells(text)
    assert len(left_out) == len(set(left_out))
    assert modelled & set(left_out) == set(), "in a model all the same"
    assert modelled | set(left_out) == steps_of_the_protocol()


def test_each_reason_why_not_is_given() -> None:
    text = section((FOLDER / "README.md").read_text(), "Steps without a model")
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.M)
    assert len(rows) == len(re.findall(r"^\| `", text, re.M))
    for steps, reason in rows:
        assert re.fullmatch(r"`[a-z-]+`(?:, `[a-z-]+`)*", steps), steps
        assert len(reason.split()) >= 4, f"{steps}: {reason!r} is no reason"


def test_the_rules_whose_absence_has_to_be_found_are_broken_in_their_models() -> None:
    runs = {
        (model.path.name, run.name)
        for model in all_models()
        for run in model.runs
        if run.error is not None
    }
    named = re.findall(
        r"\(`(\w+\.pml)`,\s+`([a-z-]+)`\)",
        section((FOLDER / "README.md").read_text(), "The models"),
    )
    assert named == [
        ("publish.pml", "publish-before-write"),
        ("wake.pml", "no-recheck"),
        ("blocks.pml", "ordinals-not-repaired"),
        ("doorbell.pml", "token-without-the-lock"),
    ]
    assert set(named) <= runs


def test_each_model_is_in_the_readme_and_breaks_on_purpose() -> None:
    table = first_cells(section((FOLDER / "README.md").read_text(), "The models"))
    assert table == [f"{model.path.name}" for model in all_models()]
    for model in all_models():
        names = [run.name for run in model.runs]
        assert len(names) == len(set(names)), model.name
        assert len(names) == len(re.findall(r"^ \* (?:run|broken) ", model.text, re.M)), model.name
        assert any(run.error is None for run in model.runs), model.name
        assert any(run.error is not None for run in model.runs), model.name


WHOLE = """
\t+ Partial Order Reduction
Full statespace search for:
\tnever claim         \t- (none specified)
\tassertion violations\t+
\tinvalid end states\t+

State-vector 64 byte, depth reached 157, errors: 0
   301464 states, stored

unreached in proctype user
\tlock.pml:1, state 10, "(dead[me])"
\tlock.pml:1, state 12, "-end-"
"""


def test_a_search_that_was_cut_short_shows_nothing() -> None:
    run = Run("kills", ("-DKILLS=2",), None)
    assert complaint(run, Result(WHOLE, "", 0)) is None
    for words in ("error: max search depth too small", "pan: reached -DMEMLIM bound"):
        assert "did not search all states" in str(complaint(run, Result(words + WHOLE, "", 0)))
    for words in ("errors: 0", "invalid end states\t+", "Full statespace search"):
        assert complaint(run, Result(WHOLE.replace(words, ""), "", 0)) is not None
    found = Result("pan:1: invalid end state (at depth 9)\n" + WHOLE, "", 0)
    assert complaint(run, found) == "found 'invalid end state'"


def test_a_run_that_is_broken_on_purpose_has_to_find_its_own_error() -> None:
    run = Run("no-recheck", ("-DKILLS=1",), "invalid end state")
    found = "pan:1: {} (at depth 9)\n"
    assert complaint(run, Result(found.format("invalid end state") + WHOLE, "", 0)) is None
    assert "no error was found" in str(complaint(run, Result(WHOLE, "", 0)))
    assert "expected" in str(complaint(run, Result(found.format("assertion violated x"), "", 0)))


def test_a_statement_that_one_run_reaches_is_reached(tmp_path: Path) -> None:
    model = Model(FOLDER / "lock.pml")
    first, second = model.runs[0], model.runs[1]
    line = next(
        n for n, text in enumerate(model.text.splitlines(), 1) if text.endswith("seen = lock;")
    )
    missed = Result(f'\tlock.pml:{line}, state 10, "seen = lock"\n', "", 0)
    assert never_reached(model, {first: missed, second: missed})
    assert not never_reached(model, {first: missed, second: Result("", "", 0)})
