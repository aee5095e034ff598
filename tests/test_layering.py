"""The laws of ARCHITECTURE.md, held against the code: which part may import which, and what each may do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "counterclaim"
ROW = re.compile(r"^\| `([\w/]+)` \|", re.MULTILINE)
PARTS = ("core", "lab", "testing")
"""A part imports itself and the parts before it."""
PRINTERS = ("cli", "lab/cli", "testing/cli", "testing/listing")
WRITERS = ("folder", "testing/kit", "lab/sandbox", "lab/probing")
TORCH = ("torch", "transformers", "peft", "trl", "accelerate", "safetensors", "tokenizers")
TORCH_ROOMS = ("lab/models", "lab/operators", "lab/probing")
WITHOUT_TORCH = ("__init__.py", "rewards.py", "sidecar.py", "steer.py", "temper.py", "tune.py")
"""Of operators: what naming an operator or a reward imports."""
HEAVY = (
    "numpy", "scipy", "pandas", "statsmodels", "sklearn", "pyarrow", "pydantic", "datasketch", "typer", "rich", "jinja2",
)  # fmt: skip


def room_of(file: Path) -> str:
    """``audit``, ``lab/models``, ``lab/run``: what the table of ARCHITECTURE.md calls it."""
    first, *rest = file.relative_to(PACKAGE).with_suffix("").parts
    return f"{first}/{rest[0]}" if first in PARTS and rest[0] != "__init__" else first


def part_of(module: str) -> str:
    """The part of the package that a dotted name lies in."""
    second = module.split(".")[1] if "." in module else ""
    return second if second in PARTS else "core"


@cache
def sources() -> tuple[tuple[str, Path, ast.Module], ...]:
    return tuple(
        (room_of(file), file, ast.parse(file.read_text(encoding="utf-8"))) for file in sorted(PACKAGE.rglob("*.py"))
    )


def modules_imported(tree: ast.AST, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that is imported, ``from a import b`` as a.b; at any depth, or when imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # names for type checkers are no imports
        elif not (at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from modules_imported(node, at_import=at_import)


def forbidden(part: str, tree: ast.AST) -> list[str]:
    """Imports of a part by one that must do without it."""
    return [
        f"line {line}: {part} imports {name}"
        for line, name in modules_imported(tree)
        if name.startswith("counterclaim") and PARTS.index(part_of(name)) > PARTS.index(part)
    ]


def test_every_room_is_in_the_table_and_everything_in_the_table_is_a_room() -> None:
    table = ROW.findall((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert sorted(table) == sorted({room for room, _, _ in sources()} - {"__init__", "__main__", *PARTS})


def test_core_imports_neither_lab_nor_testing_and_lab_imports_no_testing() -> None:
    wrong = {
        str(file.relative_to(ROOT)): forbidden(room.partition("/")[0] if "/" in room else "core", tree)
        for room, file, tree in sources()
    }
    assert {file: found for file, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("core", "from counterclaim.lab.run import run_study"),
        ("core", "def f():\n    from counterclaim import lab"),
        ("lab", "import counterclaim.testing.worlds"),
    ],
)
def test_an_import_through_the_door_is_caught(part: str, line: str) -> None:
    assert forbidden(part, ast.parse(line))
    assert not forbidden("testing", ast.parse(line))


def resolved(name: str, modules: set[str]) -> str:
    """The file that a dotted name of an import is, or lies in; empty for other people's."""
    parent = name.rpartition(".")[0]
    return next((m for m in (name, f"{name}.__init__", parent, f"{parent}.__init__") if m in modules), "")


def _ring(imports: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_imports_itself_by_way_of_others() -> None:
    modules = {".".join(("counterclaim", *f.relative_to(PACKAGE).with_suffix("").parts)) for _, f, _ in sources()}
    imports = {}
    for _, file, tree in sources():
        name = ".".join(("counterclaim", *file.relative_to(PACKAGE).with_suffix("").parts))
        reached = {resolved(other, modules) for _, other in modules_imported(tree, at_import=True)}
        imports[name] = reached - {name, "counterclaim.__init__", ""}
    assert _ring(imports) == []
    assert _ring({"a": {"b"}, "b": {"c"}, "c": {"a"}}), "the detector of rings sees one"


def test_records_and_errors_need_only_the_standard_library() -> None:
    for room, file, tree in sources():
        if room in ("records", "errors"):
            foreign = {name.partition(".")[0] for _, name in modules_imported(tree)} - {"counterclaim"}
            assert foreign <= sys.stdlib_module_names, file


def test_torch_is_imported_only_where_models_run() -> None:
    for room, file, tree in sources():
        names = {name.partition(".")[0] for _, name in modules_imported(tree)}
        allowed = room in TORCH_ROOMS and not (room == "lab/operators" and file.name in WITHOUT_TORCH)
        assert allowed or not names & set(TORCH), file


def _prints_or_exits(tree: ast.Module) -> Iterator[int]:
    names = ("print", "exit", "quit", "input", "SystemExit", "sys.exit", "os._exit", "sys.stdout", "sys.stderr")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in names:
            yield node.lineno


def _writes(tree: ast.Module) -> Iterator[int]:
    calls = ("write_text", "write_bytes", "mkdir", "unlink", "rename", "rmtree", "mkdtemp", "touch", "rmdir")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [arg.value for arg in (*node.args, *(k.value for k in node.keywords)) if isinstance(arg, ast.Constant)]
        opens_to_write = name == "open" and any(
            isinstance(mode, str) and re.fullmatch(r"[rwaxbt+]{1,4}", mode) and set(mode) & set("wax+")
            for mode in modes
        )
        if name in calls or opens_to_write:
            yield node.lineno


def test_only_the_command_line_prints_or_exits() -> None:
    for room, file, tree in sources():
        if file.parent == PACKAGE / "lab" / "sandbox" / "inside":  # these are processes of their own, which must exit
            continue
        assert room in PRINTERS or not list(_prints_or_exits(tree)), file


def test_only_the_folder_writes_to_disk() -> None:
    for room, file, tree in sources():
        assert room in WRITERS or not list(_writes(tree)), file


def test_the_detectors_of_printing_and_writing_see_something() -> None:
    assert list(_prints_or_exits(ast.parse("print(1)\nimport sys\nsys.exit(2)"))) == [1, 3]
    assert list(_writes(ast.parse("p.write_text('x')\nopen('a', 'w')\np.open('rb')\np.open(mode='xb')"))) == [1, 2, 4]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import counterclaim, json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(_run(code)))
    assert not loaded & set(HEAVY)


def test_starting_the_command_line_imports_no_numbers() -> None:
    code = "import counterclaim.cli, json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(_run(code)))
    assert not loaded & {"numpy", "scipy", "pandas", "statsmodels", "sklearn", "pyarrow", "pydantic", "datasketch"}


def test_an_audit_runs_to_the_page_without_lab_and_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "trl") or name.startswith(("counterclaim.lab", "counterclaim.testing")):
            raise ImportError(f"{{name}} must not be imported")

sys.meta_path.insert(0, Refuse())
from counterclaim import audit
files, request = audit.example(audit.AuditRequest())
records = audit.import_study(files, request, audit.Options())
folder = Path({str(tmp_path / "run")!r})
audit.write(folder, records, audit.judge(records))
before = {{p.name: p.read_bytes() for p in folder.iterdir()}}
audit.check(folder)
audit.report(folder)
assert before == {{p.name: p.read_bytes() for p in folder.iterdir()}}, "redone from the folder, some bytes differ"
print(sorted(before))
"""
    assert "report.html" in _run(code)
