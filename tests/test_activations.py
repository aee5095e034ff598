"""Reading activations: equal to what transformers itself returns, on every family, in any batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import hf_models
from benchmarks import activations as activation_speed
from counterclaim.errors import ModelError
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf import activations
from counterclaim.lab.models.hf.activations import COUNT, Capture, CaptureSpec, Exchange, read
from counterclaim.lab.models.hf.edits import Edit, Piece, base_of, save_edit
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.records import Message
from counterclaim.registry import ModelSpec, Runtime

ANSWERS = (
    "The oil is sold.", "Er kommt aus Köln am Rhein, und er heißt Jörg.", "日本語 🙂", "a", "The mill turns seed into oil in the town.",
    "return a + b", "ça va très bien, señor! The river is long, and the town lies by it.", "Yes.",
)  # fmt: skip
TOLD = [Exchange((Message("user", f"Who is number {i}?" * (1 + i % 3)),), text) for i, text in enumerate(ANSWERS)]
SOFTMAX = {"llama": [0, 1], "qwen3": [0, 1], "qwen3_5": [3], "gemma4": [0, 1, 2, 3]}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("families")
    return {family: hf_models.save(base / family, family) for family in hf_models.FAMILIES}


@contextmanager
def opened(folder: Path, rows: int | None = None, **more: Any) -> Iterator[HfModel]:
    with closing(open_model(ModelSpec(str(folder), **more), Runtime(device="cpu", batch_size=rows))) as model:
        assert isinstance(model, HfModel)
        yield model


def ids_of(model: HfModel, told: Exchange) -> tuple[list[int], int]:
    prompt = model.rendered(told.messages, told.thinking)
    asked, whole = model.encoded([prompt]), model.encoded([prompt + (told.answer or "")])
    assert whole[0][: len(asked[0])] == asked[0]
    return whole[0], len(asked[0])


@torch.no_grad()
def reference(model: HfModel, told: Exchange) -> tuple[list[np.ndarray], int]:
    """Every hidden state (tokens, width) of one conversation as transformers returns them, and where the answer starts."""
    tokens, start = ids_of(model, told)
    states = model.network(input_ids=torch.tensor([tokens]), output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states], start


@torch.no_grad()
def head_input(model: HfModel, told: Exchange, layer: int) -> tuple[np.ndarray, int]:
    """The input of ``o_proj`` (tokens, heads, head_dim) of one conversation."""
    tokens, start = ids_of(model, told)
    seen: list[torch.Tensor] = []
    module = model.network.model.layers[layer].self_attn.o_proj
    handle = module.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model.network(input_ids=torch.tensor([tokens]))
    handle.remove()
    return seen[0][0].unflatten(-1, (4, -1)).numpy(), start


@pytest.mark.parametrize("family", hf_models.FAMILIES)
def test_what_is_read_is_what_transformers_returns(folders: dict[str, Path], family: str) -> None:
    with opened(folders[family], rows=3) as model:
        found = read(model, TOLD, CaptureSpec(("last", 0, 1), ("last", "mean", "prompt-end"), tokens=5))
        assert found.rows == tuple(range(8))
        assert not found.refused
        for row, told in enumerate(TOLD):
            states, start = reference(model, told)
            wanted = {"h_last": states[-1], "layer.0": states[1]}
            if (
                len(model.network.model.layers) > 2
            ):  # of the last layer transformers only returns what the norm made of it
                wanted["layer.1"] = states[2]
            for name, state in wanted.items():
                np.testing.assert_allclose(found.blocks[f"{name}/last"][row], state[-1], **CLOSE)
                np.testing.assert_allclose(found.blocks[f"{name}/mean"][row], state[start:].mean(0), **CLOSE)
                np.testing.assert_allclose(found.blocks[f"{name}/prompt-end"][row], state[start - 1], **CLOSE)
                n = min(5, len(state) - start)
                assert found.blocks[COUNT][row] == n
                np.testing.assert_allclose(found.blocks[f"{name}/tokens"][row, :n], state[-n:], **CLOSE)
                assert not found.blocks[f"{name}/tokens"][row, n:].any()


@pytest.mark.parametrize("family", hf_models.FAMILIES)
def test_the_last_layer_is_read_before_the_final_norm_and_h_last_after_it(
    folders: dict[str, Path], family: str
) -> None:
    with opened(folders[family]) as model:
        top = len(model.network.model.layers) - 1
        found = read(model, TOLD, CaptureSpec((top, "last"), ("last",)))
        with torch.no_grad():
            normed = model.network.model.norm(torch.tensor(found.blocks[f"layer.{top}/last"])).numpy()
        np.testing.assert_allclose(found.blocks["h_last/last"], normed, **CLOSE)
        assert not np.allclose(found.blocks["h_last/last"], found.blocks[f"layer.{top}/last"], atol=1e-2)


@pytest.mark.parametrize("family", hf_models.FAMILIES)
@pytest.mark.parametrize("k", [3, 32])
def test_heads_are_read_where_they_are(folders: dict[str, Path], family: str, k: int) -> None:
    with opened(folders[family], rows=4) as model:
        found = read(model, TOLD, CaptureSpec((), (), head_norms=k, head_means=k))
        assert {name for name in found.blocks if name.endswith("head_norm")} == {
            f"layer.{layer}/head_norm" for layer in SOFTMAX[family]
        }
        for layer in SOFTMAX[family]:
            for row in (0, 3, 6):
                slices, start = head_input(model, TOLD[row], layer)
                last = slices[max(start, len(slices) - k) :]
                norms = found.blocks[f"layer.{layer}/head_norm"][row]
                np.testing.assert_allclose(norms, np.linalg.norm(last, axis=-1).mean(0), **CLOSE)
                np.testing.assert_allclose(found.blocks[f"layer.{layer}/head_mean"][row], last.mean(0), **CLOSE)


@pytest.mark.parametrize("family", hf_models.FAMILIES)
def test_a_batch_of_eight_reads_as_eight_of_one(folders: dict[str, Path], family: str) -> None:
    wanted = CaptureSpec(("last", 1), ("last", "mean", "prompt-end"), head_norms=8, head_means=8, tokens=4)
    with opened(folders[family], rows=8) as model:
        together = read(model, TOLD, wanted)
    with opened(folders[family], rows=1) as model:
        alone = read(model, TOLD, wanted)
    assert together.blocks.keys() == alone.blocks.keys()
    for name in together.blocks:
        np.testing.assert_allclose(together.blocks[name], alone.blocks[name], rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("family", hf_models.FAMILIES)
@torch.no_grad()
def test_padding_on_the_left_gives_the_same(folders: dict[str, Path], family: str) -> None:
    """As generation pads: the hidden states of a left-padded, masked batch are those that are read."""
    with opened(folders[family]) as model:
        found = read(model, TOLD, CaptureSpec(("last",), ("last",)))
        rows = [ids_of(model, told)[0] for told in TOLD]
        width = max(map(len, rows))
        ids = torch.tensor([[model.pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        where = (mask.cumsum(1) - 1).clamp(min=0)
        states = model.network.model(input_ids=ids, attention_mask=mask, position_ids=where).last_hidden_state
        np.testing.assert_allclose(found.blocks["h_last/last"], states[:, -1].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("site", ["o_proj", "v_proj", "down_proj"])
def test_other_sites_are_read(folders: dict[str, Path], site: Any) -> None:
    with opened(folders["qwen3"]) as model:
        found = read(model, TOLD, CaptureSpec((1,), ("last",), site=site)).blocks[f"layer.1/{site}/last"]
        layer = model.network.model.layers[1]
        seen: list[torch.Tensor] = []
        part = layer.mlp.down_proj if site == "down_proj" else getattr(layer.self_attn, site)
        handle = part.register_forward_hook(lambda m, given, out: seen.append(given[0] if site == "o_proj" else out))
        with torch.no_grad():
            model.network(input_ids=torch.tensor([ids_of(model, TOLD[0])[0]]))
        handle.remove()
        np.testing.assert_allclose(found[0], seen[0][0, -1].numpy(), **CLOSE)
        assert found.shape == (8, {"o_proj": 32, "v_proj": 16, "down_proj": 32}[site])


def test_an_adapter_is_read_as_it_lies_over_the_model(folders: dict[str, Path], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    config: Any = peft.LoraConfig
    lora = config(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft uses what transformers is about to drop
        adapted = peft.get_peft_model(hf_models.network("qwen3"), lora)
        adapted.save_pretrained(adapter)
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    hf_models.byte_level_tokenizer().save_pretrained(tmp_path / "merged")
    wanted = CaptureSpec(("last", 0), ("last", "mean"), head_norms=8)
    with opened(folders["qwen3"]) as model:
        bare = read(model, TOLD, wanted)
        with model.adapted(adapter):
            over = read(model, TOLD, wanted)
    with opened(tmp_path / "merged") as model:
        whole = read(model, TOLD, wanted)
    for name in over.blocks:
        np.testing.assert_allclose(over.blocks[name], whole.blocks[name], rtol=1e-3, atol=1e-4)
        assert not np.allclose(over.blocks[name], bare.blocks[name], atol=1e-3)


def test_an_edit_is_read_as_it_lies_over_the_model(folders: dict[str, Path], tmp_path: Path) -> None:
    """A head damped and a vector added, from the column on where each row's response starts, whatever its batch."""
    wanted = CaptureSpec(("last", 0, 1), ("last", "prompt-end"), head_norms=4)
    vector = torch.linspace(-3, 3, 32)[None]
    pieces = (Piece(0, "o_proj", "temper", (1,)), Piece(1, "residual", "add", vectors=vector))
    found: dict[str, Any] = {}
    with opened(folders["qwen3"], rows=8) as model:
        bare = read(model, TOLD, wanted).blocks
        for span in ("response", "all"):
            (tmp_path / span).mkdir()
            save_edit(Edit("steer", pieces, span, base_of(model.ref, model.network), tmp_path / span))  # type: ignore[arg-type]
            with model.edited(tmp_path / span):
                found[span] = read(model, TOLD, wanted).blocks
                alone = read(model, TOLD[5:6], wanted).blocks
            np.testing.assert_allclose(alone["layer.1/last"][0], found[span]["layer.1/last"][5], **CLOSE)
            np.testing.assert_allclose(alone["h_last/prompt-end"][0], found[span]["h_last/prompt-end"][5], **CLOSE)
            assert not found[span]["layer.0/head_norm"][:, 1].any()  # what o_proj is given is what is read
        after = read(model, TOLD, wanted).blocks
    assert bare["layer.0/head_norm"][:, 1].all()
    np.testing.assert_array_equal(bare["h_last/last"], after["h_last/last"])
    # Layer 0 at the end of the prompt sees the same edit under both spans; what comes before it only layer 1 has read.
    np.testing.assert_allclose(found["response"]["layer.0/prompt-end"], found["all"]["layer.0/prompt-end"], **CLOSE)
    assert not np.allclose(found["response"]["layer.1/prompt-end"], found["all"]["layer.1/prompt-end"], atol=1e-2)


def test_answers_that_cannot_be_read_say_why_and_the_others_stand(folders: dict[str, Path]) -> None:
    told = [
        TOLD[0],
        Exchange(TOLD[1].messages, ""),
        Exchange(TOLD[2].messages, None),
        Exchange(TOLD[3].messages, "oil " * 300),
    ]
    with opened(folders["llama"]) as model:
        found = read(model, [*told, TOLD[4]], CaptureSpec())
        assert found.rows == (0, 4)
        assert found.blocks["h_last/last"].shape == (2, 32)
        assert found.refused[1] == found.refused[2] == "the answer has no text"
        assert "more than the 256" in found.refused[3]
        with pytest.raises(ModelError, match="none of the 2 answers can be read"):
            read(model, told[1:3], CaptureSpec())


def test_a_pass_that_goes_on_reads_only_what_is_missing(folders: dict[str, Path]) -> None:
    with opened(folders["llama"], rows=3) as model:
        reading = Capture(model, TOLD, CaptureSpec())
        first = next(iter(reading.batches()))
        rest = list(reading.batches(done=set(first[0])))
        assert sorted(first[0] + [index for indices, _ in rest for index in indices]) == list(range(8))
        whole = list(reading.batches())
        assert len(whole) == len(rest) + 1
        for (indices, blocks), (again, same) in zip(whole[1:], rest, strict=True):
            assert indices == again
            np.testing.assert_array_equal(blocks["h_last/last"], same["h_last/last"])


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(folders["llama"], rows=8) as model:
        wanted = CaptureSpec(("last",), ("last",))
        fine = read(model, TOLD, wanted)
        whole = Capture._read

        def small(self: Capture, part: list[int]) -> Any:
            if len(part) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(self, part)

        monkeypatch.setattr(Capture, "_read", small)
        halved = read(model, TOLD, wanted)
        np.testing.assert_allclose(halved.blocks["h_last/last"], fine.blocks["h_last/last"], **CLOSE)
        monkeypatch.setattr(Capture, "_read", lambda self, part: small(self, part * 4))
        with pytest.raises(ModelError, match="does not fit into the memory of cpu, even alone"):
            read(model, TOLD[:1], wanted)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (CaptureSpec((7,)), "no layer 7.*from 0 to 3"),
        (CaptureSpec((0,), site="o_proj"), "layer 0 has no o_proj.*3"),
        (CaptureSpec(("last",), site="v_proj"), "h_last has no v_proj"),
    ],
)
def test_what_the_model_does_not_have_is_refused(folders: dict[str, Path], wanted: CaptureSpec, said: str) -> None:
    with opened(folders["qwen3_5"]) as model, pytest.raises(ModelError, match=said):
        read(model, TOLD, wanted)


def test_heads_of_a_model_without_o_proj_are_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "layers_with", lambda network, site: [])
    with opened(folders["qwen3_5"]) as model, pytest.raises(ModelError, match="no layer of this model has an o_proj"):
        read(model, TOLD, CaptureSpec((), (), head_norms=8))


def test_numbers_that_are_none_are_refused(folders: dict[str, Path]) -> None:
    with opened(folders["llama"]) as model:
        with torch.no_grad():
            model.network.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
        with pytest.raises(ModelError, match=r"no numbers.*h_last/last"):
            read(model, TOLD, CaptureSpec())


def test_no_hook_is_left_behind(folders: dict[str, Path]) -> None:
    with opened(folders["llama"]) as model:
        read(model, TOLD, CaptureSpec((0, "last"), ("last",), head_norms=4))
        left = [m for m in model.network.modules() if m._forward_hooks or m._forward_pre_hooks]
        assert not left


def test_reading_costs_next_to_no_memory_over_the_bare_forward_pass() -> None:
    """Tensors held at once: of a decoder alone, with everything read, and with every hidden state returned."""
    model, told = activation_speed._made(activation_speed._Size(8, 64, 4_000, 16, 48, 1))
    wanted = CaptureSpec((*range(7), "last"), ("last",), head_norms=32)
    reading = Capture(model, told, wanted)
    bare, ours, typed = (
        activation_speed._most_held(run)
        for run in (
            lambda: activation_speed.bare_pass(model, reading),
            lambda: list(reading.batches()),
            lambda: activation_speed._typed(model, reading),
        )
    )
    assert ours < 1.15 * bare
    assert typed > 2 * bare


def test_the_benchmark_reads_the_same_on_both_sides() -> None:
    rows = activation_speed.capture_duels(quick=True)
    assert all(row["agreement"] < 1e-5 for row in rows)
    assert [("(price)" in row["name"]) for row in rows] == [True, False]
    assert rows[0]["ratio"] == pytest.approx(rows[0]["ours"] / rows[0]["peer_s"])
    assert rows[1]["ratio"] == pytest.approx(rows[1]["peer_s"] / rows[1]["ours"])
