"""Small runs of the command, one for each trainer but SAC: ``python run_cases.py NAME FOLDER`` goes on with one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from run_history import Run
from safetensors.torch import save_file

from entroreg.agents.rlvr.addition import CHARACTERS, Addition
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.benchmarks.distillation import options as distill
from entroreg.benchmarks.distillation import training as distillation
from entroreg.benchmarks.distillation.building import images_of, new_student
from entroreg.benchmarks.mil import cross_validation
from entroreg.benchmarks.mil import options as mil
from entroreg.benchmarks.mil import training as mil_training
from entroreg.benchmarks.rlvr import training as rlvr
from entroreg.benchmarks.rlvr.options import TrainRLVR
from entroreg.benchmarks.robust import options as robust
from entroreg.benchmarks.robust import training as adversarial
from entroreg.benchmarks.signals import StopFlag

Stop = Callable[[], bool]
KEEP = 99  # all checkpoints

ADDITION = Addition(1)
RLVR = TrainRLVR(
    control="dual",
    steps=5,
    digits=1,
    warm_up=0.004,
    prompts=8,
    samples=4,
    updates=2,
    learning_rate=3e-3,
    evaluate_every=3,
    checkpoint_every=1,
    keep=KEEP,
    threads=1,
)
MIL = mil.TrainMIL(
    mil.DataOptions(Path("bags.csv"), standardize=True),  # beside the run's folder
    mil.ModelOptions(hidden=3, dropout=0.2),
    mil.AEMOptions(aem=0.1, aem_schedule="dual", aem_learning_rate=0.1),
    mil.FitOptions(epochs=12, bags_per_step=4, learning_rate=0.03, weight_decay=0.1, patience=3),
    mil.CrossValidationOptions(
        folds=2, threads=1, device="cpu", checkpoint_every=1, keep=KEEP, validation_share=0.3, seed=1
    ),
)
STUDENT = distill.StudentOptions("mtard", "strided-conv", 2, "bars")
DISTILLATION = distill.TrainDistill(
    STUDENT,
    distill.TeacherOptions(  # beside the run's folder
        (Path("clean.safetensors"), Path("robust.safetensors")), entropy_balance="sign", entropy_rate=0.1
    ),
    distill.AttackOptions(attack_steps=2, warm_up=0.5, tests=("fgsm", "pgd"), test_images=8),
    distill.FitOptions(3, 16, "sgd", 0.05, weight_decay=0.01, milestones=(2,), log_every=3),
    distill.RunOptions(seed=1, threads=1, device="cpu", checkpoint_every=1, keep=KEEP),
)
FLOOR = 3.0  # the curriculum moves and is held back
QARL = robust.TrainQARL(
    robust.RunOptions(
        "InvertedPendulum-v5", steps=400, seed=2, eval_episodes=1, checkpoint_every=1, keep=KEEP, device="cpu"
    ),
    robust.PlayerOptions(
        learning_rate=1e-2, batch_size=8, buffer_size=90, learning_starts=30, train_freq=2, net=(4,), episodes=4
    ),
    robust.AdversaryOptions(force=2.0),
    robust.CurriculumOptions(return_floor=FLOOR),
)


def small_policy(_task: Addition, seed: int) -> CharTransformer:
    """Return a transformer of 1,300 parameters."""
    context = ADDITION.prompt_length + ADDITION.answer_length - 1
    torch.manual_seed(seed)
    return CharTransformer(len(CHARACTERS), context, width=8, layers=1, heads=2)


def first_images(options: distill.StudentOptions, part: str) -> Any:
    """Return 64 images."""
    return images_of(options, part).first(64)


def beside(options: distill.TrainDistill, folder: Path) -> distill.TrainDistill:
    """Return options whose teachers lie beside a run's folder."""
    teachers = tuple(folder.parent / path for path in options.teaching.teachers)
    return replace(options, teaching=replace(options.teaching, teachers=teachers))


def rlvr_run(options: TrainRLVR = RLVR) -> Run:
    """Return a run with verifiable rewards: 25 batches of warm-up, then rollouts."""
    return _run("rlvr", partial(_train_rlvr, options), ("metrics.jsonl",))


def mil_run(options: mil.TrainMIL = MIL) -> Run:
    """Return a cross-validation of two folds."""
    folds = (f"checkpoints/fold-{fold}" for fold in range(options.run.folds))
    return _run("mil", partial(_train_mil, options), ("metrics.jsonl", "predictions.csv", "splits.json", *folds))


def distillation_run(options: distill.TrainDistill = DISTILLATION) -> Run:
    """Return a student's training with two teachers, and two attacks after it."""
    files = ("metrics.jsonl", "student.safetensors")
    return _run("distillation", partial(_train_distillation, options), files)


def qarl_run(options: robust.TrainQARL = QARL) -> Run:
    """Return an adversarial training whose memories come round."""
    return _run("qarl", partial(_train_qarl, options), ("metrics.jsonl",))


def write_data(folder: Path) -> None:
    """Write the bags and the teachers, beside which the folders of runs are to be."""
    rng = np.random.default_rng(0)
    lines = [
        ",".join(map(str, [bag % 2, bag, *rng.normal(size=3) + (bag % 2) * (instance == 0)]))
        for bag in range(24)
        for instance in range(3)
    ]
    (folder / "bags.csv").write_text("\n".join(lines) + "\n")
    for seed, path in enumerate(DISTILLATION.teaching.teachers):
        save_file(new_student(STUDENT, first_images(STUDENT, "train"), seed + 7).state_dict(), folder / path)


def _run(name: str, train: Callable[[Path, bool, Stop], bool], files: tuple[str, ...]) -> Run:
    return Run(name, (str(Path(__file__)), name), train, files)


def _train_rlvr(options: TrainRLVR, folder: Path, resume: bool, stop: Stop) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlvr, "new_policy", small_policy)
        patch.setattr(rlvr, "FINAL_PROBLEMS", 16)
        patch.setattr(rlvr, "_WARM_UP_SAVES", 10)
        for name in ("plot_controls", "plot_entropy_monitor"):
            patch.setattr(rlvr, name, lambda *_: None)
        return rlvr.train(replace(options, resume=resume), folder, stop) is not None


def _train_mil(options: mil.TrainMIL, folder: Path, resume: bool, stop: Stop) -> bool:
    data = replace(options.data, features=folder.parent / options.data.features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "plot_folds", lambda *_: None)
        asked = replace(options, data=data, run=replace(options.run, resume=resume))
        return mil_training.train(asked, folder, stop) is not None


def _train_distillation(options: distill.TrainDistill, folder: Path, resume: bool, stop: Stop) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "images_of", first_images)
        patch.setattr(distillation, "plot_rows", lambda *_: None)
        asked = replace(beside(options, folder), run=replace(options.run, resume=resume))
        return distillation.train(asked, folder, stop) is not None


def _train_qarl(options: robust.TrainQARL, folder: Path, resume: bool, stop: Stop) -> bool:
    asked = replace(options, run=replace(options.run, resume=resume))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the curriculum has not moved")
        patch.setattr(adversarial, "plot_curriculum", lambda *_: None)
        return adversarial.train(asked, folder, cast(StopFlag, stop)) is not None


RUNS = {run.name: run for run in (rlvr_run(), mil_run(), distillation_run(), qarl_run())}

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(not RUNS[sys.argv[1]].train(Path(sys.argv[2]), True, lambda: False))
