"""Edits of a forward pass on a tiny model of each family: every kind at every site keeps the same laws."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_args

import peft
import pytest
import torch
import transformers
from torch import Tensor

import hf_models
from counterclaim.errors import ModelError
from counterclaim.lab.models.hf import open_hf
from counterclaim.lab.models.hf.edits import Edit, Overlay, Piece, base_of, load_edit, save_edit
from counterclaim.lab.models.hf.fingerprint import edit_hash
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import Site, heads_of, layers_with, place
from counterclaim.records import Decode, Message
from counterclaim.registry import Answer, Applied, Ask, ModelSpec, Runtime

# peft still asks transformers by a deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

FAMILIES = (*hf_models.FAMILIES, "wide_heads")
DECODES = (Decode(8), Decode(8, temperature=1.0, seed=5))
KINDS = [("o_proj", "temper"), *product(get_args(Site), ("add", "ablate", "project"))]
DOSES = (0.0, 0.5, 1.0, 1.5)
LORA = ["q_proj", "v_proj", "o_proj", "down_proj"]

each_family = pytest.mark.parametrize("family", FAMILIES)
each_kind = pytest.mark.parametrize(("site", "kind"), KINDS, ids=[f"{kind}-{site}" for site, kind in KINDS])


def _save(folder: Path, family: str) -> Path:
    if family != "wide_heads":
        return hf_models.save(folder, family)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        num_hidden_layers=2, vocab_size=400, hidden_size=24, intermediate_size=40, num_attention_heads=4,
        num_key_value_heads=2, head_dim=10, max_position_embeddings=256, initializer_range=0.4, bos_token_id=1,
        eos_token_id=4, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    hf_models.byte_level_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model."""
    return cache(lambda family: _save(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope="session")
def opened(folders: Callable[[str], Path]) -> Callable[..., HfModel]:
    """A family's tiny model, opened once for each batch size."""

    @cache
    def model(family: str, batch_size: int = 8, dtype: str = "float32") -> HfModel:
        made = open_hf(ModelSpec(str(folders(family)), dtype=dtype), Runtime(device="cpu", batch_size=batch_size))
        assert isinstance(made, HfModel)
        return made

    return model


def _edit(model: HfModel, folder: Path, site: Any, kind: Any, span: Any = "response", seed: int = 0) -> Path:
    """An edit at every layer that has the site, strong enough to change what is said."""
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    for layer in layers_with(model.network, site):
        width = place(model.network, layer, site).width
        if kind == "temper":
            n, _ = heads_of(model.network, layer)
            pieces.append(Piece(layer, site, kind, tuple(range(seed % 2, n, 2))))
            continue
        drawn = torch.randn(1 if kind == "add" else 3, width, generator=generator)
        vectors = 2 * drawn if kind == "add" else torch.linalg.qr(drawn.T)[0].T
        pieces.append(Piece(layer, site, kind, vectors=vectors))
    folder.mkdir()
    save_edit(Edit("steer", tuple(pieces), span, base_of(model.ref, model.network), folder))
    return folder


def _asks(applied: Sequence[Applied | None] = (None,) * 8) -> list[Ask]:
    """Prompts of different lengths."""
    return [
        Ask(f"ask-{n}", (Message("user", "the mill" + " turns seed" * (n % 5)),), applied=each)
        for n, each in enumerate(applied)
    ]


def _said(model: HfModel, asks: Sequence[Ask] | None = None) -> list[Answer]:
    """Answers to every ask, for each way of sampling."""
    asks = _asks() if asks is None else asks
    out = []
    for decode in DECODES:
        got = dict(pair for batch in model.answer(asks, decode) for pair in batch)
        out += [got[at] for at in range(len(asks))]
    return out


@each_family
@each_kind
def test_dose_0_is_the_model_full_dose_acts_and_an_exception_gives_it_back(
    family: str, site: Site, kind: str, opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model = opened(family)
    folder = _edit(model, tmp_path / "edit", site, kind)
    bare, ref = _said(model), model.ref
    with model.edited(folder, 0.0):
        assert _said(model) == bare
    with model.edited(folder, 1.0):
        assert _said(model) != bare
        assert model.ref == replace(ref, operator="steer", operator_hash=edit_hash(folder), operator_dose=1.0)
    with pytest.raises(ZeroDivisionError), model.edited(folder):
        raise ZeroDivisionError
    assert (_said(model), model.ref) == (bare, ref)
    hooks = [hook for part in model.network.modules() for hook in (*part._forward_hooks, *part._forward_pre_hooks)]
    assert hooks == []


@each_family
@each_kind
def test_answers_depend_on_neither_batches_nor_the_cache(
    family: str, site: Site, kind: str, opened: Callable[..., HfModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, single = opened(family), opened(family, 1)
    for span in ("response", "all"):
        folder = _edit(model, tmp_path / span, site, kind, span)
        with model.edited(folder), single.edited(folder):
            together = _said(model)
            assert _said(single) == together
            generate = model.network.generate
            with monkeypatch.context() as patch:
                patch.setattr(model.network, "generate", lambda **rest: generate(use_cache=False, **rest))  # noqa: B023
                assert _said(model) == together


@each_family
@each_kind
def test_rows_with_doses_and_edits_of_their_own_are_their_separate_runs(
    family: str, site: Site, kind: str, opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model = opened(family)
    one = _edit(model, tmp_path / "one", site, kind)
    two = _edit(model, tmp_path / "two", "residual", "add", "all", seed=1)
    rows = [
        None,
        *(Applied("steer", one, dose) for dose in DOSES),
        *(Applied("steer", two, d) for d in (0.0, 0.5, 1.0)),
    ]
    mixed, bare = _said(model, _asks(rows)), _said(model)
    assert model.ref.operator is None
    n = len(rows)
    for at, row in enumerate(rows):
        if row is None or row.dose == 0:
            expected = bare
        else:
            with model.edited(row.folder, row.dose):
                expected = _said(model)
        assert [mixed[at], mixed[n + at]] == [expected[at], expected[n + at]]
    assert mixed != bare


@each_family
@each_kind
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_equal_their_separate_runs_to_the_bit(
    family: str, site: Site, kind: str, dtype: str, opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model = opened(family, dtype=dtype)
    edits = [load_edit(_edit(model, tmp_path / str(seed), site, kind, seed=seed)) for seed in (0, 1)]
    rows = [(edit, dose) for edit in edits for dose in DOSES]
    mixed = _logits(model, Overlay(model.network, rows, 4), len(rows))
    bare = _logits(model, None, len(rows))
    for at, row in enumerate(rows):
        alone = _logits(model, Overlay(model.network, [row], 4), len(rows))
        assert torch.equal(mixed[at], alone[at])
        assert torch.equal(alone[at, :4], bare[at, :4])
        assert torch.equal(mixed[at], bare[at]) == (row[1] == 0)


@each_family
@each_kind
def test_an_edit_does_what_it_says_where_it_says(
    family: str, site: Site, kind: str, opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model, dose, starts = opened(family), 0.7, [0, 2, 3, 5]
    edit = load_edit(_edit(model, tmp_path / "edit", site, kind))
    edit = replace(edit, pieces=edit.pieces[-1:])  # a single one: what arrives there is what arrives without it
    (piece,) = edit.pieces
    there = place(model.network, piece.layer, site)
    before = _seen(model, there, None)
    after = _seen(model, there, Overlay(model.network, [(edit, dose)], starts))
    for at, start in enumerate(starts):
        assert torch.equal(after[at, :start], before[at, :start])
        expected = _by_hand(
            before[at, start:], piece, dose, heads_of(model.network, piece.layer)[1] if kind == "temper" else 0
        )
        assert torch.allclose(after[at, start:], expected, atol=1e-5)


def _by_hand(x: Tensor, piece: Piece, dose: float, head_width: int) -> Tensor:
    if piece.kind == "temper":
        out = x.clone()
        for head in piece.heads:
            out[:, head * head_width : (head + 1) * head_width] *= 1 - dose
        return out
    assert piece.vectors is not None
    if piece.kind == "add":
        return x + dose * piece.vectors[0]
    onto = x @ piece.vectors.T @ piece.vectors
    return x - dose * onto if piece.kind == "ablate" else x + dose * (onto - x)


IDS = torch.arange(40, 240).reshape(8, 25)[:, :9]


def _logits(model: HfModel, overlay: Overlay | None, rows: int) -> Tensor:
    with torch.no_grad():
        if overlay is None:
            return model.network(IDS[:rows]).logits
        with overlay:
            return model.network(IDS[:rows]).logits


def _seen(model: HfModel, there: Any, overlay: Overlay | None) -> Tensor:
    """What a site passes on, (4, tokens, width)."""
    kept: list[Tensor] = []

    def see(module: Any, given: Any, out: Any = None) -> None:
        kept.append(given[0] if there.reads_input else out)

    with _entered(overlay):
        register = there.module.register_forward_pre_hook if there.reads_input else there.module.register_forward_hook
        hook = register(see)
        try:
            with torch.no_grad():
                model.network(IDS[:4])
        finally:
            hook.remove()
    return kept[0]


@contextmanager
def _entered(overlay: Overlay | None) -> Iterator[None]:
    if overlay is None:
        yield
    else:
        with overlay:
            yield


@each_family
def test_tempering_is_scaling_the_weight_columns_of_the_heads(
    family: str, opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model = opened(family)
    edit = load_edit(_edit(model, tmp_path / "edit", "o_proj", "temper"))
    overlay = _logits(model, Overlay(model.network, [(edit, 0.3)], 0), 8)
    kept = {}
    for piece in edit.pieces:
        weight = place(model.network, piece.layer, "o_proj").module.weight
        kept[piece.layer] = weight.detach().clone()
        _, width = heads_of(model.network, piece.layer)
        with torch.no_grad():
            for head in piece.heads:
                weight[:, head * width : (head + 1) * width] *= 0.7
    by_weights = _logits(model, None, 8)
    with torch.no_grad():
        for layer, weight in kept.items():
            place(model.network, layer, "o_proj").module.weight.copy_(weight)
    assert torch.allclose(overlay, by_weights, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(overlay, _logits(model, None, 8), atol=1e-2)


@each_family
def test_under_an_adapter_the_edit_acts_on_what_the_adapter_makes(
    family: str, folders: Callable[[str], Path], opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    _adapter(folders(family), tmp_path / "lora")
    model = opened(family)
    for site, kind in KINDS:
        edit = load_edit(_edit(model, tmp_path / f"{site}-{kind}", site, kind))
        with model.adapted(tmp_path / "lora"):
            laid = _logits(model, Overlay(model.network, [(edit, 1.0)], 3), 8)
            plain = _logits(model, None, 8)
        with closing(_merged(folders(family), tmp_path / "lora")) as merged:
            expected = _logits(merged, Overlay(merged.network, [(edit, 1.0)], 3), 8)
        assert torch.allclose(laid, expected, atol=2e-3, rtol=1e-3), (site, kind)
        assert not torch.allclose(laid, plain, atol=1e-2), (site, kind)


def _adapter(base: Path, folder: Path) -> None:
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_pretrained(base)
    config: Any = peft.LoraConfig
    lora = config(r=4, lora_alpha=16, target_modules=LORA, init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(network, lora).save_pretrained(folder)


def _merged(base: Path, adapter: Path) -> HfModel:
    model = open_hf(ModelSpec(str(base), adapter=adapter), Runtime(device="cpu"))
    assert isinstance(model, HfModel)
    model.network = model.network.merge_and_unload()
    return model


def test_rows_under_an_adapter_are_edited_too(
    folders: Callable[[str], Path], opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    _adapter(folders("qwen3"), tmp_path / "lora")
    model = opened("qwen3")
    folder = _edit(model, tmp_path / "edit", "o_proj", "temper")
    rows = [Applied("steer", folder, float(n % 2)) for n in range(8)]
    with model.adapted(tmp_path / "lora"):
        plain, mixed = _said(model), _said(model, _asks(rows))
        assert mixed[::2] == plain[::2]
        assert mixed != plain
        with model.edited(folder), pytest.raises(ModelError, match="edited already"):
            _said(model, _asks(rows))
        with model.edited(folder), pytest.raises(ModelError, match="edited already"), model.adapted(tmp_path / "lora"):
            pass


def test_a_forward_pass_that_says_no_start_is_refused_and_not_left_as_it_is(
    opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model = opened("llama")
    bare = _logits(model, None, 4)
    with model.edited(_edit(model, tmp_path / "response", "residual", "add")):
        with pytest.raises(ModelError, match="where the responses start"):
            _logits(model, None, 4)
        with model.responses_from([3, 4, 5, 6]):
            edited = _logits(model, None, 4)
    for at, start in enumerate((3, 4, 5, 6)):
        assert torch.equal(edited[at, :start], bare[at, :start])
        assert not torch.allclose(edited[at, start], bare[at, start])
    with model.edited(_edit(model, tmp_path / "all", "residual", "add", "all")):
        assert not torch.allclose(_logits(model, None, 4)[:, 0], bare[:, 0])


def test_answers_that_are_taken_after_the_edit_is_gone_are_refused(
    opened: Callable[..., HfModel], tmp_path: Path
) -> None:
    model = opened("llama")
    with model.edited(_edit(model, tmp_path / "edit", "residual", "add")):
        late = model.answer(_asks(), DECODES[0])
    with pytest.raises(ModelError, match="inside the block"):
        next(late)


def test_places_that_a_model_has_not(opened: Callable[..., HfModel], tmp_path: Path) -> None:
    hybrid, gemma, llama = opened("qwen3_5").network, opened("gemma4").network, opened("llama").network
    with pytest.raises(ModelError, match=r"layer 0 has no o_proj, so no heads .*choose among 3"):
        place(hybrid, 0, "o_proj")
    with pytest.raises(ModelError, match=r"layer 2 has no v_proj .*choose among 0, 1"):
        place(gemma, 2, "v_proj")
    with pytest.raises(ModelError, match="no layer 2, for it has 2; name one from 0 to 1"):
        place(llama, 2, "residual")
    model = opened("llama")
    for layer, heads, said in ((0, (4,), "no head 4, for it has 4; name heads from 0 to 3"), (7, (0,), "no layer 7")):
        folder = tmp_path / str(layer)
        folder.mkdir()
        pieces = (Piece(layer, "o_proj", "temper", heads),)
        save_edit(Edit("temper", pieces, "response", base_of(model.ref, model.network), folder))
        with pytest.raises(ModelError, match=said), model.edited(folder):
            pass


def test_an_edit_of_another_model_is_refused(
    opened: Callable[..., HfModel], tmp_path: Path, folders: Callable[[str], Path]
) -> None:
    folder = _edit(opened("llama"), tmp_path / "edit", "residual", "add")
    with pytest.raises(ModelError, match="another shape"), opened("qwen3").edited(folder):
        pass
    other = open_hf(ModelSpec(str(hf_models.save(tmp_path / "other", "llama", seed=1))), Runtime(device="cpu"))
    assert isinstance(other, HfModel)
    with pytest.raises(ModelError, match="other weights"):
        list(other.answer(_asks([Applied("steer", folder)]), DECODES[0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "format 2"),
        ({"version": None}, "format None"),
        ({"span": "somewhere"}, "no span"),
        ({"pieces": []}, "does nothing"),
        ({"pieces": [{"layer": 0, "site": "residual", "kind": "add", "tensor": "piece.9"}]}, "piece.9"),
        ({"pieces": [{"layer": 0, "site": "attic", "kind": "add", "tensor": "piece.0"}]}, "unknown"),
        ({"pieces": [{"layer": 0, "site": "residual", "kind": "ablate", "tensor": "piece.0"}]}, "not orthonormal"),
        ({"pieces": [{"layer": 0, "site": "o_proj", "kind": "temper", "heads": [1, 1]}]}, "each of them once"),
        ({"pieces": [{"layer": 0, "site": "residual", "kind": "add", "tensor": "piece.0"}] * 2}, "two things at one"),
        ({"pieces": [{"layer": 0, "site": "v_proj", "kind": "add", "tensor": "piece.0"}]}, "another width"),
    ],
)
def test_broken_edits(change: dict[str, Any], said: str, opened: Callable[..., HfModel], tmp_path: Path) -> None:
    model = opened("llama")
    folder = _edit(model, tmp_path / "edit", "residual", "add")
    file = folder / "edit.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=said), model.edited(folder):
        pass


def test_folders_that_hold_no_edit(opened: Callable[..., HfModel], tmp_path: Path) -> None:
    model = opened("llama")
    with pytest.raises(ModelError, match=r"no edit\.json"), model.edited(tmp_path):
        pass
    folder = _edit(model, tmp_path / "edit", "residual", "add")
    (folder / "edit.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="no safetensors file"), model.edited(folder):
        pass
    (folder / "edit.json").write_text("[]")
    with pytest.raises(ModelError, match="does not describe an edit"), model.edited(folder):
        pass


def test_an_operator_that_does_not_work_by_row_is_refused(opened: Callable[..., HfModel], tmp_path: Path) -> None:
    import counterclaim.lab.operators  # noqa: F401  registers tune

    model = opened("llama")
    folder = _edit(model, tmp_path / "edit", "residual", "add")
    with pytest.raises(ModelError, match="tune cannot be laid over single rows"):
        model.answer(_asks([Applied("tune", folder)]), DECODES[0])
