"""The kill matrix: messages can be checked, rounds tell what is usable, the table counts them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import kill_matrix


@pytest.mark.parametrize("size", [100, 16 * 1024])
def test_a_message_that_was_changed_anywhere_is_noticed(size: int) -> None:
    made = kill_matrix.message(3, 5, size)
    assert len(made) == size
    assert kill_matrix.check(made, size) == (3, 5)
    with pytest.raises(kill_matrix.DamagedError, match="bytes arrived"):
        kill_matrix.check(made[:-1], size)
    for at in (kill_matrix.HEAD.size - 1, kill_matrix.HEAD.size, size - 1):
        changed = bytearray(made)
        changed[at] ^= 1
        with pytest.raises(kill_matrix.DamagedError, match="checksum"):
            kill_matrix.check(changed, size)


def test_a_round_with_fastipc_leaves_its_queue_usable() -> None:
    found = kill_matrix.ask_round("fastipc", 100, seed=1, kills=kill_matrix.KILLS)
    assert found == {"usable": True, "damaged": False, "kills": kill_matrix.KILLS}


def test_without_a_kill_everybody_comes_to_an_end() -> None:
    found = kill_matrix.ask_round("fastipc", 100, seed=1, kills=0)
    assert found == {"usable": True, "damaged": False, "kills": 0}


def test_whoever_does_not_end_although_nobody_was_killed_makes_the_queue_unusable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kill_matrix, "DEADLINE_SECONDS", 0.5)
    # Both wait for what nobody puts.
    monkeypatch.setattr(kill_matrix, "produce", lambda *args: None)
    found = kill_matrix.one_round("fastipc", 100, 1, 0, kill_matrix.ROOT)
    assert found == {"usable": False, "damaged": False, "kills": 0}


def test_a_round_with_a_queue_that_nobody_can_use_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # As somebody who took the lock of a multiprocessing.SimpleQueue and was killed.
    monkeypatch.setattr(kill_matrix, "DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(kill_matrix, "put_marked", lambda channel, size: None)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(kill_matrix, "ROLES", ())
        found = kill_matrix.one_round("fastipc", 100, 1, 0, kill_matrix.ROOT)
    assert found["usable"] is False


def test_the_table_counts_rounds_that_were_unusable_or_saw_damage() -> None:
    good = {"usable": True, "damaged": False}
    rounds = [good, {"usable": False, "damaged": False}, {"usable": True, "damaged": True}]
    assert kill_matrix.summary(rounds) == "2 of 3"
    assert kill_matrix.summary([{"absent": "not installed"}]) == "-"
    kept = {
        "command": "python -m benchmarks.kill_matrix --rounds 3",
        "settings": {"sizes": ["100 B", "16 KiB", "1 MB"], "kills": 7},
        "environment": kill_matrix.environment.describe(["fastipc"]),
        "rounds": {"fastipc": {"100 B": [good]}, "dejaq": {"1 MB": rounds}},
        "spared": {"fastipc": {"100 B": [good]}, "dejaq": {"1 MB": [good]}},
    }
    made = kill_matrix.markdown(kept)
    assert "| fastipc | 0 of 1 | - | - |" in made
    assert "| dejaq | - | - | 2 of 3 |" in made
    assert "`python -m benchmarks.kill_matrix --rounds 3`, " in made
    assert "; 7 kills a round" in made
    assert made.endswith("Without a kill, 2 rounds in all: each queue was usable behind each.")
    kept["spared"]["dejaq"]["1 MB"] = rounds
    made = kill_matrix.markdown(kept)
    assert made.endswith("Without a kill, 4 rounds in all: unusable dejaq 2 of 3 at 1 MB.")


def test_rounds_are_kept_with_their_command_and_make_the_same_table_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept, readme = tmp_path / "kept.json", tmp_path / "README.md"
    readme.write_text(f"before\n{kill_matrix.BEGIN}\nold\n{kill_matrix.END}\nbehind\n")
    found = {"usable": True, "damaged": False, "kills": 12}
    monkeypatch.setattr(kill_matrix, "ask_round", lambda library, size, seed, kills: found)
    monkeypatch.setattr(kill_matrix, "shown", iter)
    run = ["--rounds", "2", "--libraries", "fastipc,dejaq", "--sizes", "1 MB"]
    assert kill_matrix.main([*run, "--json", str(kept), "--readme", str(readme)]) == 0
    written = readme.read_text()
    assert written.startswith(f"before\n{kill_matrix.BEGIN}\n| rounds that")
    assert written.endswith(f"{kill_matrix.END}\nbehind\n")
    assert "| dejaq | 0 of 2 |" in written
    assert "Without a kill, 4 rounds in all:" in written
    assert "--rounds 2 --libraries fastipc,dejaq --sizes '1 MB' --json" in written
    monkeypatch.setattr(kill_matrix, "ask_round", None)  # no round is done
    readme.write_text(written.replace("0 of 2", "1 of 2"))
    assert kill_matrix.main(["--from", str(kept), "--readme", str(readme)]) == 0
    assert readme.read_text() == written


def test_the_table_in_readme_is_that_of_the_kept_rounds() -> None:
    kept = json.loads(kill_matrix.KEPT.read_text())
    readme = (kill_matrix.ROOT / "README.md").read_text()
    assert kill_matrix.table_of(readme) == kill_matrix.markdown(kept), (
        f"run python -m benchmarks.kill_matrix --from {kill_matrix.KEPT} --readme README.md"
    )


def test_the_kept_rounds_are_of_a_commit_and_of_every_library_and_size() -> None:
    kept = json.loads(kill_matrix.KEPT.read_text())
    assert re.fullmatch("[0-9a-f]{40}", kept["environment"]["commit"]), "changes were not committed"
    assert tuple(kept["rounds"]) == kill_matrix.LIBRARIES
    for library, by_size in kept["rounds"].items():
        assert list(by_size) == list(kill_matrix.SIZES)
        for rounds in by_size.values():
            assert len(rounds) == kept["settings"]["rounds"]
            assert not any("absent" in each for each in rounds), library


def test_an_unknown_size_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        kill_matrix.main(["--sizes", "3 B"])
    assert ended.value.code == 2
    assert "there is no size '3 B'; there are: 100 B, 16 KiB, 1 MB" in capsys.readouterr().err
