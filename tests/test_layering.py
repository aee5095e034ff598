"""The house rules of ARCHITECTURE.md, read from its table and held against the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "counterclaim"
ROW = re.compile(r"^\| (\d+) \| `(\w+)` \|", re.MULTILINE)
WRITERS = {"store", "kit", "sandbox"}
TORCH = ("torch", "transformers", "peft", "trl", "accelerate", "safetensors", "tokenizers")
TORCH_ROOMS = (("models", "hf"), ("models", "tiny"))
WITHOUT_TORCH = (
    "__init__.py",
    "rewards.py",
    "sidecar.py",
    "steer.py",
    "temper.py",
    "tune.py",
)  # of operators: what naming an operator or a reward imports
HEAVY = (
    "numpy", "scipy", "pandas", "statsmodels", "sklearn", "pyarrow", "pydantic", "datasketch", "typer", "rich", "jinja2",
)  # fmt: skip


def floors() -> dict[str, int]:
    return {room: int(floor) for floor, room in ROW.findall((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> Iterator[tuple[str, Path, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield room_of(file), file, ast.parse(file.read_text(encoding="utf-8"))


def modules_imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that is imported, ``from a import b`` as a.b, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in modules_imported(tree):
        top, _, rest = name.partition(".")
        if top == "counterclaim" and rest != "__version__":
            yield line, rest.partition(".")[0] or "__init__"


def broken_imports(room: str, tree: ast.Module, floor: dict[str, int]) -> list[str]:
    return [
        f"line {line}: {room} (floor {floor[room]}) imports {other} (floor {floor[other]})"
        for line, other in rooms_imported(tree)
        if other != room and floor[other] >= floor[room]
    ]


def test_every_room_has_a_floor_and_every_floor_a_room() -> None:
    assert set(floors()) == {room for room, _, _ in sources()}


def test_imports_point_to_a_strictly_lower_floor() -> None:
    floor = floors()
    wrong = {str(file.relative_to(ROOT)): broken_imports(room, tree, floor) for room, file, tree in sources()}
    assert {file: found for file, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "line",
    ["from counterclaim.study import judge", "def f():\n    from counterclaim import items", "import counterclaim"],
)
def test_an_import_upwards_or_sideways_is_caught(line: str) -> None:
    assert broken_imports("checks", ast.parse(line), floors())


def test_records_and_errors_need_only_the_standard_library() -> None:
    for room, file, tree in sources():
        if room in ("records", "errors"):
            foreign = {name.partition(".")[0] for _, name in modules_imported(tree)} - {"counterclaim"}
            assert foreign <= sys.stdlib_module_names, file


def test_torch_is_imported_only_where_models_run() -> None:
    for _, file, tree in sources():
        names = {name.partition(".")[0] for _, name in modules_imported(tree)}
        room, *rest = file.relative_to(PACKAGE).parts
        allowed = (room, *rest[:1]) in TORCH_ROOMS or (room == "operators" and rest[0] not in WITHOUT_TORCH)
        assert allowed or not names & set(TORCH), file


def test_nothing_right_of_the_door_imports_models() -> None:
    for room in (
        "stats",
        "checks",
        "verdict",
        "report",
        "store",
        "importers",
        "evidence",
        "effect",
        "metrics",
        "items",
    ):
        for file in [*PACKAGE.glob(f"{room}/**/*.py"), *PACKAGE.glob(f"{room}.py")]:
            assert "models" not in {other for _, other in rooms_imported(ast.parse(file.read_text(encoding="utf-8")))}


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
        if file.parent == PACKAGE / "sandbox" / "inside":  # these are processes of their own, which must exit
            continue
        assert room == "cli" or not list(_prints_or_exits(tree)), file


def test_only_the_store_writes_to_disk() -> None:
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


def test_the_right_hand_side_runs_without_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "trl"):
            raise ImportError(f"{{name}} must not be imported")

sys.meta_path.insert(0, Refuse())
from counterclaim import intake, study
files, wanted = study.example(intake.AuditRequest())
records = intake.import_study(files, wanted, intake.Options())
folder = Path({str(tmp_path / "run")!r})
study.write(folder, records, study.judge(records))
before = {{p.name: p.read_bytes() for p in folder.iterdir()}}
study.check(folder)
study.report(folder)
assert before == {{p.name: p.read_bytes() for p in folder.iterdir()}}, "redone from the folder, some bytes differ"
print(sorted(before))
"""
    assert "report.html" in _run(code)
