"""The loop: the same seed gives the same weights, stopped or not; and each step does what the recipe says."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from stn_train.data.datasets import Batch, OnlineDataset
from stn_train.data.images import ImageSet
from stn_train.data.prebuilt import TrainingData
from stn_train.errors import Stopped, TrialError
from stn_train.geometry import AFFINE
from stn_train.models.network import Network, Pose
from stn_train.models.transformer import SpatialTransformer, ThetaHead
from stn_train.specs import RECIPES, DatasetSpec, ExperimentSpec, TrainingSpec, trials_of
from stn_train.training import loop
from stn_train.training.checkpoint import read_checkpoint, restore, save_checkpoint
from stn_train.training.loop import TrainingState, scheduled_lr, train, update_batch_norm

CPU = torch.device("cpu")
TRIAL = trials_of(ExperimentSpec.model_validate({"name": "made_up", "datasets": ["r"], "models": ["st_cnn"]}))[0]
SIZE = 16
STEPS = 6
OURS = {"optimizer": "adamw", "schedule": "one_cycle", "ema_decay": 0.5, "grad_clip": 1.0, "label_smoothing": 0.1}
MUON = {**OURS, "optimizer": "muon"}
PAPER = {"optimizer": "sgd", "schedule": "steps", "ema_decay": 0.0, "grad_clip": None, "label_smoothing": 0.0}


def recipe_of(**changes: Any) -> TrainingSpec:
    keys = {"epochs": 2, "batch_size": SIZE, "lr": 0.05, "precision": "float32", "localisation_lr": 0.5}
    return TrainingSpec.model_validate({**RECIPES["default"], **keys, **changes})


@pytest.fixture
def data(real_digits):
    """Six batches an epoch."""
    digits = ImageSet(real_digits[0].images[: 3 * SIZE + 2], real_digits[0].labels[: 3 * SIZE + 2], repeats=2)
    return OnlineDataset(DatasetSpec.model_validate("r"), digits)


def small_network(seed: int = 0, pose: Pose = "predicted") -> Network:
    """A transformer, batch normalisation and dropout: everything that a resumed training could get wrong."""
    torch.manual_seed(seed)
    localisation = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 8), nn.ReLU(), ThetaHead(8, AFFINE))
    classifier = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Dropout(0.3),
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4),  # behind the dropout, so that what it averages over is random as well
        nn.Flatten(),
        nn.Linear(36, 10),
    )
    return Network(SpatialTransformer(localisation, AFFINE, (14, 14)), classifier, pose)


def linear_network() -> Network:
    torch.manual_seed(0)
    return Network(None, nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)))


def run(
    state: TrainingState,
    data: TrainingData,
    recipe: TrainingSpec,
    seed: int = 3,
    after_step: Callable[[float], bool] = lambda epochs: False,
    losses: list[float] | None = None,
    every: int = 1,
) -> TrainingState:
    """The state at the end; the losses that it tells are put into `losses`."""
    for loss in train(state, data, recipe, seed, CPU, after_step, every=every):
        if losses is not None:
            losses.append(loss)
    return state


class SameAgain:
    """Seventy batches an epoch, all the same but for one, where there is one, that is infinite."""

    def __init__(self, epoch: int = 0, step: int = 0) -> None:
        self.infinite = epoch, step

    def __len__(self) -> int:
        return 70 * SIZE

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        for step in range(1, 71):
            value = float("inf") if (epoch + 1, step) == self.infinite else 0.5
            yield Batch(torch.full((SIZE, 1, 28, 28), value), torch.zeros(SIZE, dtype=torch.int64), None)


def stop_after(steps: int) -> Callable[[float], bool]:
    count = iter(range(1, steps + 1))
    return lambda epochs: next(count) == steps


def everything_in(state: TrainingState) -> dict[str, Any]:
    """What a training changes, but for the time that it took."""
    return {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
        "epoch": state.epoch,
        "step_losses": state.step_losses,
    }


def same(one: Any, other: Any) -> bool:
    """Whether two nests of dictionaries and sequences hold the same values, tensors to the last bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


# --- the same again -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_training_and_another_seed_another(data):
    recipe = recipe_of(**OURS)
    runs = []
    for seed, noise in ((3, 7), (3, 8), (4, 7)):
        state, losses = TrainingState.start(small_network(), recipe), []
        torch.manual_seed(noise)  # whatever was drawn before is of no account
        runs.append({**everything_in(run(state, data, recipe, seed, losses=losses)), "losses": losses})
    assert same(runs[0], runs[1])
    assert not same(runs[0]["network"], runs[2]["network"])
    assert runs[0]["epoch"] == 2
    assert len(runs[0]["losses"]) == 2


def resumed(state: TrainingState, recipe: TrainingSpec, path: Path) -> TrainingState:
    """A state saved, and restored into a fresh one, of other weights."""
    save_checkpoint(path, TRIAL.changed(training=recipe), state)
    fresh = TrainingState.start(small_network(seed=99), recipe)
    restore(fresh, read_checkpoint(path), path)
    assert same(everything_in(fresh), everything_in(state))
    assert fresh.seconds == state.seconds
    return fresh


@pytest.mark.parametrize(
    ("keys", "every"),
    [(OURS, 1), (MUON, 1), (PAPER, 1), (OURS, 2), (OURS, 3)],
    ids=["default", "muon", "paper", "evaluated every 2", "evaluated at the end"],
)
@pytest.mark.parametrize("steps", range(1, 2 * STEPS + 1))
def test_stopped_after_any_step_and_resumed_a_training_ends_the_same_to_the_last_bit(
    data, tmp_path, keys, every, steps
):
    recipe, losses, wanted = recipe_of(**keys), [], []
    undisturbed = run(TrainingState.start(small_network(), recipe), data, recipe, losses=wanted, every=every)
    state = TrainingState.start(small_network(), recipe)
    with pytest.raises(Stopped):
        run(state, data, recipe, after_step=stop_after(steps), losses=losses, every=every)
    assert state.epoch == (steps - 1) // STEPS
    state = resumed(state, recipe, tmp_path / "checkpoint.pt")
    torch.manual_seed(123)
    assert same(everything_in(run(state, data, recipe, losses=losses, every=every)), everything_in(undisturbed))
    assert losses == wanted


def test_how_often_it_is_evaluated_changes_no_weight_and_the_loss_is_the_mean_since(data):
    recipe, each, both = recipe_of(**OURS), [], []
    often = run(TrainingState.start(small_network(), recipe), data, recipe, losses=each)
    once = run(TrainingState.start(small_network(), recipe), data, recipe, losses=both, every=2)
    assert same(everything_in(once), everything_in(often))
    assert both == pytest.approx([sum(each) / 2])


def test_stopped_after_every_step_a_training_ends_the_same_to_the_last_bit(data, tmp_path):
    recipe, losses, wanted = recipe_of(**OURS), [], []
    undisturbed = run(TrainingState.start(small_network(), recipe), data, recipe, losses=wanted)
    state, stops = TrainingState.start(small_network(), recipe), 0
    while state.epoch < recipe.epochs:
        try:
            run(state, data, recipe, after_step=lambda epochs: True, losses=losses)
        except Stopped:
            state, stops = resumed(state, recipe, tmp_path / "checkpoint.pt"), stops + 1
    assert stops == 2 * STEPS
    assert same(everything_in(state), everything_in(undisturbed))
    assert losses == wanted


def test_killed_after_an_epoch_and_resumed_a_training_ends_the_same(data, tmp_path):
    recipe, wanted = recipe_of(**OURS), []
    undisturbed = run(TrainingState.start(small_network(), recipe), data, recipe, losses=wanted)
    state = TrainingState.start(small_network(), recipe)
    losses = [next(train(state, data, recipe, 3, CPU))]
    state = resumed(state, recipe, tmp_path / "checkpoint.pt")
    assert same(everything_in(run(state, data, recipe, losses=losses)), everything_in(undisturbed))
    assert losses == wanted


def test_dropout_is_drawn_from_the_seed_too():
    """On batches that are always the same."""
    losses = []
    for seed in (3, 3, 4):
        state = TrainingState.start(small_network(), recipe_of(**PAPER, epochs=1))
        losses += train(state, SameAgain(), recipe_of(**PAPER, epochs=1), seed, CPU)
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("keys", [OURS, PAPER], ids=["default", "paper"])
def test_evaluating_between_epochs_changes_nothing(data, keys):
    recipe = recipe_of(**keys)
    undisturbed = run(TrainingState.start(small_network(), recipe), data, recipe)
    state = TrainingState.start(small_network(), recipe)
    for _ in train(state, data, recipe, 3, CPU):
        state.network.eval()
        state.final.eval()(torch.rand(5, 1, 28, 28))
    assert same(everything_in(state), everything_in(undisturbed))


# --- a step -------------------------------------------------------------------------------------------------------


def test_every_step_has_the_rate_of_its_place_in_the_schedule(data):
    recipe = recipe_of(**OURS)
    state = TrainingState.start(small_network(), recipe)
    rates: list[set[tuple[float, float]]] = []

    def look(epochs: float) -> bool:
        rates.append({(group["factor"], group["lr"]) for group in state.optimizer.param_groups})
        return False

    run(state, data, recipe, after_step=look)
    assert len(rates) == 2 * STEPS
    for step, found in enumerate(rates):
        rate = scheduled_lr(recipe, step / (2 * STEPS))
        assert found == {(1.0, rate), (0.5, 0.5 * rate)}


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_and_an_epochs_is_the_mean_of_its_steps(data, smoothing):
    recipe = recipe_of(**{**PAPER, "label_smoothing": smoothing, "epochs": 1, "lr": 1e-12})
    network = linear_network()
    with torch.no_grad():
        losses = [
            float(F.cross_entropy(network(images), labels, label_smoothing=smoothing))
            for images, labels, _ in data.batches(3, 0, SIZE)
        ]
    state = TrainingState.start(network, recipe)
    assert list(train(state, data, recipe, 3, CPU)) == pytest.approx([sum(losses) / STEPS], rel=1e-6)
    assert state.step_losses == []


def test_no_step_moves_the_weights_further_than_the_clipped_gradient_allows(data):
    def longest_move(clip: float | None) -> float:
        recipe = recipe_of(**{**PAPER, "grad_clip": clip, "weight_decay": 0.0, "epochs": 1, "localisation_lr": 1.0})
        state = TrainingState.start(small_network(), recipe)
        trace = [weights(state.network)]

        def look(epochs: float) -> bool:
            trace.append(weights(state.network))
            return False

        run(state, data, recipe, after_step=look)
        lengths = []
        for step in range(STEPS):
            moves = [after - before for before, after in zip(trace[step], trace[step + 1], strict=True)]
            lengths.append(float(nn.utils.get_total_norm(moves)) / scheduled_lr(recipe, step / STEPS))
        return max(lengths)

    unclipped = longest_move(None)
    assert longest_move(unclipped / 10) == pytest.approx(unclipped / 10, rel=1e-2)
    assert longest_move(unclipped * 10) == pytest.approx(unclipped, rel=1e-6)


@pytest.mark.parametrize("size", [2, 7, SIZE, 100, 1000])
def test_after_each_step_it_is_told_which_share_of_the_epochs_is_done(data, size):
    recipe, told = recipe_of(**PAPER, batch_size=size), []
    run(TrainingState.start(small_network(), recipe), data, recipe, after_step=lambda epochs: bool(told.append(epochs)))
    steps = len(list(data.batches(0, 0, size)))
    assert told == pytest.approx([step / steps for step in range(1, 2 * steps + 1)])


# --- the average --------------------------------------------------------------------------------------------------


def test_the_average_follows_every_step(data):
    recipe = recipe_of(**{**OURS, "ema_decay": 0.3})
    state = TrainingState.start(small_network(), recipe)
    trace: list[list[Tensor]] = []

    def look(epochs: float) -> bool:
        trace.append(weights(state.network))
        return False

    run(state, data, recipe, after_step=look)
    expected = trace[0]
    for step, now in enumerate(trace[1:], start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, now, strict=True)]
    assert state.final is not state.network
    for found, by_hand in zip(weights(state.final), expected, strict=True):
        assert torch.allclose(found, by_hand, rtol=0, atol=1e-6)
    assert not all(map(torch.equal, weights(state.final), weights(state.network)))


@pytest.mark.parametrize(("images", "batches"), [(4096, 12), (40, 3)])
def test_the_averages_normalisation_is_that_of_the_latest_epochs_first_images_and_of_those_before(
    data, monkeypatch, images, batches
):
    monkeypatch.setattr(loop, "BN_IMAGES", images)
    recipe = recipe_of(**OURS)
    state = run(TrainingState.start(small_network(), recipe), data, recipe)
    classifier = state.final.classifier
    with torch.no_grad():
        latest = islice(chain(data.batches(3, 1, SIZE), data.batches(3, 0, SIZE)), batches)
        seen = [classifier[0](state.final.front(images)) for images, *_ in latest]
    mean = torch.stack([features.mean(dim=(0, 2, 3)) for features in seen]).mean(0)
    variance = torch.stack([features.var(dim=(0, 2, 3)) for features in seen]).mean(0)
    assert torch.allclose(classifier[1].running_mean, mean, rtol=1e-4, atol=1e-5)
    assert torch.allclose(classifier[1].running_var, variance, rtol=1e-4)
    assert not torch.allclose(state.network.classifier[1].running_mean, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_update_batch_norm_is_torchs_where_there_are_no_poses(data, seed):
    ours, torchs = small_network(seed), small_network(seed)
    for network in (ours, torchs):
        network.classifier[1].momentum = 0.3
        network(torch.rand(SIZE, 1, 28, 28, generator=torch.Generator().manual_seed(0)))  # what is to be forgotten
    torch.manual_seed(seed)
    update_batch_norm(ours, data.batches(3, 1, SIZE))
    torch.manual_seed(seed)
    update_bn((batch.images for batch in data.batches(3, 1, SIZE)), torchs)
    assert same(ours.state_dict(), torchs.state_dict())
    assert ours.classifier[1].momentum == torchs.classifier[1].momentum == 0.3


def test_update_batch_norm_of_an_oracle_is_over_what_it_reads_at_the_poses(data):
    network, posed = small_network(pose="oracle"), replace(data, posed=True)
    update_batch_norm(network, posed.batches(3, 1, SIZE))
    with torch.no_grad():
        seen = [network.classifier[0](network.front(images, poses)) for images, _, poses in posed.batches(3, 1, SIZE)]
        without = [network.classifier[0](network.front(images)) for images, *_ in posed.batches(3, 1, SIZE)]
    means = [torch.stack([features.mean(dim=(0, 2, 3)) for features in each]).mean(0) for each in (seen, without)]
    assert torch.allclose(network.classifier[1].running_mean, means[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network.classifier[1].running_mean, means[1], rtol=1e-4, atol=1e-5)


def test_without_an_average_the_network_itself_is_final(data):
    recipe = recipe_of(**PAPER)
    state = run(TrainingState.start(small_network(), recipe), data, recipe)
    assert state.final is state.network


# --- a loss that is not finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (1, 32), (1, 33), (2, 5), (2, 66), (2, 70)])
def test_a_loss_that_is_not_finite_is_told_with_its_first_step_and_epoch(epoch, step):
    recipe = recipe_of(**PAPER)
    state = TrainingState.start(linear_network(), recipe)
    with pytest.raises(TrialError, match=rf"the loss is not finite at step {step} of epoch {epoch}; try "):
        run(state, SameAgain(epoch, step), recipe)


def test_a_loss_that_is_not_finite_is_told_at_a_stop_so_that_its_state_is_not_saved():
    recipe = recipe_of(**PAPER)
    state = TrainingState.start(linear_network(), recipe)
    with pytest.raises(TrialError, match="step 20 of epoch 1"):
        run(state, SameAgain(1, 20), recipe, after_step=stop_after(25))


class Steep(nn.Linear):
    """A layer with a finite output and a gradient of a weight that is not."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + (0 * self.bias).sqrt()


@pytest.mark.parametrize(("images", "stop"), [(SIZE, 1), (SIZE, 1000), (1000, 1000)], ids=["stop", "later", "epoch"])
def test_weights_that_are_not_finite_are_told_before_they_are_saved(data, images, stop):
    recipe = recipe_of(**PAPER, batch_size=images)
    network = Network(None, nn.Sequential(nn.Flatten(), Steep(28 * 28, 10)))
    with pytest.raises(TrialError, match=r"not finite at step [12] of epoch 1; try "):
        run(TrainingState.start(network, recipe), data, recipe, after_step=stop_after(stop))


# --- supervised poses ---------------------------------------------------------------------------------------------


def test_a_supervised_transformer_comes_nearer_to_the_pose(data):
    posed = replace(data, posed=True)
    batch = next(posed.batches(0, 9, 3 * SIZE))

    def missed(state: TrainingState) -> float:
        _, loss = state.network.train().with_pose_loss(batch.images, batch.poses)
        return loss.item()

    recipe = recipe_of(epochs=20, localisation_lr=1.0)
    before, after = (TrainingState.start(small_network(pose="supervised"), recipe) for _ in range(2))
    assert missed(run(after, posed, recipe)) < 0.5 * missed(before)


def test_the_loss_that_is_told_is_without_that_of_a_supervised_pose(data):
    posed, recipe = replace(data, posed=True), recipe_of(**{**PAPER, "lr": 1e-12, "epochs": 1})
    predicted, supervised = (
        list(train(TrainingState.start(small_network(pose=pose), recipe), posed, recipe, 3, CPU))
        for pose in ("predicted", "supervised")
    )
    assert supervised == pytest.approx(predicted, rel=1e-6)
