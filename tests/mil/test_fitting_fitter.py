"""The fit: its maths, its exact continuation, its selection, and what stops it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from entroreg import Dual, EntropyRegularizer, Fixed, Scheduled, checkpoint
from entroreg.guards import EntropyCollapseWarning
from entroreg.schedules import CosineSchedule
from entroreg.state_tree import join_state, split_state
from entroreg.vision.mil import (
    ABMIL,
    ACMIL,
    MODELS,
    AttentionEntropy,
    BagsInMemory,
    DataError,
    MeanPooling,
    MILModel,
    MILOutput,
    pack,
)
from entroreg.vision.mil.fitting import FitSettings, Fitter, evaluating, planned_steps, predict
from entroreg.vision.mil.fitting.selection import Selection

TRAIN, VALIDATION = range(24), range(24, 36)


def dataset(classes: int = 2, dtype: torch.dtype = torch.float32, shift: float = 2.0) -> BagsInMemory:
    """36 bags; in a bag of class c, one instance has feature c shifted."""
    generator = torch.Generator().manual_seed(0)
    bags, labels = [], []
    for index in range(36):
        bag = torch.randn(2 + index % 7, 5, generator=generator)
        bag[0, index % classes] += shift
        bags.append(bag.to(dtype))
        labels.append(index % classes)
    return BagsInMemory(bags, labels, classes=tuple("abc"[:classes]))


def new_model(name: str = "abmil", classes: int = 2, dropout: float = 0.0) -> MILModel:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        if name == "acmil":  # without its random masks, which are drawn batch by batch
            return ACMIL(5, classes, hidden=8, dropout=dropout, masked_top=0)
        return MODELS[name](5, classes, hidden=8, dropout=dropout)


def aem(controller: Any = None) -> AttentionEntropy:
    return AttentionEntropy(EntropyRegularizer(controller or Fixed(0.1), sign="maximize"), normalize="log_n")


def fitted(fitter: Fitter) -> list[dict[str, Any]]:
    rows = []
    while not fitter.done:
        row = fitter.run_epoch()
        assert row is not None
        rows.append(row)
    return rows


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_a_step_is_adamw_on_the_loss_of_its_bags() -> None:
    data, model, reference = dataset(), new_model().double(), new_model().double()
    settings = FitSettings(epochs=2, bags_per_step=24, learning_rate=0.01, weight_decay=0.1)
    fitted(Fitter(model, data, TRAIN, VALIDATION, settings, aem()))
    optimizer = torch.optim.AdamW(reference.parameters(), 0.01, weight_decay=0.1)
    bags = pack([data.bags[index].double() for index in TRAIN])
    for step in range(2):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 2)) / 2
        output = reference(bags)
        loss = torch.nn.functional.cross_entropy(output.logits, torch.tensor([data.labels[i] for i in TRAIN]))
        entropies = []
        assert output.attention_logits is not None
        for begin, end in zip(bags.offsets[:-1], bags.offsets[1:], strict=True):
            logits = output.attention_logits[0, begin:end]
            probs = logits.softmax(0)
            entropies.append(-(probs * probs.log()).sum() / math.log(len(logits)))
        optimizer.zero_grad()
        (loss - 0.1 * torch.stack(entropies).mean()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # float32 holds lambda = 0.1 to 1.5e-9
    assert difference(model.state_dict(), reference.state_dict()) < 1e-8


@pytest.mark.parametrize("balance", ["none", "weights", "sampling"])
@pytest.mark.parametrize("name", MODELS)
def test_accumulated_batches_are_the_bigger_batch(name: str, balance: Any) -> None:
    data = dataset(classes=3)
    train = [index for index in TRAIN if index % 3 or index % 2]  # class a is rarer
    states = []
    for bags, accumulate in ((8, 1), (2, 4), (1, 8)):
        model = new_model(name, classes=3).double()
        settings = FitSettings(
            epochs=2, learning_rate=0.01, bags_per_step=bags, accumulate=accumulate, balance=balance
        )
        own_aem = None if name in ("mean", "max") else aem()
        fitter = Fitter(model, data, train, VALIDATION, settings, own_aem)
        rows = fitted(fitter)
        assert rows[-1]["step"] == 2 * math.ceil(len(train) / 8)
        states.append((model.state_dict(), rows))
    for state, rows in states[1:]:
        assert difference(state, states[0][0]) < 1e-9
        assert rows[-1]["train/loss"] == pytest.approx(states[0][1][-1]["train/loss"], rel=1e-6)


def test_weights_are_a_bag_that_comes_more_often() -> None:
    data = dataset()
    train = [0, 2, 4, 1]  # three of class a, one of class b: weights 2/3 and 2, as if b came three times
    models = []
    for indices, balance in ((train, "weights"), ([0, 2, 4, 1, 1, 1], "none")):
        models.append(new_model().double())
        settings = FitSettings(epochs=1, learning_rate=0.01, bags_per_step=9, balance=balance)  # type: ignore[arg-type]
        fitted(Fitter(models[-1], data, indices, [], settings))
    assert difference(models[0].state_dict(), models[1].state_dict()) < 1e-10


CONTROLLERS: dict[str, Callable[[], Any]] = {
    "fixed": lambda: Fixed(0.1),
    "cosine": lambda: Scheduled(CosineSchedule(0.1, 0.0, steps=60)),
    "dual": lambda: Dual(0.5, initial=0.1, learning_rate=0.05),
}


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("name", ["abmil", "acmil"])
def test_a_continued_fit_is_the_undisturbed_one(name: str, controller: str, tmp_path: Any) -> None:
    settings = FitSettings(
        epochs=6, learning_rate=0.01, bags_per_step=5, instance_share=0.7, balance="sampling", seed=4
    )

    def new_fitter() -> Fitter:
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            model = MODELS[name](5, 2, hidden=8, dropout=0.3)
        return Fitter(model, dataset(), TRAIN, VALIDATION, settings, aem(CONTROLLERS[controller]()))

    whole = new_fitter()
    rows = fitted(whole)
    first = new_fitter()
    before = [first.run_epoch() for _ in range(2)]
    asked = iter([False, False, True])
    torch.manual_seed(99)  # the global generator has no say
    assert first.run_epoch(lambda: next(asked)) is None  # stopped after three steps of the third epoch
    tensors, tree = split_state(first.state_dict())
    checkpoint.save_checkpoint(tmp_path / "last", tensors, {"state": tree})
    tensors, metadata = checkpoint.load_checkpoint(tmp_path / "last")
    second = new_fitter()
    second.load_state_dict(join_state(tensors, metadata["state"]))
    assert before + fitted(second) == rows
    for got, expected in ((second.state_dict(), whole.state_dict()), (second.best_state, whole.best_state)):
        got_tensors, got_tree = split_state(got)
        tensors, tree = split_state(expected)
        assert difference(got_tensors, tensors) == 0.0
        assert got_tree == tree
    value = second.state_dict()["trainer"]["aem"]
    assert value != new_fitter().state_dict()["trainer"]["aem"] or controller == "fixed"


def test_nothing_is_seeded_globally_and_dropout_has_its_own_stream() -> None:
    def run(seed: int) -> dict[str, Tensor]:
        model = new_model(dropout=0.5)
        fitted(Fitter(model, dataset(), TRAIN, VALIDATION, FitSettings(epochs=2, bags_per_step=8, seed=seed)))
        return model.state_dict()

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert difference(run(0), first) == 0.0
    assert difference(run(1), first) > 0.0


def test_evaluation_is_without_dropout_and_gives_the_mode_back() -> None:
    model = new_model(dropout=0.9)
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.Dropout))
    frozen.eval()
    first, second = (predict(model, dataset(), VALIDATION) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    assert not first.logits.requires_grad
    assert model.training
    assert not frozen.training
    with pytest.raises(RuntimeError, match="inside"), evaluating(model):
        raise RuntimeError("inside")
    assert model.training
    assert first.probs.sum(axis=1) == pytest.approx(1.0)


def test_predictions_do_not_depend_on_their_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = new_model("multi-head"), dataset()
    together = predict(model, data, [5, 3, 4])
    monkeypatch.setattr("entroreg.vision.mil.fitting.prediction.BATCH_INSTANCES", 1)
    alone = predict(model, data, [5, 3, 4])
    assert torch.allclose(alone.logits, together.logits, atol=1e-6)
    assert alone.entropies is not None
    assert together.entropies is not None
    assert torch.allclose(alone.entropies, together.entropies, atol=1e-6)
    logits = model.eval()(pack([data.bags[3]])).attention_logits
    probs = logits.detach().softmax(dim=1)
    entropy = -(probs * probs.log()).sum(dim=1).mean()
    assert float(together.entropies[0, 1]) == pytest.approx(float(entropy), abs=1e-6)
    assert float(together.entropies[1, 1]) == pytest.approx(float(entropy) / math.log(5), abs=1e-6)
    assert predict(MeanPooling(5, 2), data, [0]).entropies is None


@pytest.mark.filterwarnings("ignore::entroreg.guards.EntropyCollapseWarning")  # one instance decides
def test_it_learns_and_keeps_the_best_epoch() -> None:
    model, data = new_model(), dataset(shift=6.0)
    fitter = Fitter(model, data, TRAIN, VALIDATION, FitSettings(epochs=40, bags_per_step=6, learning_rate=0.02))
    rows = fitted(fitter)
    scores = [row["validation/auroc"] + row["validation/macro_f1"] for row in rows]
    best = max(scores)
    assert best > 1.8
    assert fitter.selection.epoch == 40 - scores[::-1].index(best)  # the last of the best
    fitter.load_best()
    found = predict(model, data, VALIDATION)
    accuracy = sum(int(p[1] > p[0]) == data.labels[i] for p, i in zip(found.probs, VALIDATION, strict=True)) / 12
    assert accuracy == rows[fitter.selection.epoch - 1]["validation/accuracy"]
    assert rows[-1]["train/loss"] < 0.5 * rows[0]["train/loss"]
    with pytest.raises(RuntimeError, match="the fit is done after 40 epochs: make a new Fitter"):
        fitter.run_epoch()


def test_selection_prefers_the_later_of_equals_and_waits_for_better() -> None:
    model, selection = torch.nn.Linear(1, 1), Selection()
    waited = []
    for epoch, score in enumerate([1.0, 1.5, 1.2, 1.5, 1.4], start=1):
        torch.nn.init.constant_(model.weight, epoch)
        selection.consider(epoch, score, model)
        waited.append(selection.waited)
    assert (selection.epoch, selection.score, float(selection.state["weight"])) == (4, 1.5, 4.0)
    assert waited == [0, 0, 1, 2, 3]


def test_patience_ends_the_fit() -> None:
    settings = FitSettings(epochs=50, patience=3, learning_rate=1e-12, bags_per_step=24)
    fitter = Fitter(
        new_model(), dataset(), TRAIN, VALIDATION, settings
    )  # nothing is learned: every score is the first
    assert len(fitted(fitter)) == 4
    assert fitter.selection.epoch == 4


def test_without_validation_the_last_epoch_is_kept() -> None:
    model = new_model()
    fitter = Fitter(model, dataset(), TRAIN, [], FitSettings(epochs=3, bags_per_step=8))
    rows = fitted(fitter)
    assert rows[-1]["best_epoch"] == 3
    assert not any(name.startswith("validation/") for name in rows[-1])
    assert difference(fitter.best_state, model.state_dict()) == 0.0


def test_lambda_moves_with_every_step() -> None:
    settings = FitSettings(epochs=4, bags_per_step=6)
    data = dataset()
    steps = planned_steps([data.sizes[i] for i in TRAIN], [data.labels[i] for i in TRAIN], settings)
    assert steps == 16
    cosine = aem(Scheduled(CosineSchedule(0.4, 0.0, steps=steps)))
    rows = fitted(Fitter(new_model(), data, TRAIN, VALIDATION, settings, cosine))
    expected = [0.2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in (1, 2, 3, 4)]  # by the fractional epoch
    assert [row["train/lambda"] for row in rows] == pytest.approx(expected, abs=1e-7)
    dual = aem(Dual(0.999, initial=0.1, learning_rate=0.1))
    rows = fitted(Fitter(new_model(), data, TRAIN, VALIDATION, settings, dual))
    assert rows[-1]["train/lambda"] > rows[0]["train/lambda"] > 0.1  # below its target: up


COLLAPSED = (
    r"^attention entropy has collapsed: 0\.\d+ of log N at epoch \d+, and below 0\.1 for 5 readings: if more than "
    r"one instance of a bag matters, give an AttentionEntropy \(AEM\)$"
)


def test_aem_raises_the_entropy_that_is_logged() -> None:
    shares = []
    for weight in (0.0, 5.0):
        settings = FitSettings(epochs=15, bags_per_step=6, learning_rate=0.02)
        own = aem(Fixed(weight)) if weight else None
        fitter = Fitter(new_model(), dataset(shift=6.0), TRAIN, VALIDATION, settings, own)
        with nullcontext() if weight else pytest.warns(EntropyCollapseWarning, match=COLLAPSED) as said:
            rows = fitted(fitter)
        assert said is None or len(said) == 1
        shares.append(rows[-1]["train/attention_entropy_share"])
        assert 0.0 <= rows[-1]["validation/attention_entropy"] <= math.log(8)
    assert shares[1] > max(shares[0], 0.97)


def test_streamed_bags_log_the_same_entropy() -> None:
    rows = []
    for chunk in (None, 3):
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            model = ABMIL(5, 2, hidden=8, chunk_size=chunk)
        fitter = Fitter(model, dataset(), TRAIN, VALIDATION, FitSettings(epochs=1, bags_per_step=8), aem())
        rows += fitted(fitter)
    assert rows[0].keys() == rows[1].keys()
    for name, value in rows[0].items():
        assert rows[1][name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_stored_dtypes(dtype: torch.dtype) -> None:
    rows = [
        fitted(Fitter(new_model(), data, TRAIN, VALIDATION, FitSettings(epochs=2, bags_per_step=8)))[-1]
        for data in (dataset(), dataset(dtype=dtype))
    ]
    assert rows[1]["train/loss"] == pytest.approx(rows[0]["train/loss"], abs=5e-3)  # bfloat16 has 8 bits


def test_amp_runs_the_model_in_bfloat16_and_nothing_else() -> None:
    seen = []

    class Watched(ABMIL):
        def forward(self, bags: Any) -> MILOutput:
            output = super().forward(bags)
            seen.append(output.logits.dtype)
            return output

        def bag_losses(self, output: MILOutput, labels: Tensor) -> Tensor:
            seen.append(output.logits.dtype)
            return super().bag_losses(output, labels)

    losses = []
    for amp in (False, True):
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            model = Watched(5, 2, hidden=8)
        settings = FitSettings(epochs=3, bags_per_step=8, amp=amp, learning_rate=0.01)
        rows = fitted(Fitter(model, dataset(), TRAIN, VALIDATION, settings, aem()))
        losses.append(rows[-1]["train/loss"])
        assert next(model.parameters()).dtype == torch.float32
    assert torch.bfloat16 in seen
    assert seen[-2:] != [torch.bfloat16] * 2
    assert losses[1] == pytest.approx(losses[0], abs=0.02)


def test_a_feature_that_is_not_finite_is_named_and_the_epoch_taken_back() -> None:
    data = dataset()
    settings = FitSettings(epochs=2, bags_per_step=8)
    fitter = Fitter(new_model(), data, TRAIN, VALIDATION, settings, aem())
    fitter.run_epoch()
    kept = fitter.state_dict()
    data.bags[7][0, 0] = math.nan
    again = Fitter(new_model(), data, TRAIN, VALIDATION, settings, aem())
    again.load_state_dict(kept)
    message = r"attention_logits became nan in epoch 2, step \d: features of bag '7' are not finite: extract them"
    with pytest.raises(FloatingPointError, match=message):
        again.run_epoch()
    tensors, tree = split_state(again.state_dict())
    expected, expected_tree = split_state(kept)
    assert difference(tensors, expected) == 0.0
    assert tree == expected_tree


def test_a_loss_or_gradient_that_overflows_names_its_bags() -> None:
    class Overflowing(ABMIL):
        def bag_losses(self, output: MILOutput, labels: Tensor) -> Tensor:
            return super().bag_losses(output, labels) * math.inf

    class Steep(ABMIL):
        def bag_losses(self, output: MILOutput, labels: Tensor) -> Tensor:
            return super().bag_losses(output, labels) + output.logits.sub(output.logits.detach()).sum().sqrt()

    for kind, quantity in ((Overflowing, "loss became inf"), (Steep, "gradient_norm became")):
        fitter = Fitter(kind(5, 2, hidden=8), dataset(), TRAIN, VALIDATION, FitSettings(bags_per_step=5))
        message = rf"{quantity}.* in epoch 1, step 1: bags '\d+', '\d+', '\d+' and 2 more: lower learning_rate"
        with pytest.raises(FloatingPointError, match=message):
            fitter.run_epoch()


def test_attention_that_overflows_is_named_before_the_loss() -> None:
    model = new_model()
    model.pooling.scores.score.weight.data.fill_(1e38)
    fitter = Fitter(model, dataset(), TRAIN, VALIDATION, FitSettings(bags_per_step=5))
    message = r"attention_logits became (nan|-?inf) in epoch 1, step 1: bags '\d+', '\d+', '\d+' and 2 more: lower"
    with pytest.raises(FloatingPointError, match=message):
        fitter.run_epoch()


def test_validation_that_is_not_finite_is_named_and_the_epoch_taken_back() -> None:
    data = dataset()
    data.bags[30][1, 2] = math.inf
    fitter = Fitter(new_model(), data, TRAIN, VALIDATION, FitSettings(epochs=2, bags_per_step=8), aem())
    before, tree = split_state(fitter.state_dict())
    message = r"^validation of epoch 1: logits became nan: features of bag '30' are not finite: extract them again$"
    with pytest.raises(FloatingPointError, match=message):
        fitter.run_epoch()
    after, tree_after = split_state(fitter.state_dict())
    assert difference(after, before) == 0.0
    assert tree_after == tree
    with pytest.raises(FloatingPointError, match=r"^logits became nan: features of bag '30' are not finite"):
        predict(fitter.model, data, [5, 30])
    healthy = new_model()
    healthy.head.bias.data[1] = math.inf
    with pytest.raises(FloatingPointError, match=r"^logits became inf: bags '5': lower learning_rate"):
        predict(healthy, dataset(), [5, 6])


def test_a_collapse_is_said_once_and_also_where_the_fit_was_stored() -> None:
    def new_fitter() -> Fitter:
        settings = FitSettings(epochs=15, bags_per_step=6, learning_rate=0.02)
        return Fitter(new_model(), dataset(shift=6.0), TRAIN, VALIDATION, settings, aem(Fixed(1e-6)))

    with pytest.warns(EntropyCollapseWarning, match=r"raise AEM's lambda, 1e-06 now$") as said:
        fitted(new_fitter())
    epoch = int(str(said[0].message).split("epoch ")[1].split(",")[0])
    first = new_fitter()
    for _ in range(epoch - 1):
        first.run_epoch()
    tensors, tree = split_state(first.state_dict())
    second = new_fitter()
    second.load_state_dict(join_state(tensors, json.loads(json.dumps(tree))))
    with pytest.warns(EntropyCollapseWarning, match=rf"at epoch {epoch}, "):
        second.run_epoch()
    fitted(second)  # and never again: a warning here would be an error


@pytest.mark.parametrize(
    ("model", "train", "validation", "settings", "kind", "message"),
    [
        (
            ABMIL(4, 2),
            TRAIN,
            VALIDATION,
            {},
            ValueError,
            "the model must have the data set's in_features, 5, got 4",
        ),
        (ABMIL(5, 3), TRAIN, VALIDATION, {}, ValueError, "the model must have the data set's classes, 2, got 3"),
        (ABMIL(5, 2), [0, 2], VALIDATION, {}, DataError, "class 'b' must have a training bag, got none"),
        (ABMIL(5, 2), TRAIN, [25], {}, DataError, "class 'a' must have a validation bag, got none"),
        (
            ABMIL(5, 2),
            TRAIN,
            [],
            {"patience": 2},
            ValueError,
            "patience needs validation bags to wait for, got none",
        ),
    ],
)
def test_what_cannot_be_fitted(
    model: MILModel, train: Any, validation: Any, settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as error:
        Fitter(model, dataset(), train, validation, FitSettings(**settings))
    assert message in str(error.value)


def test_a_state_of_another_fit_is_refused() -> None:
    state = Fitter(new_model(), dataset(), TRAIN, VALIDATION, FitSettings(epochs=3)).state_dict()
    other = Fitter(new_model(), dataset(), TRAIN, VALIDATION, FitSettings(epochs=4))
    with pytest.raises(ValueError, match="state must be of a fit with"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"missing keys \['selection'\]"):
        other.load_state_dict({name: value for name, value in state.items() if name != "selection"})
