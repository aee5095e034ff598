from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import table_rows, write_rows
from counterclaim.audit import intake
from counterclaim.config import load_claim, lock_path, lock_text, template
from counterclaim.errors import InputError
from counterclaim.records import Claim, Guard

GOOD = """\
[target]
metric = "accuracy"
direction = "increase"
margin = 0.05

[[guards]]
metric = "coverage"
allowed_loss = 0.02

[[guards]]
metric = "score.helpfulness"
allowed_loss = 0.1
better = "higher"

[test]
alpha = 0.02
seeds = [1, 2]
required_checks = ["seeds"]
same_construct = [["correct", "factual"]]
looked_at = 3
thresholds_chosen_on = "train"
varies = ["system_prompt"]

[roles]
judge = "aster-2"

[[quotes]]
arm = "treated"
metric = "accuracy"
value = 0.58
n = 100
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "claim.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_claim_file_says_everything_that_a_claim_can_hold(tmp_path: Path) -> None:
    claim = load_claim(written(tmp_path, GOOD))
    assert (claim.metric, claim.direction, claim.margin, claim.alpha, claim.level) == (
        "accuracy",
        "increase",
        0.05,
        0.02,
        0.95,
    )
    assert claim.guards == (Guard("coverage", 0.02), Guard("score.helpfulness", 0.1))
    assert (claim.seeds, claim.required, claim.looked_at) == ((1, 2), ("seeds",), 3)
    assert (claim.same_construct, claim.varies) == ((("correct", "factual"),), ("system_prompt",))
    assert claim.thresholds_chosen_on == "train"
    assert claim.roles == {"judge": "aster-2"}
    assert claim.quotes[0].value == 0.58


@pytest.mark.parametrize(
    "claim",
    [
        Claim("coverage", "increase", 0.05),
        Claim("assertion_asymmetry", "decrease", 0.1, (Guard("accuracy", 0.02), Guard("hallucination_rate", 0.0, "lower"))),
        Claim('label.x="quoted\\text"', "increase", 1.0, (Guard('score."b"', 0.5),), alpha=0.005, level=0.9),
        Claim("score.x", "decrease", 1e-05),
    ],
)  # fmt: skip
def test_a_template_says_what_its_claim_says(tmp_path: Path, claim: Claim) -> None:
    again = load_claim(written(tmp_path, template(claim, "claim.toml")))
    assert again == claim
    assert again.hash == claim.hash


def test_comments_of_a_template_parse_when_uncommented(tmp_path: Path) -> None:
    lines = template(Claim("coverage", "increase", 0.05), "claim.toml").splitlines()
    prose = ("# What", "# Freeze", "# Then", "# Which", "# Numbers")
    live = [line if line.startswith(prose) else line.removeprefix("# ") for line in lines]
    claim = load_claim(written(tmp_path, "\n".join(live)))
    assert claim.looked_at == 1
    assert claim.quotes[0].value == 0.379


MISTAKES = [
    ("unknown key", GOOD.replace("alpha = 0.02", "alhpa = 0.02"), 16, "test.alhpa: there is no such key; did you mean alpha?"),
    ("unknown table", GOOD + "\n[extra]\nx = 1\n", 33, "extra: there is no such key"),
    ("missing key", GOOD.replace("margin = 0.05\n", ""), 1, "target.margin: is missing"),
    ("missing table", GOOD.partition("[[guards]]")[2].partition("[test]")[1] + "\nalpha = 0.01\n", None, "target: is missing"),
    ("wrong type", GOOD.replace("margin = 0.05", 'margin = "big"'), 4, "target.margin: input should be a valid number"),
    ("wrong choice", GOOD.replace('"increase"', '"up"'), 3, "target.direction: input should be 'increase' or 'decrease'"),
    ("negative margin", GOOD.replace("margin = 0.05", "margin = -0.05"), 4, "target.margin: input should be greater than 0"),
    ("infinite margin", GOOD.replace("margin = 0.05", "margin = inf"), 4, "target.margin"),
    ("second guard", GOOD.replace("allowed_loss = 0.1", "allowed_loss = -0.1"), 12, "guards.1.allowed_loss"),
    ("second guard's missing key", GOOD.replace("allowed_loss = 0.1\n", ""), 10, "guards.1.allowed_loss: is missing"),
    ("alpha", GOOD.replace("alpha = 0.02", "alpha = 1.5"), 16, "test.alpha"),
    ("seed", GOOD.replace("seeds = [1, 2]", 'seeds = [1, "two"]'), 17, "test.seeds.1"),
    ("quote", GOOD.replace("n = 100", "n = 0"), 31, "quotes.0.n"),
    ("not TOML", "[target\nmetric = 1", None, "not valid TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_mistake_names_key_and_line(tmp_path: Path, text: str, line: int | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_claim(written(tmp_path, text))
    assert said in str(caught.value)
    assert "claim.toml" in str(caught.value)
    assert caught.value.line == line
    assert caught.value.remedy


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such claim file"):
        load_claim(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'[target]\nmetric = "caf\xe9"\n')
    with pytest.raises(InputError, match="UTF-8"):
        load_claim(tmp_path / "latin.toml")


def frozen(folder: Path, *, at: str | None = None, change: bool = False, created: str | None = None) -> tuple[str, str]:
    claim = Claim("accuracy", "increase", 0.05)
    path = written(folder, template(claim, "claim.toml"))
    lock_path(path).write_text(
        lock_text(claim) if at is None else json.dumps({"claim_hash": claim.hash, "frozen_at": at}),
        encoding="utf-8",
    )
    if change:
        written(folder, template(Claim("accuracy", "increase", 0.04), "claim.toml"))
    files = {}
    for arm, offset in (("control", 0), ("treated", 1)):
        rows = {"rows": table_rows(20, lambda i, offset=offset: (i + offset) % 2, arm)}
        document = rows if created is None else {"created": created, **rows}
        files[arm] = [folder / f"{arm}.json"]
        files[arm][0].write_text(json.dumps(document), encoding="utf-8")
    records = intake.import_study(files, intake.AuditRequest(file=path), intake.Options())
    return records.study["status"], records.study["status_because"]


def test_a_frozen_claim_makes_a_confirmatory_study(tmp_path: Path) -> None:
    status, why = frozen(tmp_path)
    assert status == "confirmatory"
    assert "has not changed since" in why


def test_a_changed_claim_makes_an_exploratory_one(tmp_path: Path) -> None:
    status, why = frozen(tmp_path, change=True)
    assert status == "exploratory"
    assert "was changed after it was frozen" in why


def test_results_older_than_the_lock_make_an_exploratory_one(tmp_path: Path) -> None:
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    status, why = frozen(tmp_path, created=old)
    assert status == "exploratory"
    assert "before the claim was frozen" in why


def test_a_claim_of_flags_is_exploratory(tmp_path: Path) -> None:
    files = {
        arm: [write_rows(tmp_path / f"{arm}.jsonl", table_rows(10, lambda i: i % 2, arm))]
        for arm in ("control", "treated")
    }
    records = intake.import_study(files, intake.AuditRequest(metric="accuracy"), intake.Options())
    assert records.study["status"] == "exploratory"
    assert "not frozen" in records.study["status_because"]


@pytest.mark.parametrize("at", ["yesterday", "2026-01-01T00:00:00", ""])
def test_a_damaged_lock_is_an_error(tmp_path: Path, at: str) -> None:
    with pytest.raises(InputError, match="lock file is damaged"):
        frozen(tmp_path, at=at)
