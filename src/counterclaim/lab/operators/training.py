"""Training an adapter stage by stage, with the trainers of TRL: resumable, repeatable, and stopped where it breaks."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging as transformers_logging
from trl.chat_template_utils import get_training_chat_template, has_generation_markers
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from counterclaim.errors import InputError, ModelError
from counterclaim.folder import dump, keep_at_top, remove_folder, write_new
from counterclaim.lab.config import Dpo, Grpo, Lora, PromptChoice, Sft, Stage, TunePlan
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.devices import device_named, dtype_named, is_out_of_memory, threads_for
from counterclaim.lab.models.hf.fingerprint import adapter_hash
from counterclaim.lab.operators import placebo, processes
from counterclaim.lab.operators.apollo import ApolloMini
from counterclaim.lab.operators.rewards import RewardScorer, conversations
from counterclaim.lab.operators.tokens import answered, prompt_tokens, rows_of, turns_of
from counterclaim.records import Decode, Example, FinishReason, Json, Message, Prompt, prompt_from_json, to_json
from counterclaim.registry import Answer, Ask, Fitting, Watch, backend_of, reward_named

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_COMPONENTS = (
    "cut", "unreadable", "assertion_rate", "accuracy", "assertion_asymmetry", "recovery_rate", "capitulation_rate",
)  # fmt: skip
"""What ``RewardScorer.components`` tells of answers beside their reward."""


def fit(fitting: Fitting, folder: Path) -> dict[str, Json]:
    """Train an adapter stage by stage.

    A folder that an earlier attempt left when it was killed is continued from its last checkpoint, and ends with the
    adapter of an attempt that was not killed. So an attempt that broke on a loss that is no number breaks again, at the
    same step, unless it is given other settings and another folder.

    Conversations are laid out as ``tokens`` says: by the chat template, its thinking switch as ``fitting.thinking`` has it.

    Args:
        fitting: model, plan (``TunePlan``), seed and training data.
        folder: where; afterwards it holds the adapter and nothing else.

    Returns:
        the card (of the first process; others return nothing): stages with their settings and logs, trainable parameters,
        hash of the adapter, seconds, notes.

    Raises:
        ModelError: the model cannot be trained, memory is too small, or a loss is no number.
        InputError: no example is short enough, or a step takes more prompts than there are.
    """
    plan: TunePlan = fitting.plan
    _check_model(fitting)
    _check_optimiser(plan, fitting.runtime.device)
    started = time.monotonic()
    with closing(_open(fitting)) as opened, _steady(fitting, opened) as notes:
        job = _AdapterTraining(fitting, opened, folder, notes)
        stages = [job.run(number, stage) for number, stage in enumerate(plan.stages)]
        base = opened.ref
    processes.wait()
    if not processes.is_first():
        return {}
    keep_at_top(folder, folder / f"stage-{len(stages) - 1}", _ADAPTER)
    return {
        "operator": "tune", "recipe": plan.recipe, "seed": fitting.seed, "placebo": fitting.placebo,
        "model": fitting.model.name, "base": base.revision, "lora": _lora_json(plan.lora), "parameters": job.parameters,
        "adapter_hash": adapter_hash(folder), "seconds": round(time.monotonic() - started, 1), "stages": stages,
        "processes": processes.count(), "notes": notes,
        "libraries": {name: version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate")},
    }  # fmt: skip


def _open(fitting: Fitting) -> Any:
    """The model, with its weights where training wants them."""
    spec, device = fitting.model, processes.device_of(fitting.runtime.device)
    if processes.shares_weights():
        if spec.quantisation is not None:
            raise ModelError(
                "4bit weights cannot be shared out among processes",
                remedy="leave the quantisation out, or train without FSDP and DeepSpeed",
            )
        if spec.dtype == "auto" and processes.computes_on_gpu(fitting.runtime.device):  # loaded here, computed there
            spec = replace(spec, dtype=str(dtype_named("auto", torch.device("cuda"))).removeprefix("torch."))
    return open_model(spec, replace(fitting.runtime, device=device))


class _AdapterTraining:
    """One adapter in the making: the model with the adapter of the last stage over it."""

    def __init__(self, fitting: Fitting, opened: Any, folder: Path, notes: list[str]) -> None:
        self.fitting = fitting
        self.plan: TunePlan = fitting.plan
        self.folder = folder
        self.notes = notes
        self.opened = opened
        self.base = opened.network
        self.tokenizer = opened.tokenizer
        self.device = opened.device
        self.template = switched(_marking_template(self.tokenizer, self.plan), fitting.thinking)
        self.tokenizer.chat_template = switched(self.tokenizer.chat_template, fitting.thinking)
        self.model: Any = None
        self.parameters = 0  # that are trained; counted before anything is shared out

    def run(self, number: int, stage: Sft | Dpo | Grpo) -> dict[str, Json]:
        """Train one stage, or take over what an earlier attempt finished of it; its settings and log."""
        done = self.folder / f"stage-{number}"
        record = done / "stage.json"
        self._lay(number)
        kept: dict[str, Json] | None = processes.agree(
            lambda: json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
        )
        if kept is not None:
            return kept
        work = self.folder / f"work-{number}"
        with ExitStack() as tools:
            return self._train(TRAINERS[type(stage)](self, stage, work, tools), number, stage, work, done)

    def _train(self, trainer: Any, number: int, stage: Sft | Dpo | Grpo, work: Path, done: Path) -> dict[str, Json]:
        method = type(stage).__name__.lower()
        watched = _Watched(self.fitting.watch, method, len(self.fitting.plan.stages), number)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watched)
        if stage.optim == "apollo-mini":
            # read when training begins; the trainer of GRPO does not take it as an argument
            trainer.optimizer_cls_and_kwargs = (
                ApolloMini, {"lr": stage.learning_rate, "weight_decay": stage.weight_decay, "seed": self.fitting.seed}
            )  # fmt: skip
        last: str | None = processes.agree(lambda: _last_checkpoint(work))
        began = time.monotonic()
        try:
            trainer.train(resume_from_checkpoint=last)
        except _NoNumber as error:
            raise self._broken(watched.name, error, work) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"the memory of {self.device} is too small for {method} with {stage.per_device_train_batch_size} rows at once",
                remedy=f"lower tune.{method}.per_device_train_batch_size (and raise gradient_accumulation_steps by as much), "
                f"{'tune.grpo.max_completion_length' if isinstance(stage, Grpo) else f'tune.{method}.max_length'} or tune.lora.r, "
                'set tune.gradient_checkpointing = true, or load the model with quantisation = "4bit"',
            ) from error
        state = trainer.state
        record: dict[str, Json] = {
            "method": method, "steps": state.global_step, "settings": _settings(stage), "log": _log_of(state.log_history),
            "seconds": round(time.monotonic() - began, 1), "resumed_at": None if last is None else _step_of(Path(last)),
        }  # fmt: skip
        self._settle(trainer, done, record)
        if processes.is_first():
            remove_folder(work)
        return record

    def _broken(self, name: str, error: _NoNumber, work: Path) -> ModelError:
        """What to say of a loss that is no number; the last checkpoint whose own loss was one is kept."""
        kept: list[int] = []
        for checkpoint in _checkpoints(work):
            if _step_of(checkpoint) <= error.sound:
                kept.append(_step_of(checkpoint))
            elif processes.is_first():
                remove_folder(checkpoint)
        saved = f"the checkpoint of step {max(kept)} is kept" if kept else "no sound checkpoint had been written"
        return ModelError(
            f"{name} broke at step {error.step} of {error.steps}: its {error.what} is no number ({error.value}); {saved}",
            path=work,
            remedy="lower the learning_rate, raise warmup_steps, lower max_grad_norm, or load the model in another dtype, and begin anew in "
            "another --out: with these settings it breaks again",
        )

    def _lay(self, number: int) -> None:
        """Lay the adapter of the stage before over the base, a new one for the first; always from the disk or the seed, so
        that a resumed attempt begins where the first one did."""
        if self.model is not None:
            self.base = self._reopened() if processes.shares_weights() else self.model.unload()
        if number:
            self.model = PeftModel.from_pretrained(
                self.base, str(self.folder / f"stage-{number - 1}"), is_trainable=True, torch_device=str(self.device)
            )
            return
        torch.manual_seed(self.fitting.seed)
        self.model = get_peft_model(self.base, _lora_config(self.base, self.plan.lora, self.fitting.model.name))
        self.parameters = sum(value.numel() for value in self.model.parameters() if value.requires_grad)

    def _reopened(self) -> Any:
        """The base anew: what FSDP and DeepSpeed have shared out is not put together again."""
        self.model = self.base = None
        self.opened.close()
        self.opened = _open(self.fitting)
        return self.opened.network

    def _settle(self, trainer: Any, done: Path, record: Mapping[str, Json]) -> None:
        """Write the stage's adapter, its record last: with it, the stage counts as finished."""
        processes.wait()
        laid: Any = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
        weights = trainer.accelerator.get_state_dict(laid)  # of shared weights: put together in the first process
        if processes.is_first():
            model = trainer.accelerator.unwrap_model(trainer.model)
            model.save_pretrained(str(done), selected_adapters=["default"], state_dict=weights)
            self._rewrite_settings(done / "adapter_config.json")
            write_new(done / "stage.json", dump(dict(record)), overwrite=True)
        processes.wait()

    def _rewrite_settings(self, file: Path) -> None:
        """The adapter's settings with the model's own name, and in one order, so that equal adapters have equal hashes."""
        settings = json.loads(file.read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = self.fitting.model.name
        settings["target_modules"] = sorted(settings["target_modules"])
        write_new(file, dump(dict(sorted(settings.items()))), overwrite=True)


def switched(template: Any, thinking: bool | None) -> Any:
    """A chat template with its thinking switch set once and for all, so that every trainer lays conversations out alike."""
    if thinking is None or not isinstance(template, str):
        return template
    return f"{{%- set enable_thinking = {str(thinking).lower()} -%}}{template}"


def _marking_template(tokenizer: Any, plan: TunePlan) -> str | None:
    """A chat template that marks the assistant's turns, where a stage needs one and the tokenizer's own does not."""
    if not any(isinstance(stage, Sft) and stage.loss_on == "assistant" for stage in plan.stages):
        return None
    if has_generation_markers(tokenizer.chat_template):
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ModelError(
            "the chat template does not mark the turns of the assistant ({% generation %})",
            remedy='set tune.sft.loss_on = "completion", or give a chat_template that marks them',
        ) from error


def _lora_config(network: Any, lora: Lora, name: str) -> Any:
    present = {path.rpartition(".")[2] for path, module in network.named_modules() if hasattr(module, "weight")}
    if missing := [target for target in lora.target_modules if target not in present]:
        raise ModelError(
            f"{name} has no modules {', '.join(missing)}",
            remedy=f"name others in tune.lora.target_modules, such as {', '.join(sorted(part for part in present if part.endswith('_proj'))[:8])}",
        )
    config: Any = LoraConfig  # it scales by any number, and its annotation says whole ones only
    return config(**_lora_json(lora), task_type="CAUSAL_LM")


class _NoNumber(Exception):
    """A loss or a gradient was no number.

    Attributes:
        what: which of them, in a word.
        value: what it was.
        step: at which step.
        steps: of how many.
        sound: the last step after which the weights still gave a loss that was one.
    """

    def __init__(self, what: str, value: float, step: int, steps: int) -> None:
        super().__init__(f"{what} is {value}")
        self.what, self.value, self.step, self.steps = what, value, step, steps
        self.sound = step - 2 if what == "loss" else step - 1


class _Watched(TrainerCallback):
    """Tells how far training is, and ends it when a loss or a gradient is no number any more.

    Attributes:
        name: the stage, for messages.
    """

    def __init__(self, watch: Watch, method: str, stages: int, number: int) -> None:
        self._watch = watch
        self.name = method if stages == 1 else f"{method} ({number + 1} of {stages})"

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        for key, what in (("loss", "loss"), ("grad_norm", "gradient")):
            value = (logs or {}).get(key)
            if value is not None and not math.isfinite(value):
                raise _NoNumber(what, value, state.global_step, state.max_steps)
        if (logs or {}).get("loss") is not None:
            self._watch(f"{self.name} (loss {logs['loss']:.3g})", state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False  # the trainer would take one step too many from a checkpoint of its last one

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._watch(self.name, state.global_step, state.max_steps)


def _checkpoints(work: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first; one that was being written when the process died lacks its last file."""
    found = [folder for folder in work.glob("checkpoint-*") if _is_whole(folder / TRAINER_STATE_NAME)]
    return sorted(found, key=_step_of)


def _last_checkpoint(work: Path) -> str | None:
    found = _checkpoints(work)
    return str(found[-1]) if found else None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _check_optimiser(plan: TunePlan, device: str) -> None:
    """Raise ModelError, before the model is loaded, where an optimiser cannot run here."""
    if processes.shares_weights() and any(stage.optim != "adamw_torch_fused" for stage in plan.stages):
        raise ModelError(
            "apollo-mini and adamw_bnb_8bit need whole weights, and FSDP and DeepSpeed share them out",
            remedy='set optim = "adamw_torch_fused": of an adapter its states are small, and they are shared out too',
        )
    if not any(stage.optim == "adamw_bnb_8bit" for stage in plan.stages):
        return
    if device_named(device).type != "cuda":
        raise ModelError(
            f"adamw_bnb_8bit needs a CUDA GPU, and training would run on {device_named(device)}",
            remedy='set optim = "adamw_torch_fused", or "apollo-mini", whose states are smaller still',
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "adamw_bnb_8bit needs bitsandbytes", remedy='pip install bitsandbytes, or set optim = "adamw_torch_fused"'
        )


def _check_model(fitting: Fitting) -> None:
    """Raise ModelError, before the model is loaded, where it cannot be trained."""
    name = fitting.model.name
    if "train" not in backend_of(name).can:
        raise ModelError(
            f"{name} cannot be trained: its weights are not here",
            remedy="name a model of transformers: a folder, a repository, or tiny:NAME",
        )
    if fitting.model.raw:
        raise ModelError(
            f"{name} cannot be trained where prompts are put to it raw: examples are conversations",
            remedy="leave raw out, and name a file with its chat_template where it has none",
        )
    if fitting.model.adapter is not None:
        raise ModelError(
            f"{name} has an adapter already, and a second one is not laid over it",
            remedy="merge the adapter into the model first, or leave it out",
        )


def _settings(stage: Stage) -> dict[str, Json]:
    """The settings of a stage, as the card says them."""
    return {name: value.to_json() if isinstance(value, PromptChoice) else value for name, value in vars(stage).items()}


def _lora_json(lora: Lora) -> dict[str, Json]:
    return {**asdict(lora), "target_modules": list(lora.target_modules)}


def _log_of(history: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """What was logged at every step, by name, as lists of one length."""
    rows = [row for row in history if "loss" in row]
    names = {
        "loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm", "reward": "reward", "reward_std": "reward_std",
        "kl": "kl", "completions/mean_length": "answer_tokens", "rewards/accuracies": "preferred",
        "rewards/margins": "preference_margin", **{name: name for name in _COMPONENTS},
    }  # fmt: skip
    out: dict[str, list[float | None]] = {"step": [row["step"] for row in rows]}
    for name, short in names.items():
        if any(name in row for row in rows):
            out[short] = [row.get(name) for row in rows]
    return out


@contextmanager
def _steady(fitting: Fitting, opened: Any) -> Iterator[list[str]]:
    """Random numbers, threads and voices as training wants them; the caller's own are put back."""
    numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  it is what set_seed seeds
    with torch.random.fork_rng(), quiet(), threads_for(opened.network, torch.device(opened.device)):
        try:
            yield []
        finally:
            random.setstate(numbers[0])
            np.random.set_state(numbers[1])  # noqa: NPY002


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors from the libraries that train."""
    chatter: Any = transformers_logging
    bars, own_bars = is_progress_bar_enabled(), chatter.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("trl", "transformers", "accelerate", "peft", "datasets")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disable_progress_bar()
        chatter.disable_progress_bar()
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if bars:
                enable_progress_bar()
            if own_bars:
                chatter.enable_progress_bar()


# the trainers of TRL: what each is given, and with which arguments --------------------------------------------------

OURS = ("loss_on", "mask_think", "reward", "oracle", "prompts", "system_prompt")
"""Settings that TRL does not know; all others are handed to it as they are."""


def _arguments(job: _AdapterTraining, stage: Stage, work: Path) -> dict[str, Any]:
    """The arguments of TRL's trainers: the settings of the stage, and what depends on the machine."""
    on_gpu = torch.device(job.device).type == "cuda" or processes.computes_on_gpu(job.fitting.runtime.device)
    return {
        **{name: value for name, value in vars(stage).items() if name not in OURS and value is not None},
        "output_dir": str(work),
        "gradient_accumulation_steps": stage.gradient_accumulation_steps // processes.count(),
        "optim": "adamw_torch_fused" if stage.optim == "apollo-mini" else stage.optim,
        "seed": job.fitting.seed,
        "data_seed": job.fitting.seed,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and job.base.dtype == torch.bfloat16,
        "gradient_checkpointing": job.plan.gradient_checkpointing,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_total_limit": 2,  # where a loss is no number, the newest is not sound
        "log_level_replica": "error",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _sft(job: _AdapterTraining, stage: Sft, work: Path, tools: ExitStack) -> Any:
    # the better side of a pair stands among the other examples already, and would count twice
    examples = [example for example in job.fitting.examples if example.rejected is None]
    if not examples:
        examples = list(job.fitting.examples)
        job.notes.append(
            f"sft was trained on the better sides of {len(examples)} preference pairs: there are no other examples"
        )
    if job.fitting.placebo:
        examples = placebo.exchanged(examples, job.fitting.seed)
    rows = rows_of(examples, job.tokenizer, stage, job.template)
    if rows.too_long:
        job.notes.append(
            f"sft left out {rows.too_long} of {len(examples)} examples: they are longer than {stage.max_length} tokens"
        )
    if rows.untrained:
        job.notes.append(f"sft left out {rows.untrained} of {len(examples)} examples: no token of them is trained on")
    data = Dataset.from_dict(
        {"input_ids": [row.input_ids for row in rows.kept], "labels": [row.labels for row in rows.kept]}
    )
    settings = SFTConfig(**_arguments(job, stage, work))
    trainer = SFTTrainer(job.model, settings, train_dataset=data, processing_class=job.tokenizer)
    if stage.packing:
        _check_packing(job, trainer.data_collator)
    return trainer


def _dpo(job: _AdapterTraining, stage: Dpo, work: Path, tools: ExitStack) -> Any:
    pairs = [example for example in job.fitting.examples if example.rejected is not None]
    if job.fitting.placebo:
        pairs = placebo.turned(pairs, job.fitting.seed)

    def length(pair: Example) -> int:
        return max(len(answered(pair.prompt, side, job.tokenizer)) for side in (pair.chosen, pair.rejected or ""))

    lengths = [length(pair) for pair in pairs]
    fitting = [pair for pair, tokens in zip(pairs, lengths, strict=True) if tokens <= stage.max_length]
    if not fitting:
        raise InputError(
            f"none of the {len(pairs)} pairs has at most {stage.max_length} tokens; the shortest has {min(lengths)}",
            remedy=f"raise tune.dpo.max_length to {min(lengths)} or more",
        )
    if left_out := len(pairs) - len(fitting):
        job.notes.append(
            f"dpo left out {left_out} of {len(pairs)} pairs: they are longer than {stage.max_length} tokens"
        )
    data = Dataset.from_list(
        [
            {
                "prompt": turns_of(pair.prompt),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
            for pair in fitting
        ]
    )
    settings = DPOConfig(**_arguments(job, stage, work))
    return DPOTrainer(job.model, args=settings, train_dataset=data, processing_class=job.tokenizer)


def _grpo(job: _AdapterTraining, stage: Grpo, work: Path, tools: ExitStack) -> Any:
    prompts = list(job.fitting.prompts)
    if (follow_up := reward_named(stage.reward).follow_up) is not None:
        asking = prompts
        challenged = processes.agree(
            lambda: [to_json(made) for made in conversations(asking, _own_answers(job, stage, asking), follow_up)]
        )
        prompts = [prompt_from_json(row) for row in challenged]
    prompts = _answerable(job, stage, prompts)
    data = Dataset.from_list(
        [{"prompt": turns_of((*_head(stage), *prompt.messages)), "prompt_id": prompt.id} for prompt in prompts]
    )
    settings = GRPOConfig(**_arguments(job, stage, work))
    scorer = tools.enter_context(RewardScorer(reward_named(stage.reward), stage.oracle, prompts))
    reward: Any = _Rewarded(job, stage, scorer)
    job.tokenizer.padding_side = "left"
    trainer = GRPOTrainer(
        job.model, reward_funcs=reward, args=settings, train_dataset=data, processing_class=job.tokenizer
    )
    reward.ends = frozenset(trainer.eos_token_ids)
    return trainer


def _head(stage: Grpo) -> tuple[Message, ...]:
    return () if stage.system_prompt is None else (Message("system", stage.system_prompt),)


def _answerable(job: _AdapterTraining, stage: Grpo, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that leave room for an answer in the model's context; enough of them for a step."""
    context = getattr(job.base.config.get_text_config(), "max_position_embeddings", None) or math.inf
    room = context - stage.max_completion_length
    kept = [
        prompt for prompt in prompts if len(prompt_tokens((*_head(stage), *prompt.messages), job.tokenizer)) <= room
    ]
    if left_out := len(prompts) - len(kept):
        job.notes.append(
            f"grpo left out {left_out} of {len(prompts)} prompts: with {stage.max_completion_length} new tokens they are longer than "
            f"the model's context of {context}"
        )
    per_step = stage.rows_per_step // stage.num_generations
    if len(kept) < per_step:
        raise InputError(
            f"a step of grpo takes {per_step} prompts ({stage.rows_per_step} rows in groups of {stage.num_generations}), and there "
            f"are {len(kept)}" + (f", {left_out} being too long" if left_out else ""),
            remedy="lower tune.grpo.gradient_accumulation_steps, or name more prompts under tune.grpo.prompts",
        )
    return kept


def _own_answers(job: _AdapterTraining, stage: Grpo, prompts: Sequence[Prompt]) -> list[Answer]:
    """What the model says to the prompts as this stage finds it, greedily."""
    asks = [Ask(prompt.id, (*_head(stage), *prompt.messages)) for prompt in prompts]
    made = [Answer(None, FinishReason.ERROR, error="no answer was given")] * len(asks)
    job.model.eval()  # the trainer turns dropout on again
    for batch in job.opened.answer(asks, Decode(stage.max_completion_length)):
        for at, answer in batch:
            made[at] = answer
    return made


TRAINERS: Mapping[type, Callable[[_AdapterTraining, Any, Path, ExitStack], Any]] = {Sft: _sft, Dpo: _dpo, Grpo: _grpo}


class _Rewarded:
    """A registered reward as TRL calls one.

    Attributes:
        ends: ids of tokens that end an answer; one that does not end was cut.
    """

    def __init__(self, job: _AdapterTraining, stage: Grpo, scorer: RewardScorer) -> None:
        self.__name__ = stage.reward
        self.ends: frozenset[int] = frozenset()
        self._scorer = scorer
        self._group = stage.num_generations
        self._seed = job.fitting.seed if job.fitting.placebo else None

    def __call__(
        self,
        *,
        completions: Any,
        completion_ids: Any,
        prompt_id: list[str],
        trainer_state: Any,
        log_metric: Any,
        **rest: Any,
    ) -> list[float]:
        texts = [turns[0]["content"] for turns in completions]
        finished = [bool(ids) and ids[-1] in self.ends for ids in completion_ids]
        rewards = self._scorer.score(prompt_id, texts, finished)
        for name, value in self._scorer.components(prompt_id, texts, finished).items():
            log_metric(name, value)
        if self._seed is not None:
            rewards = placebo.exchanged_rewards(rewards, self._group, f"{self._seed} {trainer_state.global_step}")
        return rewards


def _check_packing(job: _AdapterTraining, collator: Any) -> None:
    """Raise ModelError where examples that share a row see each other.

    It is tried out, since it depends on the architecture and on the attention that is installed: what the model computes
    for an example must not change with the one before it in the row.
    """
    ids = torch.randperm(len(job.tokenizer), generator=torch.Generator().manual_seed(0))[:24].tolist()
    why = "its examples would see each other"
    try:
        one, other = (_after(job, collator, before, ids[16:]) for before in (ids[:8], ids[8:16]))
        if (one - other).abs().max() <= 1e-2 * one.abs().max():
            return
    except ValueError as error:  # of transformers, for kernels without which it cannot keep them apart
        why = str(error)
    raise ModelError(
        f"{job.fitting.model.name} cannot be trained on packed rows here: {why}",
        remedy="set tune.sft.packing = false, or install flash-attn (and flash-linear-attention, causal-conv1d) on a GPU",
    )


def _after(job: _AdapterTraining, collator: Any, before: list[int], ids: list[int]) -> torch.Tensor:
    """Logits (tokens, vocabulary) of an example that stands in one row with the one before it."""
    row = {"input_ids": before + ids, "labels": before + ids, "seq_lengths": [len(before), len(ids)]}
    batch = {key: value.to(job.device) if hasattr(value, "to") else value for key, value in collator([row]).items()}
    del batch["labels"]
    training = job.model.training
    with torch.no_grad():
        logits: torch.Tensor = job.model.eval()(**batch, use_cache=False).logits[0, len(before) :].float()
    job.model.train(training)
    return logits
