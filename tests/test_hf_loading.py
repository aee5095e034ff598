"""Opening a model: its fingerprint, and one clear sentence for everything that can be wrong with it."""

from __future__ import annotations

import builtins
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import hf_models
from counterclaim.errors import ModelError
from counterclaim.lab.models.hf import open_hf
from counterclaim.lab.models.hf.fingerprint import hash_of_text
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.records import Decode, Message
from counterclaim.registry import Ask, ModelSpec, Runtime

# peft still asks transformers by a deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CPU = Runtime(device="cpu")
ASKS = [Ask(str(i), (Message("user", "What does the mill do? " * (i + 1)),)) for i in range(3)]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The folder of a family's tiny model with these random weights; not to be changed."""

    @cache
    def folder(family: str, seed: int = 0) -> Path:
        return hf_models.save(tmp_path_factory.mktemp(family), family, seed)

    return folder


@pytest.fixture
def llama(saved: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of the tiny Llama that a test may break."""
    return Path(shutil.copytree(saved("llama"), tmp_path / "llama"))


def opened(folder: Path, runtime: Runtime = CPU, **spec: Any) -> HfModel:
    model = open_hf(ModelSpec(str(folder), **spec), runtime)
    assert isinstance(model, HfModel)
    return model


def texts(model: HfModel, decode: Decode | None = None) -> list[str | None]:
    got = dict(pair for batch in model.answer(ASKS, decode or Decode(8)) for pair in batch)
    return [got[i].text for i in range(len(ASKS))]


def refused(folder: Path | str, runtime: Runtime = CPU, **spec: Any) -> str:
    with pytest.raises(ModelError) as raised:
        open_hf(ModelSpec(str(folder), **spec), runtime)
    said = str(raised.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


def test_the_fingerprint_of_a_folder(saved: Callable[..., Path], llama: Path) -> None:
    model = opened(saved("llama"))
    ref = model.ref
    assert ref.repo == str(saved("llama"))
    assert ref.revision is not None
    assert re.fullmatch(r"sha256:[0-9a-f]{16}", ref.revision)
    assert (ref.dtype, ref.quantisation, ref.adapter_hash) == ("float32", None, None)
    assert ref.libraries is not None
    assert f"torch {torch.__version__}" in ref.libraries
    assert f"transformers {transformers.__version__}" in ref.libraries
    assert "peft" not in ref.libraries
    assert model.chat_template == hash_of_text(hf_models.TEMPLATE)
    assert opened(llama).ref.revision == ref.revision, "a copy has the same weights"
    weights = load_file(llama / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    assert opened(llama).ref.revision != ref.revision


def test_asked_for_precision_is_used_and_recorded(saved: Callable[..., Path]) -> None:
    assert opened(saved("llama"), dtype="bfloat16").ref.dtype == "bfloat16"
    assert "there is no dtype 'float8'; use auto, float32" in refused(saved("llama"), dtype="float8")


def test_multimodal_checkpoints_open_as_their_text_models(tmp_path: Path, saved: Callable[..., Path]) -> None:
    text = hf_models.network("qwen3_5").config
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
    }  # fmt: skip
    config = transformers.Qwen3_5Config(text_config=text.to_dict(), vision_config=vision)
    torch.manual_seed(0)
    whole = transformers.Qwen3_5ForConditionalGeneration(config)
    whole.save_pretrained(tmp_path)
    hf_models.byte_level_tokenizer().save_pretrained(tmp_path)
    model = opened(tmp_path)
    assert type(model.network).__name__ == "Qwen3_5ForCausalLM"
    assert torch.equal(model.network.lm_head.weight, whole.lm_head.weight)
    assert len(texts(model)) == 3


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no such folder" in refused(tmp_path / "nowhere")
    assert "there is no such folder" in refused("./nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = refused("nobody/no-such-model")
    assert (
        "there is no model nobody/no-such-model: it is no folder here, and neither the hub nor its local cache" in said
    )


def test_folders_with_parts_missing(llama: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it has no config.json" in refused(empty)
    (llama / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert "there is no tokenizer beside the model" in refused(llama)
    (tmp_path / "tokenizer.json").rename(llama / "tokenizer.json")
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    said = refused(llama)
    assert "no weights in safetensors files; pytorch_model.bin is a pickle, which can run code, and is never" in said


def test_broken_parts(llama: Path) -> None:
    whole = (llama / "config.json").read_text()
    (llama / "config.json").write_text("{")
    assert str(llama) in refused(llama)
    (llama / "config.json").write_text(json.dumps(json.loads(whole) | {"model_type": "unheard-of"}))
    assert "the configuration of" in refused(llama)
    (llama / "config.json").write_text(whole)
    (llama / "model.safetensors").write_bytes(b"not tensors at all")
    assert "the weights of" in refused(llama)


def test_code_of_the_repository_is_never_run(llama: Path) -> None:
    planted = llama / "ran"
    settings = json.loads((llama / "config.json").read_text())
    settings |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (llama / "config.json").write_text(json.dumps(settings))
    (llama / "own.py").write_text(f"open({str(planted)!r}, 'w').close()\n")
    assert "code" in refused(llama)
    assert not planted.exists()


def test_weights_that_are_missing_are_never_random(llama: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, llama / "model.safetensors", metadata={"format": "pt"})
    assert "has no weights for model.layers.1.mlp.up_proj.weight, which would be random" in refused(llama)


@pytest.mark.parametrize("family", hf_models.FAMILIES)
def test_no_part_of_a_complete_checkpoint_counts_as_missing(family: str, saved: Callable[..., Path]) -> None:
    assert opened(saved(family)).network is not None


def test_chat_templates(llama: Path, tmp_path: Path) -> None:
    own = opened(llama)
    file = tmp_path / "template.jinja"
    file.write_text("{% for message in messages %}{{ message['content'] }}<end>{% endfor %}")
    other = opened(llama, chat_template=file)
    assert other.chat_template == hash_of_text(file.read_text()) != own.chat_template
    assert texts(other) != texts(own)
    raw = opened(llama, raw=True)
    assert raw.chat_template == "raw"
    length = len(raw.tokenizer("What does the mill do? ")["input_ids"])
    assert next(iter(raw.answer(ASKS[:1], Decode(4))))[0][1].prompt_tokens == length

    assert "the chat template cannot be read" in refused(llama, chat_template=tmp_path / "none.jinja")
    file.write_text("line one\n{% for %}")
    assert f"{file}, line 2: is no Jinja template" in refused(llama, chat_template=file)

    settings = json.loads((llama / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (llama / "tokenizer_config.json").write_text(json.dumps(settings))
    (llama / "chat_template.jinja").unlink(missing_ok=True)
    assert "has no chat template" in refused(llama)
    assert opened(llama, raw=True).chat_template == "raw"


def test_devices_that_are_not_here(saved: Callable[..., Path]) -> None:
    assert "there is no device 'cuda:7' on this machine; use one of those it has: cpu" in refused(
        saved("llama"), Runtime(device="cuda:7")
    )
    assert "there is no device 'tpu'" in refused(saved("llama"), Runtime(device="tpu"))
    assert "4bit weights need a CUDA GPU" in refused(saved("llama"), quantisation="4bit")


def test_a_tokenizer_without_padding_gets_a_token_that_ends_nothing(tmp_path: Path, saved: Callable[..., Path]) -> None:
    folder = hf_models.save(tmp_path / "model", "llama", pad_token=None)
    model = opened(folder)
    assert model.tokenizer.pad_token_id is None
    assert model.network.generation_config.pad_token_id == model.tokenizer.bos_token_id != model.tokenizer.eos_token_id
    assert texts(model) == texts(opened(saved("llama")))


def adapter(
    base: Path, folder: Path, *, seed: int = 1, targets: tuple[str, ...] = ("q_proj", "o_proj"), **more: Any
) -> Path:
    """A LoRA adapter with random weights that were, it says, trained on ``base``."""
    torch.manual_seed(seed)
    network = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False, task_type="CAUSAL_LM", **more)
    peft.get_peft_model(network, config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", hf_models.FAMILIES)
def test_an_adapter_changes_answers_and_the_fingerprint(
    family: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    plain = opened(saved(family))
    lora = adapter(saved(family), tmp_path / "lora")
    adapted = opened(saved(family), adapter=lora)
    again = opened(saved(family), CPU if family != "llama" else Runtime(device="cpu", batch_size=1), adapter=lora)
    assert texts(adapted) != texts(plain)
    assert texts(adapted) == texts(again)
    assert adapted.ref.adapter_hash == again.ref.adapter_hash is not None
    assert adapted.ref.libraries is not None
    assert "peft" in adapted.ref.libraries
    other = adapter(saved(family), tmp_path / "other", seed=2)
    assert opened(saved(family), adapter=other).ref.adapter_hash != adapted.ref.adapter_hash


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"use_dora": True}, "magnitudes (DoRA)"), ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"bias": "all"}, "biases"),
    ],
    ids=["dora", "modules", "biases"],
)  # fmt: skip
def test_what_is_no_plain_lora_is_not_scaled_by_half(
    saved: Callable[..., Path], tmp_path: Path, more: Any, said: str
) -> None:
    plain, other = adapter(saved("llama"), tmp_path / "plain"), adapter(saved("llama"), tmp_path / "other", **more)
    assert texts(opened(saved("llama"), adapter=plain, dose=0.0)) == texts(opened(saved("llama")))
    assert opened(saved("llama"), adapter=other).ref.adapter_dose == 1
    told = refused(saved("llama"), adapter=other, dose=0.0)
    assert "cannot be scaled to dose 0" in told
    assert said in told


def test_adapters_for_another_base(saved: Callable[..., Path], llama: Path, tmp_path: Path) -> None:
    lora = adapter(saved("llama"), tmp_path / "lora")
    copy = texts(opened(llama, adapter=lora))
    assert copy == texts(opened(saved("llama"), adapter=lora)), "the same weights in another place are the same base"
    assert f"the adapter was made for {saved('llama')}, not for" in refused(saved("llama", 1), adapter=lora)
    assert "the adapter was made for" in refused(saved("qwen3"), adapter=lora)

    settings = json.loads((lora / "adapter_config.json").read_text())
    for base, fits in (("somebody/llama", True), ("/gone/from/here", True), (None, True)):
        (lora / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": base}))
        assert (texts(opened(saved("llama"), adapter=lora)) == copy) is fits


def test_adapters_that_do_not_fit_whatever_they_say_of_their_base(saved: Callable[..., Path], tmp_path: Path) -> None:
    lora = adapter(saved("qwen3_5"), tmp_path / "lora", targets=("out_proj", "o_proj"))
    settings = json.loads((lora / "adapter_config.json").read_text()) | {"base_model_name_or_path": "/gone/from/here"}
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    assert "the adapter does not fit" in refused(saved("llama"), adapter=lora), "layers that the model lacks"
    (lora / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["c_attn"]}))
    assert "the adapter does not fit" in refused(saved("llama"), adapter=lora), "no layer of that name"


def test_an_adapter_of_which_no_key_matches_is_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    lora = adapter(saved("llama"), tmp_path / "lora")
    weights = load_file(lora / "adapter_model.safetensors")
    renamed = {name.replace("layers.", "blocks."): value for name, value in weights.items()}
    save_file(renamed, lora / "adapter_model.safetensors", metadata={"format": "pt"})
    said = refused(saved("llama"), adapter=lora)
    assert "so parts of it would change nothing" in said

    some = dict(list(weights.items())[2:])
    save_file(some, lora / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "it lacks" in refused(saved("llama"), adapter=lora)

    wide = {name: torch.cat([value, value], dim=1) for name, value in weights.items()}
    save_file(wide, lora / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "the adapter does not fit" in refused(saved("llama"), adapter=lora)


def test_folders_that_are_no_adapter(saved: Callable[..., Path], tmp_path: Path) -> None:
    assert "it has no adapter_config.json" in refused(saved("llama"), adapter=tmp_path)
    lora = adapter(saved("llama"), tmp_path / "lora")
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    assert "pickled ones are never loaded" in refused(saved("llama"), adapter=lora)
    (lora / "adapter_model.bin").rename(lora / "adapter_model.safetensors")
    (lora / "adapter_config.json").write_text("{")
    assert "adapter_config.json: is not JSON" in refused(saved("llama"), adapter=lora)


def test_without_torch_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'counterclaim[models]'" in refused("some/model")


def test_registering_the_backend_does_not_import_torch() -> None:
    code = "import counterclaim.lab.models, sys; print(sorted({'torch', 'transformers', 'openai', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
