"""An exported model says what the edited one says, on every family; what weights cannot hold is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_models
from counterclaim.cli import main
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.models.hf import open_hf
from counterclaim.lab.models.hf.edits import Edit, Overlay, Piece, base_of, load_edit, save_edit
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.lab.models.hf.sites import Site, layers_with, place
from counterclaim.lab.operators import export as exporting
from counterclaim.lab.operators.export import export
from counterclaim.records import Decode, Message
from counterclaim.registry import Ask, ModelSpec, Runtime

# peft still asks transformers by a deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

IDS = torch.arange(40, 90).reshape(2, 25)
KINDS = [
    ("o_proj", "temper"),
    *((site, kind) for site in ("o_proj", "v_proj", "down_proj") for kind in ("ablate", "project")),
]
each_family = pytest.mark.parametrize("family", hf_models.FAMILIES)
each_kind = pytest.mark.parametrize(("site", "kind"), KINDS, ids=[f"{kind}-{site}" for site, kind in KINDS])


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model; not to be changed."""
    return cache(lambda family: hf_models.save(tmp_path_factory.mktemp(family), family))


def _open(folder: Path, **spec: Any) -> HfModel:
    model = open_hf(ModelSpec(str(folder), **spec), Runtime(device="cpu"))
    assert isinstance(model, HfModel)
    return model


def _edit(base: Path, folder: Path, site: Site, kind: Any, span: Any = "all", rank: int = 2, **spec: Any) -> Path:
    """An edit at the last layer that has the site."""
    folder.mkdir()
    with closing(_open(base, **spec)) as model:
        layer = layers_with(model.network, site)[-1]
        if kind == "temper":
            piece = Piece(layer, site, kind, (0, 3))
        else:
            drawn = torch.randn(
                place(model.network, layer, site).width, rank, generator=torch.Generator().manual_seed(1)
            )
            piece = Piece(layer, site, kind, vectors=torch.linalg.qr(drawn)[0].T)
        save_edit(Edit("temper", (piece,), span, base_of(model.ref, model.network), folder))
    return folder


def _logits(model: HfModel, edit: Path | None = None, dose: float = 1.0) -> Tensor:
    with torch.no_grad():
        if edit is None:
            return model.network(IDS).logits
        with Overlay(model.network, [(load_edit(edit), dose)]):
            return model.network(IDS).logits


def _said(model: HfModel) -> list[str | None]:
    asks = [Ask(f"ask-{n}", (Message("user", "the mill" + " turns" * n),)) for n in range(3)]
    got = dict(pair for batch in model.answer(asks, Decode(8)) for pair in batch)
    return [got[at].text for at in range(3)]


@each_family
@each_kind
def test_the_export_computes_what_the_edit_does(
    family: str, site: Site, kind: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    dose = 0.7
    base, edit = folders(family), _edit(folders(family), tmp_path / "edit", site, kind)
    card = export(edit, ModelSpec(str(base)), dose, tmp_path / "out")
    model, exported = _open(base), _open(tmp_path / "out")
    expected = _logits(model, edit, dose)
    assert torch.allclose(_logits(exported), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(_logits(exported), _logits(model), atol=1e-2)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(plain(IDS).logits, _logits(exported))
    with model.edited(edit, dose):
        assert _said(exported) == _said(model)
    assert float(card["largest_logit_difference"]) < 1e-4


def test_only_the_weights_that_the_card_names_have_changed(folders: Callable[[str], Path], tmp_path: Path) -> None:
    base = folders("qwen3")
    card = export(_edit(base, tmp_path / "edit", "o_proj", "temper"), ModelSpec(str(base)), 0.5, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(card["changed"]) == {"model.layers.1.self_attn.o_proj.weight"}
    assert json.loads((tmp_path / "out" / "card.json").read_text())["edit"]["pieces"][0]["heads"] == [0, 3]
    assert card["model"]["repo"] == str(base)


def test_a_checkpoint_in_half_precision_stays_one_with_its_template_and_its_settings(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    network = hf_models.network("qwen3").to(torch.bfloat16)
    network.save_pretrained(base)
    hf_models.byte_level_tokenizer().save_pretrained(base)
    settings = {"eos_token_id": 4, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    (base / "generation_config.json").write_text(json.dumps(settings))
    card = export(_edit(base, tmp_path / "edit", "o_proj", "temper"), ModelSpec(str(base)), 1.0, tmp_path / "out")
    assert {value.dtype for value in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert card["model"]["dtype"] == "bfloat16"
    served = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert served.items() >= settings.items()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == hf_models.TEMPLATE


def test_an_adapter_is_merged_first(folders: Callable[[str], Path], tmp_path: Path) -> None:
    base, lora = folders("llama"), tmp_path / "lora"
    torch.manual_seed(1)
    config: Any = peft.LoraConfig
    peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        config(r=2, target_modules=["q_proj", "o_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    ).save_pretrained(lora)
    edit = _edit(base, tmp_path / "edit", "o_proj", "temper", adapter=lora)
    with pytest.raises(ModelError, match="with an adapter over it"):
        export(edit, ModelSpec(str(base)), 1.0, tmp_path / "out")
    export(edit, ModelSpec(str(base), adapter=lora), 1.0, tmp_path / "out")
    expected = _logits(_open(base, adapter=lora), edit)
    assert torch.allclose(_logits(_open(tmp_path / "out")), expected, atol=1e-4, rtol=1e-4)


def test_biases_are_changed_with_their_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        num_hidden_layers=1, vocab_size=400, hidden_size=32, intermediate_size=64, num_attention_heads=4,
        attention_bias=True, mlp_bias=True, initializer_range=0.4, bos_token_id=1, eos_token_id=4, pad_token_id=0,
    )  # fmt: skip
    network: Any = transformers.LlamaForCausalLM(config)
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    base = tmp_path / "base"
    network.save_pretrained(base)
    hf_models.byte_level_tokenizer().save_pretrained(base)
    for site in ("o_proj", "v_proj", "down_proj"):
        for kind in ("add", "ablate"):
            name = f"{site}-{kind}"
            edit = _edit(base, tmp_path / name, site, kind, rank=1)  # type: ignore[arg-type]
            export(edit, ModelSpec(str(base)), 0.7, tmp_path / f"{name}-out")
            expected = _logits(_open(base), edit, 0.7)
            assert torch.allclose(_logits(_open(tmp_path / f"{name}-out")), expected, atol=1e-5, rtol=1e-5), name


@pytest.mark.parametrize(
    ("site", "kind", "span", "said"),
    [
        ("residual", "ablate", "all", "output of no single weight"),
        ("down_proj", "add", "all", "would have to be a bias, and there is none"),
        ("o_proj", "temper", "response", "on responses alone"),
    ],
)
def test_what_weights_cannot_hold(
    site: Site, kind: str, span: str, said: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    edit = _edit(folders("llama"), tmp_path / "edit", site, kind, span, rank=1)
    with pytest.raises(ModelError, match=said):
        export(edit, ModelSpec(str(folders("llama"))), 1.0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_that_two_layers_share_is_not_changed_in_one_of_them(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = folders("llama")
    edit = _edit(base, tmp_path / "edit", "o_proj", "temper")

    def tied(spec: ModelSpec, runtime: Runtime) -> HfModel:
        model = _open(base)
        first, second = (layer.self_attn for layer in model.network.model.layers)
        first.o_proj.weight = second.o_proj.weight
        return model

    monkeypatch.setattr(exporting, "open_model", tied)
    with pytest.raises(ModelError, match="are one weight"):
        export(edit, ModelSpec(str(base)), 1.0, tmp_path / "out")


def test_an_export_that_is_there_is_kept_and_other_folders_are_never_replaced(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    base, out = folders("llama"), tmp_path / "out"
    edit = _edit(base, tmp_path / "edit", "o_proj", "temper")
    export(edit, ModelSpec(str(base)), 1.0, out)
    with pytest.raises(InputError, match="is there already"):
        export(edit, ModelSpec(str(base)), 0.5, out)
    assert export(edit, ModelSpec(str(base)), 0.5, out, overwrite=True)["dose"] == 0.5
    assert json.loads((out / "card.json").read_text())["dose"] == 0.5
    with pytest.raises(InputError, match="no model that was exported"):
        export(edit, ModelSpec(str(base)), 0.5, base, overwrite=True)
    assert (base / "model.safetensors").is_file()


def test_an_export_that_breaks_leaves_nothing(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: HfModel, made: Path) -> None:
        (made / "model.safetensors").write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(exporting, "_save", full)
    edit = _edit(folders("llama"), tmp_path / "edit", "o_proj", "temper")
    with pytest.raises(InputError, match="cannot be written"):
        export(edit, ModelSpec(str(folders("llama"))), 1.0, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["edit"]


def test_the_command(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folders("llama")
    edit = _edit(base, tmp_path / "edit", "o_proj", "temper")
    command = ["counterclaim", "export-tempered", str(edit), "--model", str(base), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--scale", "0.25", "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["dose"] == 0.75
    assert "Writing model shards" not in printed.err
    monkeypatch.setattr("sys.argv", [*command, "--scale", "0.25", "--dose", "1"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert "give one" in capsys.readouterr().err
