"""Training an adapter stage by stage, with the trainers of TRL: resumable, repeatable, and stopped where it breaks."""

from __future__ import annotations

import json
import logging
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging
from trl.chat_template_utils import get_training_chat_template
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from counterclaim import store
from counterclaim.errors import InputError, ModelError
from counterclaim.models import open_model
from counterclaim.models.hf.devices import is_out_of_memory
from counterclaim.models.hf.fingerprint import adapter_hash
from counterclaim.operators.rewards import Scorer, conversations
from counterclaim.operators.tokens import rows_of
from counterclaim.records import Decode, Example, FinishReason, Json, Message, Prompt
from counterclaim.registry import Answer, Ask, Fitting, Watch, reward_named
from counterclaim.spec import Dpo, Grpo, Lora, Sft, Stage, TunePlan

_SMALL = 20_000_000  # parameters below which a second thread costs more than it gives
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

Log = dict[str, list[float]]


def fit(fitting: Fitting, folder: Path) -> dict[str, Json]:
    """Train an adapter stage by stage.

    A folder that an earlier attempt left when it was killed is gone on with from its last checkpoint, and ends with the
    adapter of an attempt that was not killed.

    Args:
        fitting: model, plan (``TunePlan``), seed and what is learnt from.
        folder: where; afterwards it holds the adapter and nothing else.

    Returns:
        the card (of the first process; others return nothing): stages with their settings and logs, trainable parameters, hash of the adapter, seconds, notes.

    Raises:
        ModelError: the model cannot be trained, memory is too small, or a loss is no number.
        InputError: there is nothing to learn from.
    """
    plan: TunePlan = fitting.plan
    started = time.monotonic()
    place = PartialState()
    runtime = fitting.runtime if place.num_processes == 1 else replace(fitting.runtime, device="cpu")
    with closing(open_model(fitting.model, runtime)) as opened, _steady(fitting, opened) as notes:
        job = _Job(fitting, opened, folder, notes)
        stages = [job.run(number, stage) for number, stage in enumerate(plan.stages)]
        parameters = sum(value.numel() for value in job.model.parameters() if value.requires_grad)
        base = opened.ref
    if place.is_main_process:
        store.keep_at_top(folder, folder / f"stage-{len(stages) - 1}", _ADAPTER)
    place.wait_for_everyone()
    if not place.is_main_process:
        return {}
    return {
        "operator": "tune", "recipe": plan.recipe, "seed": fitting.seed, "placebo": fitting.placebo,
        "model": fitting.model.name, "base": base.revision, "lora": _lora_json(plan.lora), "parameters": parameters,
        "adapter_hash": adapter_hash(folder), "seconds": round(time.monotonic() - started, 1), "stages": stages,
        "processes": place.num_processes, "notes": notes,
        "libraries": {name: version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate")},
    }  # fmt: skip


class _Job:
    """One adapter in the making: the model with the adapter of the last stage over it."""

    def __init__(self, fitting: Fitting, opened: Any, folder: Path, notes: list[str]) -> None:
        if not hasattr(opened, "network"):
            raise ModelError(
                f"{fitting.model.name} cannot be trained: its weights are not here",
                remedy="name a model of transformers: a folder, a repository, or tiny:NAME",
            )
        self.fitting = fitting
        self.plan: TunePlan = fitting.plan
        self.folder = folder
        self.notes = notes
        self.opened = opened
        self.base = opened.network
        self.tokenizer = opened.tokenizer
        self.device = opened.device
        self.template = _marking_template(self.tokenizer, self.plan)
        self.model: Any = None

    def run(self, number: int, stage: Sft | Dpo | Grpo) -> dict[str, Json]:
        """Train one stage, or take over what an earlier attempt finished of it; its settings and log."""
        done = self.folder / f"stage-{number}"
        record = done / "stage.json"
        self._lay(number)
        if record.is_file():
            kept: dict[str, Json] = json.loads(record.read_text(encoding="utf-8"))
            return kept
        work = self.folder / f"work-{number}"
        with ExitStack() as tools:
            return self._train(_TRAINERS[type(stage)](self, stage, work, tools), number, stage, work, done)

    def _train(self, trainer: Any, number: int, stage: Sft | Dpo | Grpo, work: Path, done: Path) -> dict[str, Json]:
        method = type(stage).__name__.lower()
        watched = _Watched(self.fitting.watch, method, len(self.fitting.plan.stages), number)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watched)
        find: Any = get_last_checkpoint
        last = find(str(work)) if work.is_dir() else None
        began = time.monotonic()
        try:
            trainer.train(resume_from_checkpoint=last)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"the memory of {self.device} is too small for {method} with {stage.batch_size} rows at once",
                remedy=f"lower tune.{method}.batch_size (rows per step stay the same), "
                f"{'tune.grpo.max_new_tokens' if isinstance(stage, Grpo) else f'tune.{method}.max_length'} or tune.lora.rank, "
                'set tune.gradient_checkpointing = true, or load the model with quantisation = "4bit"',
            ) from error
        state = trainer.state
        told: dict[str, Json] = {
            "method": method, "steps": state.global_step, "settings": _settings(stage), "log": _log_of(state.log_history),
            "seconds": round(time.monotonic() - began, 1), "resumed_at": None if last is None else Path(last).name,
        }  # fmt: skip
        self._settle(trainer, done, told)
        if PartialState().is_main_process:
            store.remove_folder(work)
        return told

    def _lay(self, number: int) -> None:
        """Lay the adapter of the stage before over the base, a new one for the first; always from the disk or the seed, so
        that a resumed attempt begins where the first one did."""
        if self.model is not None:
            self.base = self.model.unload()
        if number:
            self.model = PeftModel.from_pretrained(
                self.base, str(self.folder / f"stage-{number - 1}"), is_trainable=True, torch_device=str(self.device)
            )
            return
        torch.manual_seed(self.fitting.seed)
        self.model = get_peft_model(self.base, _lora_config(self.base, self.plan.lora, self.fitting.model.name))

    def _settle(self, trainer: Any, done: Path, told: Mapping[str, Json]) -> None:
        """Write the stage's adapter, its record last: with it, the stage counts as finished."""
        state = PartialState()
        state.wait_for_everyone()
        weights = trainer.accelerator.get_state_dict(trainer.model)
        if state.is_main_process:
            model = trainer.accelerator.unwrap_model(trainer.model)
            model.save_pretrained(str(done), selected_adapters=["default"], state_dict=weights)
            self._say_plainly(done / "adapter_config.json")
            store.write_new(done / "stage.json", store.dump(dict(told)), overwrite=True)
        state.wait_for_everyone()

    def _say_plainly(self, file: Path) -> None:
        """The adapter's settings with the model's own name, and in one order, so that equal adapters have equal hashes."""
        said = json.loads(file.read_text(encoding="utf-8"))
        said["base_model_name_or_path"] = self.fitting.model.name
        said["target_modules"] = sorted(said["target_modules"])
        store.write_new(file, store.dump(dict(sorted(said.items()))), overwrite=True)


def _arguments(job: _Job, stage: Stage, work: Path, **more: Any) -> dict[str, Any]:
    """What the three trainers take alike."""
    processes = PartialState().num_processes
    on_gpu = torch.device(job.device).type == "cuda" or (processes > 1 and torch.cuda.is_available())
    per_step = stage.batch_size * processes
    if stage.effective_batch % per_step:
        raise InputError(
            f"{stage.effective_batch} rows per step cannot be made of {stage.batch_size} at once on {processes} processes",
            remedy="make effective_batch a multiple of batch_size times the number of processes",
        )
    optimiser = {"adamw": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit", "apollo-mini": "adamw_torch"}
    return {
        "output_dir": str(work),
        "learning_rate": stage.learning_rate,
        "num_train_epochs": stage.epochs,
        "max_steps": -1 if stage.steps is None else stage.steps,
        "per_device_train_batch_size": stage.batch_size,
        "gradient_accumulation_steps": stage.effective_batch // per_step,
        "lr_scheduler_type": stage.schedule,
        "warmup_steps": stage.warmup,
        "optim": optimiser[stage.optimiser],
        "weight_decay": stage.weight_decay,
        "max_grad_norm": stage.clip,
        "seed": job.fitting.seed,
        "data_seed": job.fitting.seed,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and job.base.dtype == torch.bfloat16,
        "gradient_checkpointing": job.plan.gradient_checkpointing,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": stage.checkpoint_every,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        **more,
    }


def _sft(job: _Job, stage: Sft, work: Path, tools: ExitStack) -> Any:
    examples = list(job.fitting.examples)
    if not examples:
        raise InputError("there are no examples to learn from", remedy="name a training set under tune.data")
    if job.fitting.placebo:
        examples = _exchanged(examples, job.fitting.seed)
    rows, left_out = rows_of(examples, job.tokenizer, stage, job.template)
    if left_out:
        job.notes.append(
            f"sft left out {left_out} of {len(examples)} examples: longer than {stage.max_length} tokens, or nothing in them is learnt"
        )
    data = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    settings = SFTConfig(**_arguments(job, stage, work, max_length=stage.max_length, packing=stage.packing))
    return SFTTrainer(job.model, settings, train_dataset=data, processing_class=job.tokenizer)


def _dpo(job: _Job, stage: Dpo, work: Path, tools: ExitStack) -> Any:
    pairs = [example for example in job.fitting.examples if example.rejected is not None]
    if not pairs:
        raise InputError(
            f"none of the {len(job.fitting.examples)} examples is a preference pair, so there is nothing for dpo to learn",
            remedy='make pairs (products = ["counter"] in the pipeline file), or leave tune.dpo out',
        )
    if job.fitting.placebo:
        toss = random.Random(f"placebo {job.fitting.seed}")
        pairs = [
            replace(pair, chosen=pair.rejected, rejected=pair.chosen) if pair.rejected and toss.random() < 0.5 else pair
            for pair in pairs
        ]
    data = Dataset.from_list(
        [
            {
                "prompt": _turns(pair.prompt),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
            for pair in pairs
        ]
    )
    settings = DPOConfig(**_arguments(job, stage, work, beta=stage.beta, max_length=stage.max_length))
    return DPOTrainer(job.model, args=settings, train_dataset=data, processing_class=job.tokenizer)


def _grpo(job: _Job, stage: Grpo, work: Path, tools: ExitStack) -> Any:
    prompts = list(job.fitting.prompts)
    if not prompts:
        raise InputError("there are no prompts to learn from", remedy="name them under tune.grpo.prompts")
    if stage.effective_batch % stage.generations:
        raise InputError(
            f"{stage.effective_batch} rows per step hold no whole number of groups of {stage.generations} answers",
            remedy="make tune.grpo.effective_batch a multiple of tune.grpo.generations",
        )
    if (said := reward_named(stage.reward).follow_up) is not None:
        prompts = conversations(prompts, _own_answers(job, stage, prompts), said)
    head = [] if stage.system_prompt is None else [{"role": "system", "content": stage.system_prompt}]
    data = Dataset.from_list(
        [{"prompt": [*head, *_turns(prompt.messages)], "prompt_id": prompt.id} for prompt in prompts]
    )
    settings = GRPOConfig(
        **_arguments(
            job, stage, work, num_generations=stage.generations, temperature=stage.temperature, beta=stage.beta,
            scale_rewards=stage.scale,
            max_completion_length=stage.max_new_tokens,
        )
    )  # fmt: skip
    scorer = tools.enter_context(Scorer(reward_named(stage.reward), stage.oracle, prompts))
    reward: Any = _Rewarded(job, stage, scorer)
    job.tokenizer.padding_side = "left"
    trainer = GRPOTrainer(
        job.model, reward_funcs=reward, args=settings, train_dataset=data, processing_class=job.tokenizer
    )
    reward.ends = frozenset(trainer.eos_token_ids)
    return trainer


def _own_answers(job: _Job, stage: Grpo, prompts: Sequence[Prompt]) -> list[Answer]:
    """What the untrained model says to the prompts, greedily."""
    head = () if stage.system_prompt is None else (Message("system", stage.system_prompt),)
    asks = [Ask(prompt.id, (*head, *prompt.messages)) for prompt in prompts]
    made = [Answer(None, FinishReason.ERROR, error="no answer was given")] * len(asks)
    with job.model.disable_adapter():
        for batch in job.opened.answer(asks, Decode(stage.max_new_tokens)):
            for at, answer in batch:
                made[at] = answer
    return made


_TRAINERS: Mapping[type, Callable[[_Job, Any, Path, ExitStack], Any]] = {Sft: _sft, Dpo: _dpo, Grpo: _grpo}


class _Rewarded:
    """A registered reward as TRL calls one.

    Attributes:
        ends: ids of tokens that end an answer; one that does not end was cut.
    """

    def __init__(self, job: _Job, stage: Grpo, scorer: Scorer) -> None:
        self.__name__ = stage.reward
        self.ends: frozenset[int] = frozenset()
        self._scorer = scorer
        self._group = stage.generations
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
            rewards = _exchanged_rewards(rewards, self._group, f"{self._seed} {trainer_state.global_step}")
        return rewards


def _exchanged(examples: list[Example], seed: int) -> list[Example]:
    """Every prompt with the answer to another: the same texts, and nothing that joins them."""
    order = list(range(len(examples)))
    random.Random(f"placebo {seed}").shuffle(order)
    after = dict(zip(order, [*order[1:], order[0]], strict=True))  # one cycle: nobody keeps his own
    return [replace(example, chosen=examples[after[at]].chosen, rejected=None) for at, example in enumerate(examples)]


def _exchanged_rewards(rewards: list[float], group: int, seed: str) -> list[float]:
    """Rewards shuffled within each group of answers to one prompt."""
    draw = random.Random(f"placebo {seed}")
    out: list[float] = []
    for start in range(0, len(rewards), group):
        part = rewards[start : start + group]
        draw.shuffle(part)
        out += part
    return out


def _turns(messages: Sequence[Any]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _marking_template(tokenizer: Any, plan: TunePlan) -> str | None:
    """A chat template that marks the assistant's turns, where a stage needs one and the tokenizer's own does not."""
    if not any(isinstance(stage, Sft) and stage.loss_on == "assistant" for stage in plan.stages):
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
    if missing := [target for target in lora.targets if target not in present]:
        raise ModelError(
            f"{name} has no modules {', '.join(missing)}",
            remedy=f"name others in tune.lora.targets, such as {', '.join(sorted(part for part in present if part.endswith('_proj'))[:8])}",
        )
    config: Any = LoraConfig  # it scales by any number, and its annotation says whole ones only
    return config(
        r=lora.rank, lora_alpha=lora.alpha, use_rslora=lora.rslora, lora_dropout=lora.dropout,
        target_modules=list(lora.targets), task_type="CAUSAL_LM",
    )  # fmt: skip


class _Watched(TrainerCallback):
    """Tells how far training is, and ends it when a loss or a gradient is no number any more."""

    def __init__(self, watch: Watch, method: str, stages: int, number: int) -> None:
        self._watch = watch
        self._name = method if stages == 1 else f"{method} ({number + 1} of {stages})"

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        for what in ("loss", "grad_norm"):
            value = (logs or {}).get(what)
            if value is not None and not math.isfinite(value):
                kept = state.global_step - state.global_step % max(state.save_steps, 1)
                if kept == state.global_step:
                    kept -= state.save_steps
                saved = f"the checkpoint of step {kept} is kept" if kept > 0 else "no checkpoint had been written"
                raise ModelError(
                    f"{self._name} broke at step {state.global_step} of {state.max_steps}: its {_WORDS[what]} is no number ({value}); {saved}",
                    remedy="lower the learning_rate, raise warmup, or train in another dtype; begin anew in another --out",
                )
        if (logs or {}).get("loss") is not None:
            self._watch(f"{self._name} (loss {logs['loss']:.3g})", state.global_step, state.max_steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._watch(self._name, state.global_step, state.max_steps)


_WORDS = {"loss": "loss", "grad_norm": "gradient"}


def _settings(stage: Stage) -> dict[str, Json]:
    """The settings of a stage, as the card says them."""
    out: dict[str, Json] = {}
    for item in fields(stage):
        value = getattr(stage, item.name)
        out[item.name] = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return out


def _lora_json(lora: Lora) -> dict[str, Json]:
    return {**asdict(lora), "targets": list(lora.targets)}


def _log_of(history: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """What was logged at every step, by name, as lists of one length."""
    rows = [row for row in history if "loss" in row]
    names = {
        "loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm", "reward": "reward", "reward_std": "reward_std",
        "kl": "kl", "completions/clipped_ratio": "cut", "rewards/accuracies": "preferred", "rewards/margins": "preference_margin",
        "accuracy": "accuracy", "assertion_rate": "assertion_rate", "assertion_asymmetry": "assertion_asymmetry",
    }  # fmt: skip
    out: dict[str, list[float | None]] = {"step": [row["step"] for row in rows]}
    for name, short in names.items():
        if any(name in row for row in rows):
            out[short] = [row.get(name) for row in rows]
    return out


@contextmanager
def _steady(fitting: Fitting, opened: Any) -> Iterator[list[str]]:
    """Random numbers, threads and voices as training wants them; the caller's own are put back."""
    threads = torch.get_num_threads()
    chatter: Any = transformers_logging
    level, bars = chatter.get_verbosity(), is_progress_bar_enabled()
    weights = sum(value.numel() for value in opened.network.parameters()) if hasattr(opened, "network") else 0
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("trl").setLevel(logging.ERROR)
        chatter.set_verbosity_error()
        disable_progress_bar()
        if weights < _SMALL and str(opened.device) == "cpu":
            torch.set_num_threads(1)
        try:
            yield []
        finally:
            torch.set_num_threads(threads)
            chatter.set_verbosity(level)
            if bars:
                enable_progress_bar()
