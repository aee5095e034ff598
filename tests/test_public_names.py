"""The public names: adding or losing one is a decision, so it is made here too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import counterclaim

PUBLIC = """
Answer Ask Backend BudgetSpent Card Check CheckResult Claim CounterclaimError Decode Estimate Evidence Example Fault
Finding FinishReason Fitting Guard AnswerRow Collector Importer InputFile importer HostileInputError Imported InputError Scorer Item Judge Judged Message Model
ModelError ModelRef ModelSpec Operator Options Outcome PipelinePlan Prompt Provenance Quote Range Reading RecordError
Records RegistryError Response Reward Runtime SandboxError Score StudyPlan Tools Verdict VerdictOutcome AuditRequest
__version__ Metric metric backend check evidence_of import_study scorer judge load load_claim load_pipeline load_study
open_model operator profile promptset PromptSet load_plugins read_run reward run_study serve write
""".split()


def test_the_public_names_are_these() -> None:
    assert sorted(counterclaim.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(counterclaim))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_explains_itself(name: str) -> None:
    value = getattr(counterclaim, name)
    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(counterclaim.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = counterclaim.nonsense
