"""Features and labels from files: every format, joined by id, and everything that can be wrong with them."""

from __future__ import annotations

import contextlib
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conftest import arm_of, evidence_of
from counterclaim import InputError
from counterclaim.errors import HostileInputError
from counterclaim.folder import Records, write_run
from counterclaim.lab.probing.features import Features, load_features, same_model
from counterclaim.lab.probing.labels import Labels, joined, load_labels, scored

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def safetensors(path: Path, arrays: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file by hand, so that its reader is not tested against itself."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, (dtype, array) in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    said = json.dumps(header).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + body)
    return path


# features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_read_with_its_ids(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", X=X, ids=np.array(list("abcd")), other=np.zeros(2))  # type: ignore[operator]
    found = load_features(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.x, X)
    assert found.ids == ("a", "b", "c", "d")
    assert isinstance(found.x, np.memmap) is (save is np.savez)


def test_the_only_array_of_two_dimensions_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", hidden=X, y=np.zeros(4))
    np.testing.assert_array_equal(load_features(tmp_path / "a.npz").x, X)
    np.savez(tmp_path / "b.npz", one=X, two=X)
    with pytest.raises(
        InputError, match=r"several arrays could be the features \(it holds one \(4, 3\), two \(4, 3\)\)"
    ):
        load_features(tmp_path / "b.npz")
    with pytest.raises(InputError, match="there is no array 'three'"):
        load_features(tmp_path / "b.npz", "three")


def test_an_npy_is_mapped_also_where_columns_run_first(tmp_path: Path) -> None:
    for name, array in (
        ("rows", X),
        ("columns", np.asfortranarray(X)),
        ("half", X.astype(np.float16)),
        ("whole", X.astype(int)),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        found = load_features(tmp_path / f"{name}.npy").x
        np.testing.assert_array_equal(found, X)
        assert found.dtype.kind == "f"
        assert isinstance(found, np.memmap) is (name != "whole")


def test_safetensors_are_read_by_hand(tmp_path: Path) -> None:
    half = (X.view(np.uint32) >> 16).astype(np.uint16)  # whole numbers below 256 are exact in bfloat16
    path = safetensors(
        tmp_path / "a.safetensors",
        {"f32": ("F32", X), "f16": ("F16", X.astype(np.float16)), "bf16": ("BF16", half), "ids": ("I64", np.arange(4))},
        {"model": json.dumps({"repo": "toy/one"})},
    )
    for key in ("f32", "f16", "bf16"):
        np.testing.assert_array_equal(load_features(path, key).x, X)
    with pytest.raises(InputError, match="ids holds I64 and not floating-point numbers"):
        load_features(path, "ids")


def test_the_reader_agrees_with_the_formats_own_writer(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file({"layer.1/last": X, "h_last/last": X + 1}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load_features(tmp_path / "a.safetensors", "h_last/last").x, X + 1)


def captured(folder: Path, model: str = "toy/one") -> Path:
    folder.mkdir()
    safetensors(folder / "features.safetensors", {"h_last/last": ("F32", X), "layer.0/last": ("F32", X + 1)})
    card = {
        "model": {"repo": model, "revision": "r"},
        "ids": ["p/0", "q/0", "r/0", "s/0"],
        "cut": [False, True, None, False],
    }
    (folder / "features.json").write_text(json.dumps(card))
    return folder


def test_a_captured_folder_brings_ids_model_and_endings(tmp_path: Path) -> None:
    found = load_features(captured(tmp_path / "one"), "layer.0/last")
    np.testing.assert_array_equal(found.x, X + 1)
    assert found.ids == ("p/0", "q/0", "r/0", "s/0")
    some = found.rows([3, 1])
    assert (some.ids, some.cut) == (("s/0", "q/0"), (False, True))
    with pytest.raises(InputError, match="several arrays"):
        load_features(tmp_path / "one")


def test_features_of_two_models_are_refused(tmp_path: Path) -> None:
    one, two = (load_features(captured(tmp_path / name, f"toy/{name}"), "h_last/last") for name in ("one", "two"))
    with pytest.raises(InputError, match="of toy/one r and the fresh ones of toy/two r"):
        same_model(one, two)
    same_model(one, one)
    with pytest.raises(InputError, match="3 columns and the fresh ones 2"):
        same_model(Features(X), Features(X[:, :2]))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 3)), "is empty"),
        (np.zeros((2, 3, 4)), "has 3 dimensions, shape"),
        (np.zeros(5), "dimensions"),
        (np.array([["a", "b"]]), "and not numbers"),
        (np.where(X == 7, np.nan, X), r"1 of 4 rows .* hold NaN or infinity, the first is row 3"),
        (np.where(X > 5, np.inf, X), r"2 of 4 rows .* the first is row 3"),
        (X + 1j, "and not numbers"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "a.npz", X=array)
    with pytest.raises(InputError, match=said):
        load_features(tmp_path / "a.npz")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    np.savez(tmp_path / "a.npz", X=np.array([Trap()], dtype=object))
    np.save(tmp_path / "b.npy", np.array([Trap()], dtype=object))
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npz", "b.npy", "c.pt"):
        with pytest.raises(HostileInputError):
            load_features(tmp_path / name)
    with pytest.raises(HostileInputError):
        load_labels(f"{tmp_path / 'a.npz'}:X")
    assert not (tmp_path / "sprung").exists()


def test_ids_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=X, ids=np.array(["a", "b", "a", "c"]))
    with pytest.raises(InputError, match="two rows are called 'a'"):
        load_features(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=X, ids=np.array(["a"]))
    with pytest.raises(InputError, match="1 ids for 4 rows"):
        load_features(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    {".npz": lambda: np.savez(whole, X=X), ".npy": lambda: np.save(whole, X),
     ".safetensors": lambda: safetensors(whole, {"X": ("F32", X)})}[suffix]()  # fmt: skip
    raw = whole.read_bytes()
    for cut in (0, 5, 9, 40, len(raw) // 2, len(raw) - 2):
        (tmp_path / f"cut{suffix}").write_bytes(raw[:cut])
        with pytest.raises(InputError):
            load_features(tmp_path / f"cut{suffix}")
    random = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(raw)
        for at in random.integers(0, len(raw), 3):
            broken[at] = random.integers(256)
        (tmp_path / f"bent{suffix}").write_bytes(bytes(broken))
        with contextlib.suppress(InputError):
            load_features(tmp_path / f"bent{suffix}")


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_features(tmp_path / "none.npz")
    (tmp_path / "a.txt").write_text("1 2")
    with pytest.raises(InputError, match="features are read from"):
        load_features(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"holds no features\.json"):
        load_features(tmp_path)


# labels ---------------------------------------------------------------------------------------------------------


def test_labels_come_from_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text(json.dumps({"ids": ["a", "b", "c", "d"], "y": [1, 0, None, True], "z": 3}))
    (tmp_path / "named.json").write_text(json.dumps({"y": {"a": 1, "b": 0, "c": None, "d": 1}}))
    (tmp_path / "whole.json").write_text(json.dumps({"a": 1, "b": 0, "c": None, "d": 1}))
    (tmp_path / "rows.json").write_text(
        json.dumps({"rows": [{"id": i, "y": y} for i, y in zip("abcd", (1, 0, None, 1), strict=True)]})
    )
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"id": i, "y": y}) + "\n" for i, y in zip("abcd", (1, 0, None, 1), strict=True))
    )
    (tmp_path / "t.csv").write_text("id,y\na,true\nb,false\nc,\nd,1\n")
    np.savez(tmp_path / "t.npz", y=np.array([1, 0, np.nan, 1]), ids=np.array(list("abcd")))
    for name in ("lists.json", "named.json", "rows.json", "rows.jsonl", "t.csv", "t.npz"):
        found = load_labels(f"{tmp_path / name}:y")
        assert found.ids == ("a", "b", "c", "d"), name
        np.testing.assert_array_equal(found.score, [1, 0, np.nan, 1])
    assert load_labels(str(tmp_path / "whole.json")).ids == ("a", "b", "c", "d")
    np.testing.assert_array_equal(load_labels(str(tmp_path / "whole.json")).score, [1, 0, np.nan, 1])
    np.save(tmp_path / "t.npy", np.array([True, False, True]))
    assert load_labels(str(tmp_path / "t.npy")).positive.tolist() == [True, False, True]
    (tmp_path / "bare.json").write_text("[1, 0, 1]")
    assert load_labels(str(tmp_path / "bare.json")).ids is None


def test_labels_and_features_are_joined_by_id_in_any_order() -> None:
    features = Features(X, ("a", "b", "c", "d"), cut=(True, False, False, None))
    labels = Labels(np.array([np.nan, 1.0, 0.0, 1.0, 1.0]), None, ("c", "d", "b", "a", "z"))
    found, told = joined(features, labels)
    assert found.ids == told.ids == ("a", "b", "d")
    assert told.positive.tolist() == [True, False, True]
    assert found.cut == (True, False, None)
    np.testing.assert_array_equal(found.x, X[[0, 1, 3]])


def test_lengths_and_ids_that_do_not_match_are_refused() -> None:
    with pytest.raises(InputError, match="features has 4 rows and labels 3"):
        joined(Features(X), Labels.of([1, 0, 1]))
    with pytest.raises(InputError, match=r"1 of 4 rows of features are not in labels \(the first is 'd'"):
        joined(Features(X, tuple("abcd")), Labels(np.array([1.0, 0, 1]), None, tuple("abc")))


def test_one_class_is_refused_and_nine_positives_are_not() -> None:
    with pytest.raises(InputError, match="all 4 labels are positive in labels, and a probe tells two classes apart"):
        scored(Labels.of([1, 1, 1, 1]))
    with pytest.raises(InputError, match="no item is labelled"):
        scored(Labels.of([np.nan]))
    assert len(scored(Labels.of(np.arange(193) < 9))) == 193


def test_scores_need_a_threshold_and_tell_their_ties(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("coverage\n0.25\n0.5\n0.75\n0.5\n")
    with pytest.raises(
        InputError, match=r"item 1 of .*t\.csv:coverage, '0\.25', is a score and not a label; .*--label-threshold"
    ):
        load_labels(f"{tmp_path / 't.csv'}:coverage")
    found = load_labels(f"{tmp_path / 't.csv'}:coverage", 0.5)
    assert found.positive.tolist() == [False, True, True, True]
    assert found.strictly.tolist() == [False, False, True, False]
    assert found.ties().tied == 2


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("t.csv:nothing", "there is no column 'nothing' \\(it has id, y\\)"),
        ("t.csv", "no column is named"),
        ("none.csv:y", "there is no such file"),
        ("words.csv:y", "'maybe', is no label"),
        ("twice.csv:y", "two labels are for 'a'"),
        ("t.npz:q", "there is no array 'q'"),
        ("t.npz:table", "has shape"),
    ],
)
def test_label_files_that_cannot_be_used_say_why(tmp_path: Path, said: str, problem: str) -> None:
    (tmp_path / "t.csv").write_text("id,y\na,1\nb,0\n")
    (tmp_path / "words.csv").write_text("id,y\na,maybe\nb,0\n")
    (tmp_path / "twice.csv").write_text("id,y\na,1\na,0\n")
    np.savez(tmp_path / "t.npz", y=np.ones(3), table=X)
    with pytest.raises(InputError, match=problem):
        load_labels(str(tmp_path / said))


def test_an_archive_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X.npy", b"hello")
    with pytest.raises(InputError, match="X is not a numpy array"):
        load_features(tmp_path / "a.npz")


def test_rows_are_taken_with_their_ids_and_endings() -> None:
    whole = Features(np.arange(6.0).reshape(3, 2), ("a", "b", "c"), cut=(True, None, False))
    assert whole.rows([0, 1, 2]) is whole
    some = whole.rows([2, 0])
    assert some.x.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert (some.ids, some.cut) == (("c", "a"), (False, True))
    bare = Features(whole.x).rows([1])
    assert (bare.x.tolist(), bare.ids, bare.cut) == ([[2.0, 3.0]], None, None)


def test_the_model_of_features_is_named_by_what_its_card_says() -> None:
    def refused(one: object, other: object) -> str:
        sides = [Features(np.zeros((2, 2)), card={"model": said}) for said in (one, other)]
        with pytest.raises(InputError) as caught:
            same_model(*sides)
        return str(caught.value)

    card = {"repo": "org/m", "revision": "r1", "adapter_hash": None, "dtype": "float32"}
    assert "features are of org/m r1 and the fresh ones of org/m r2" in refused(card, {**card, "revision": "r2"})
    assert "of org/m r1 and the fresh ones of other" in refused(json.dumps(card), "other")
    for one, other in ((card, {**card, "dtype": "bfloat16"}), (card, None), (None, None)):
        same_model(*(Features(np.zeros((2, 2)), card={"model": said}) for said in (one, other)))


def test_yes_and_no_are_labels_and_no_scores(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps({"ok": said}) + "\n" for said in ("yes", "no", None, True)))
    assert load_labels(f"{file}:ok").positive[[0, 1, 3]].tolist() == [True, False, True]
    with pytest.raises(InputError, match="is no label"):
        load_labels(f"{file}:ok", 0.5)


def test_labels_of_a_run_are_those_of_one_arm(tmp_path: Path) -> None:
    """The arms answered other prompts, so that ids show whose labels they are."""
    arms = {
        "control": arm_of("control", {"correct": [1.0, 0.0, None]}),
        "treated": arm_of("treated", {"correct": [0.0, 1.0, 1.0]}, ids=[5, 6, 7]),
    }
    responses, scores = ([row for rows in arms.values() for row in rows[at]] for at in (0, 1))
    prompts = dict(evidence_of(*arms.values()).prompts)
    write_run(tmp_path / "run", Records({"study_hash": "h"}, prompts, responses, scores), {})
    for said, arm, values in (
        ("correct=1", "control", [1, 0, np.nan]), ("control:correct=1", "control", [1, 0, np.nan]),
        ("treated:correct=1", "treated", [0, 1, 1]),
    ):  # fmt: skip
        found = load_labels(f"{tmp_path / 'run'}:{said}")
        assert found.ids == tuple(f"{response.prompt_id}/0" for response in arms[arm][0])
        np.testing.assert_array_equal(found.score, values)
    with pytest.raises(InputError, match="there is no arm 'third'"):
        load_labels(f"{tmp_path / 'run'}:third:correct=1")
