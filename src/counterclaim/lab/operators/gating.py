"""The gate of a sidecar: fitted on a model's own answers, and laid around the model."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from counterclaim import stats
from counterclaim.audit.metrics import in_cohort
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import dump, write_new
from counterclaim.lab.config import ProbePlan, SidecarPlan
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.activations import Exchange
from counterclaim.lab.models.hf.detokenize import decoder_of, detokenized
from counterclaim.lab.models.hf.fingerprint import hash_of_files
from counterclaim.lab.models.hf.sites import layers_of
from counterclaim.lab.operators.reading import exchange_of, probe_features, read_for, readable, was_cut
from counterclaim.lab.probing.gates import choose_threshold, probability
from counterclaim.lab.probing.probe import fit_probe, out_of_fold
from counterclaim.records import Decode, FinishReason, Json, Message, ModelRef
from counterclaim.registry import Answer, Ask, Fitting, Labelled, Model

FILES = ("gate.json", "gate.safetensors")
_VERSION = 1


def fit(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    """Train the probe on a model's own answers, and choose its threshold on their out-of-fold confidences."""
    plan: SidecarPlan = fitting.plan
    started = time.monotonic()
    answers, labels = _labelled(fitting.answers, plan)
    with closing(open_model(fitting.model, fitting.runtime)) as opened:
        model = readable(opened)
        found = read_for(
            model,
            [exchange_of(answer) for answer in answers],
            [plan.probe],
            lambda done, total: fitting.watch("reading answers", done, total),
        )
        x = probe_features(found, plan.probe, len(layers_of(model.network)))
        base = model.ref
    y = labels[list(found.rows)]
    if fitting.placebo:
        y = np.random.default_rng([fitting.seed, 0]).permutation(y)
    fewest = int(min(y.sum(), (~y).sum()))
    if fewest < 2:
        raise InputError(
            f"{int(y.sum())} of the {len(y)} answers to learn from are {plan.probe.cohort}, so there is no threshold to choose",
            remedy="name more prompts, or ones that are neither all easy nor all hard",
        )
    folds = stats.stratified_folds(y, min(plan.probe.folds, fewest), fitting.seed)
    inner = probability(out_of_fold(plan.probe, x, y, folds, fitting.seed))
    chosen = choose_threshold(inner, y, plan.keep)
    gate: dict[str, Json] = {
        "version": _VERSION, "probe": asdict(plan.probe), "action": plan.action, "says": plan.text, "threshold": chosen.value,
        "seed": fitting.seed, "base": _base_of(base),
    }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {"labels": y.astype(np.uint8)}
    if isinstance(x, list):
        arrays |= {"x": np.concatenate(x), "counts": np.array([len(row) for row in x], np.int64)}
    else:
        arrays["x"] = x
    save_file(arrays, folder / FILES[1])
    write_new(folder / FILES[0], dump(gate), overwrite=True)
    return {
        "operator": "sidecar", "model": base.repo, "placebo": fitting.placebo, "seed": fitting.seed,
        "probe": asdict(plan.probe), "action": plan.action, "n": len(y), "n_pos": int(y.sum()),
        "n_cut": sum(was_cut(answer) is True for answer in answers), "n_unreadable": len(found.refused),
        "auc_out_of_fold": stats.delong(inner, y).to_json(), "threshold": chosen.value,
        "asymmetry_out_of_fold": chosen.asymmetry, "p_assert_correct_out_of_fold": chosen.p_assert_correct,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def _labelled(answers: Sequence[Labelled], plan: SidecarPlan) -> tuple[list[Labelled], NDArray[np.bool_]]:
    """The answers that were scored, and whether each belongs to the cohort."""
    marked = [(answer, in_cohort(answer.values, plan.probe.cohort)) for answer in answers]
    known = [(answer, bool(mark)) for answer, mark in marked if mark is not None]
    if not known:
        raise InputError(
            f"none of the {len(answers)} answers to learn from was scored for {plan.probe.cohort}",
            remedy="name a scorer that reads it, under [score] or in the sidecar's own table",
        )
    cut = sum(was_cut(answer) is True for answer, _ in known)
    if cut and plan.on_cut == "refuse":
        raise InputError(
            f"{cut} of the {len(known)} answers to learn from were cut by the token budget, so their last token is no end",
            remedy='raise decode.max_new_tokens, or read them anyway with on_cut = "read": the check endpoint will say so',
        )
    return [answer for answer, _ in known], np.array([mark for _, mark in known], bool)


def _base_of(ref: ModelRef) -> dict[str, Json]:
    """Which weights a gate was fitted on."""
    return {"repo": ref.repo, "revision": ref.revision, "adapter_hash": ref.adapter_hash}


class Gated:
    """A model behind a gate (the ``Model`` of the registry): it answers as it does, and then the gate looks at the answer.

    Args:
        model: an opened model of transformers.
        folder: what ``fit`` left.
        dose: scales the threshold.

    Raises:
        ModelError: the model cannot be read, the folder holds no gate, or one of another model.
    """

    def __init__(self, model: Model, folder: Path, dose: float) -> None:
        self._model = readable(model)
        gate, arrays = _load(folder)
        if gate["base"] != _base_of(model.ref):
            raise ModelError(
                f"the gate was fitted on {gate['base']['repo']}, not on this {model.ref.repo}",
                path=folder,
                remedy="lay it over the model that it was fitted on, or fit it again",
            )
        self._probe = ProbePlan(**gate["probe"])
        self._action, self._says = gate["action"], gate["says"]
        self._threshold = gate["threshold"] * dose
        self._ref = replace(
            model.ref, operator="sidecar", operator_hash=hash_of_files(folder / name for name in FILES),
            operator_dose=dose,
        )  # fmt: skip
        x: Any = arrays["x"]
        if "counts" in arrays:
            x = np.split(x, np.cumsum(arrays["counts"])[:-1])
        self._decision = fit_probe(self._probe, x, arrays["labels"].astype(bool), gate["seed"])

    @property
    def ref(self) -> ModelRef:
        """The model's fingerprint, with the gate's."""
        return self._ref

    @property
    def chat_template(self) -> str | None:
        """The model's own."""
        return self._model.chat_template

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """The model's answers in its own batches, hedged or asked for again where the confidence is below the threshold."""
        for batch in self._model.answer(asks, decode, done):
            yield self._gate(batch, asks, decode)

    def close(self) -> None:
        """Give back the memory of the model."""
        self._model.close()

    def _gate(self, batch: list[tuple[int, Answer]], asks: Sequence[Ask], decode: Decode) -> list[tuple[int, Answer]]:
        exchanges = [Exchange(asks[i].messages, answer.text, decode.thinking) for i, answer in batch]
        if self._threshold <= 0 or not any(each.answer for each in exchanges):
            return batch
        found = read_for(self._model, exchanges, [self._probe])
        x = probe_features(found, self._probe, len(layers_of(self._model.network)))
        low = {row for row, p in zip(found.rows, probability(self._decision(x)), strict=True) if p < self._threshold}
        if self._action == "hedge":
            return [(i, self._hedged(answer) if at in low else answer) for at, (i, answer) in enumerate(batch)]
        again = self._asked_again([(*batch[at], asks[batch[at][0]]) for at in sorted(low)], decode)
        return [(i, again.get(i, answer)) for i, answer in batch]

    def _hedged(self, answer: Answer) -> Answer:
        """The answer with the hedge in front, whose tokens count."""
        tokens = self._model.tokenizer(self._says, add_special_tokens=False)["input_ids"]
        spelt = detokenized(tokens, decoder_of(self._model.tokenizer))
        # A tokenizer that does not spell the hedge as it was written leaves its characters to the first of its tokens.
        chars = spelt.token_chars if spelt.text == self._says else [len(self._says), *[0] * (len(tokens) - 1)]
        return replace(
            answer, text=f"{self._says}{answer.text}", n_tokens=len(tokens) + (answer.n_tokens or 0),
            token_chars=None if answer.token_chars is None else (*chars, *answer.token_chars),
        )  # fmt: skip

    def _asked_again(self, low: Sequence[tuple[int, Answer, Ask]], decode: Decode) -> dict[int, Answer]:
        """What the model says when it is asked to look at its answer again."""
        asks = [
            Ask(
                f"{ask.key}/careful",
                (*ask.messages, Message("assistant", answer.text or ""), Message("user", self._says)),
                ask.sample,
            )
            for _, answer, ask in low
        ]
        if not asks:
            return {}
        try:
            again = dict(pair for batch in self._model.answer(asks, decode) for pair in batch)
        except ModelError as error:  # none of them can be asked, as where all are too long now: the other answers stand
            refused = Answer(None, FinishReason.ERROR, error=f"it could not be asked for again: {error}")
            return dict.fromkeys([i for i, _, _ in low], refused)
        return {i: again[at] for at, (i, _, _) in enumerate(low)}


def _load(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        gate = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
        arrays = load_file(folder / FILES[1])
    except (OSError, ValueError) as error:
        raise ModelError("holds no gate of a sidecar", path=folder, remedy="fit it again") from error
    if gate.get("version") != _VERSION:
        raise ModelError("holds a gate of another version", path=folder, remedy="fit it again")
    return gate, arrays
