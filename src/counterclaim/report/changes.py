"""What was done in each arm of a study of one's own, in a phrase, from what the study wrote down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from counterclaim.audit.metrics import COHORT_WORDS


def describe_arms(arms: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """(arm, what was done in it): the control's model and settings, then what differs from them."""
    if not arms:
        return ()
    control = {**arms[0]["decode"], **arms[0]["model"]}
    treated = next((arm.get("change") for arm in arms if arm["arm"] == "treated"), None)
    out = [(arms[0]["arm"], ", ".join([control["name"], *_settings(control, {})]))]
    for arm in arms[1:]:
        settings = {**arm["decode"], **arm["model"]}
        changed = _settings(settings, control)
        if settings["name"] != control["name"]:
            out.append((arm["arm"], ", ".join([settings["name"], *changed])))
            continue
        if change := arm.get("change"):
            dose = f", dose {arm['dose']:g}" if change["operator"] != "tune" else ""
            again = dose and arm["arm"] != "treated" and change == treated
            changed.insert(0, ("what was done to treated" if again else describe_change(change)) + dose)
        out.append((arm["arm"], f"the same with {', '.join(changed)}"))
    return tuple(out)


def _settings(settings: Mapping[str, Any], control: Mapping[str, Any]) -> list[str]:
    """What is set otherwise than in the control, and what is not set that the control has."""
    changed = [
        f"{key.replace('_', ' ')} {_quoted(value)}"
        for key, value in settings.items()
        if key != "name" and control.get(key) != value
    ]
    return changed + [f"no {key.replace('_', ' ')}" for key in control if key not in settings]


def _quoted(value: Any) -> str:
    return f"“{value}”" if isinstance(value, str) and " " in value else str(value)


def describe_change(change: Mapping[str, Any]) -> str:
    """What an operator does to a model, in a phrase, from what ``change_json`` spelt."""
    return _describe_training(change) if change["operator"] == "tune" else _describe_edit(change)


def _describe_training(change: Mapping[str, Any]) -> str:
    """How an arm is trained, in a phrase, from what ``tune_json`` spelt."""
    lora = change["lora"]
    rank, targets = (lora["r"], lora["target_modules"]) if "r" in lora else (lora["rank"], lora["targets"])
    seeds, kinds = len(change["seeds"]), len(targets)
    adapters = f"{seeds} adapter{'s' if seeds > 1 else ''} of rank {rank}"
    modules = f"{kinds} kind{'s' if kinds > 1 else ''} of modules"
    # folders of earlier versions list the stages, and have other names for some settings
    found = change.get("stages") or [change[method] for method in ("sft", "dpo", "grpo") if change.get(method)]
    stages = [_describe_stage(stage) for stage in found]
    data = f" on {Path(change['data']).name}" if change.get("data") else ""
    if change.get("placebo"):
        data = f"{data}, shuffled" if data else " on shuffled data"
    return f"{adapters} on {modules}, trained by {', then '.join(stages)}{data}"


def _describe_stage(stage: Mapping[str, Any]) -> str:
    method = "GRPO" if "reward" in stage else "SFT" if "loss_on" in stage else "DPO"
    steps, epochs = (
        stage.get(new, stage.get(old)) for new, old in (("max_steps", "steps"), ("num_train_epochs", "epochs"))
    )
    size = f"{steps} steps" if steps else f"{epochs:g} epochs"
    return f"{method} ({size}, reward {stage['reward']})" if "reward" in stage else f"{method} ({size})"


def _describe_edit(change: Mapping[str, Any]) -> str:
    """How an edit changes a model, in a phrase, from what ``change_json`` spelt."""
    fits = f"{len(change['seeds'])} fits of " if len(change["seeds"]) > 1 else ""
    placebo = change.get("placebo", False)
    match change["operator"]:
        case "temper":
            if placebo:
                return f"{fits}{len(change['heads']) or change['top']} random heads tempered"
            if change["heads"]:
                return f"{fits}{', '.join(f'layer {layer} head {head}' for layer, head in change['heads'])} tempered"
            cohort, against = (COHORT_WORDS.get(change[side], change[side]) for side in ("cohort", "against"))
            return f"{fits}{change['top']} heads tempered, chosen by {change['rank_by']} in answers {cohort} against {against}"
        case "steer":
            layers = ", ".join(map(str, change["layers"]))
            where = f"layer {layers}" if layers else "the middle layer"
            does = {"add": "added", "ablate": "ablated", "project": "projected onto"}[change["kind"]]
            if placebo:
                return f"{fits}random {'direction' if change['kind'] == 'add' else 'subspace'} {does} at {change['site']}, {where}"
            to, away = change.get("contrast") or (change["toward"], change["away"])
            return f"{fits}direction from “{away}” to “{to}” {does} at {change['site']}, {where}"
        case "sidecar":
            probe = change["probe"]
            layer = "the last state" if probe["layer"] == "last" else f"layer {probe['layer']}"
            at = {"last": "last token", "mean": "mean of tokens", "prompt-end": "end of prompt"}[probe["position"]]
            shuffled = ", trained on shuffled labels," if placebo else ""
            return (
                f"{fits}{'hedged' if change['action'] == 'hedge' else 'asked again'} where a {probe['classifier']} probe for "
                f"{probe['cohort']} on {layer}, {at}{shuffled or ','} has little confidence"
            )
        case other:
            return f"{fits}{other} of a plug-in{', placebo' if placebo else ''}"
