"""Command lines whose words are wrong: typos, what is missing, what contradicts itself, what does not fit."""

from __future__ import annotations

from collections.abc import Iterator

from cases import Case
from command_walk import verbs
from good_ground import LINES, RUNS, TRAININGS

_SAC, _QARL, _MIL, _DISTILL, _RLVR = (TRAININGS[kind] for kind in ("sac", "qarl", "mil", "distill", "rlvr"))
_NO_VERBS = (
    *("", "trane", "train sacc", "train", "bench", "data", "mil", "bench runn sac", "bench run", "eval", "resume"),
    *("compare", "compare goods/summaries", "report", "data fetch", "data bags", "data bags mnist --out out", "-x"),
    *(
        "mil heatmap goods/slide.png",
        "mil features",
        "train sac",
        "train qarl",
        "train mil",
        "train distill",
        "--train",
    ),
    *(
        "train sac Pendulum-v1",
        "list all",
        "check everything",
        "list list",
        "--json list",
        "eval a b",
        "resume a b",
    ),
    *("compare a b c", "report a b", "bench list sac", "data list mnist", "train sac train rlvr", "EVAL x", "help"),
)
_CONTRADICTIONS = (
    f"{_SAC} --overwrite --resume",
    f"{_SAC} --population",
    f"{_SAC} --seeds 3",
    f"{_SAC} --population --seeds 2 --seed 2147483647",
    f"{_SAC} --train-freq 21",
    f"{_SAC} --alpha-minimum 2 --alpha-maximum 1",
    f"{_SAC} --ent-coef 0.1 --target-entropy-end -1",
    f"{_SAC} --ent-coef auto_5 --alpha-maximum 1",
    f"{_SAC} --hyperparameters tuned --env Reacher-v5",
    f"{TRAININGS['discrete-sac']} --population --seeds 2",
    f"{_QARL} --overwrite --resume",
    f"{_RLVR} --overwrite --resume",
    f"{_RLVR} --updates 3",
    f"{_RLVR} --digits 10",
    f"{_MIL} --overwrite --resume",
    f"{_MIL} --labels goods/labels.csv",
    f"{_MIL} --by patient",
    f"{_MIL} --patience 3",
    f"{_MIL} --model mean --aem 0.1",
    f"{_MIL} --model max --aem 0.1",
    f"{_MIL} --model dsmil --chunk-size 10",
    f"{_MIL} --aem-schedule dual",
    f"{_MIL} --aem 0.1 --aem-top-k 2 --aem-normalize log_n",
    f"{_MIL} --sampled-bag-size 2 --instance-share 0.5",
    f"{_MIL} --model multi-head --hidden 5 --heads 2",
    f"{_MIL} --folds 5",
    f"{_DISTILL} --overwrite --resume",
    f"{_DISTILL} --teachers goods/runs/distill",
    f"{_DISTILL} --method ard",
    f"{_DISTILL} --method mtard --teachers goods/empty",
    f"{_DISTILL} --method mtard --teachers goods/empty goods/noise --views clean",
    f"{_DISTILL} --method mtard --teachers goods/empty goods/noise goods/empty",
    f"{_DISTILL} --method ard --teachers goods/noise",
    f"{_DISTILL} --method ard --teachers nowhere.pt",
    f"{_DISTILL} --method ard --teachers goods/runs/sac",
    f"{_DISTILL} --student resnet18",
    f"eval {RUNS['sac']} --heatmap",
    f"eval {RUNS['sac']} --slides s1",
    f"eval {RUNS['sac']} --force 1",
    f"eval {RUNS['sac']} --robust rrls-2",
    f"eval {RUNS['mil']} --robust rrls-2",
    f"eval {RUNS['mil']} --heatmap",
    f"eval {RUNS['slides']} --heatmap --slides nobody",
    f"eval {RUNS['qarl']} --force 1",
    f"eval {RUNS['qarl']} --robust rrls-9",
    f"eval {RUNS['qarl']} --robust rrls-2 --adversary-steps 3",
    "bench run all --task a",
    "bench run all --seed 1",
    "bench run sac --task nowhere",
    "bench run sac --method nobody --out out",
    "bench run sac --task CartPole-v1 --method entroreg-sac --out out",
    "bench run mil-speed --jobs 2 --out out",
    "bench run overhead --gpus 1",
    "bench run overhead --address auto",
    "bench run overhead --partition a",
    "bench run overhead --minutes 3",
    "bench run overhead --executor ray --minutes 3",
    "bench run overhead --executor slurm --address auto",
    "bench run overhead --executor slurm --out out",
    "bench run overhead --executor slurm --gpus 0.5 --out out",
    "bench run sac --preset paper --out goods/bench",
    "bench run json.decoder --out out",
    "compare goods/summaries goods/empty-folder",
    "compare goods/empty-folder goods/summaries",
    "report goods/empty-folder",
    "report goods/slides",
    "resume goods/empty-folder",
    "resume goods/slides",
    f"resume {RUNS['sac']} --jobs 0",
    f"resume {RUNS['sac']} --executor slurm --address auto",
    "data bags fashion-mnist --out goods/empty",
    "data bags fashion-mnist --out out --instances 5 4",
    "data bags fashion-mnist --out out --instances 1 2 3",
    "data bags fashion-mnist --out out --instances 70000",
    "data mnist-bags --out goods/bags.csv",
    f"mil heatmap goods/slide.png --run {RUNS['sac']}",
    f"mil heatmap goods/slide.png --run {RUNS['mil']} --fold 7",
    "mil heatmap goods/slide.png --run goods",
    "mil tiles goods/slide.png --out out",
    "mil tiles goods/slide.png --slide-mpp 0.5 --tile 4096 --out out --min-tissue 1",
)
_TOO_LARGE = (
    f"{_SAC} --steps 1000000000000 --buffer-size 1000000000000",
    f"{_SAC} --net 1000000 1000000",
    f"{_SAC} --net 300000 300000",
    f"{_SAC} --batch-size 1000000000000",
    f"{_SAC} --batch-size 1000000000",
    f"{TRAININGS['discrete-sac']} --steps 100000000000 --buffer-size 100000000000",
    f"{TRAININGS['discrete-sac']} --net 500000 500000",
    f"{_SAC} --population --seeds 1024 --steps 10000000 --buffer-size 10000000",
    f"{_QARL} --steps 1000000000000 --buffer-size 1000000000000",
    f"{_QARL} --net 1000000 1000000",
    f"{_QARL} --batch-size 1000000000000",
    f"{_MIL} --model multi-head --hidden 1000000 --heads 1000000",
    f"{_DISTILL} --width 1000000",
    f"{_RLVR} --prompts 1000000 --samples 1000000",
    f"{_RLVR} --prompts 1000000 --samples 1000",
    f"eval {RUNS['rlvr']} --episodes 1000000",
)


def word_cases() -> Iterator[Case]:
    """Yield the lines that are written down here, and for every flag a slip of the finger and a missing value."""
    for about, lines in (("no such verb", _NO_VERBS), ("contradiction", _CONTRADICTIONS), ("memory", _TOO_LARGE)):
        for line in lines:
            yield Case(_verb_of(line), about, tuple(line.split()))
    for verb, flags in verbs().items():
        words = tuple(LINES[verb].split())
        for flag in flags:
            if flag.positional:
                continue
            (word,) = flag.words
            middle = len(word) // 2
            yield Case(verb, "typo", (*words, word[:middle] + word[middle + 1 :] + "x", "1"))
            if flag.kinds != {bool} and not flag.many:
                yield Case(verb, "missing value", (*words, word))


def _verb_of(line: str) -> str:
    return next((verb for verb in verbs() if line.startswith(f"{verb} ")), "none")
