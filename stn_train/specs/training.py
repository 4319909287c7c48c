"""Recipes: how a model is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field

from stn_train.specs.fields import DIGIT, Spec

MOST_EPOCHS = 10_000


class TrainingSpec(Spec):
    """A recipe: how a model is trained."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(ge=2, le=16_384, description="at least 2: batch normalisation compares images")
    optimizer: Literal["adamw", "muon", "sgd"] = Field(
        description="muon: for the weights of hidden layers; AdamW for the rest"
    )
    lr: float = Field(gt=0, le=100, description="the highest learning rate of the schedule")
    schedule: Literal["one_cycle", "steps"] = Field(
        description="one_cycle: up and down once; steps: divided by 10 after each third"
    )
    warmup: float = Field(0.2, gt=0, lt=1, description="one_cycle: the share of all steps in which the rate goes up")
    weight_decay: float = Field(ge=0, le=10)
    label_smoothing: float = Field(ge=0, lt=1)
    ema_decay: float = Field(ge=0, lt=1, description="decay per step of the average of the weights; 0: none")
    grad_clip: float | None = Field(gt=0, le=1_000_000, description="largest norm of the gradient")
    localisation_lr: float = Field(
        gt=0, le=1000, description="learning rate of localisation networks, as a factor of lr"
    )
    classifier_delay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="the share of all steps in which only the localisation networks learn at the full rate, and all "
        "else at a tenth",
    )
    precision: Literal["auto", "float32"] = Field(description="auto: bfloat16 where the hardware computes in it")
    elastic_augmentation: float = Field(
        0.0,
        ge=0,
        le=DIGIT,
        description="how far each training digit is bent before it is distorted, in pixels: the standard deviation of "
        "4 x 4 control points",
    )
    curriculum: float = Field(
        0.0,
        ge=0,
        le=1,
        description="the share of all epochs over which the training digits' distortions grow, from upright in the "
        "middle to all that the dataset asks for, in the last epoch at the latest; clutter is there from the start",
    )
    train_size: int | None = Field(
        None,
        ge=100,
        le=60_000,
        description="how many of the training digits are used, each shown more often for it; all of them if not given",
    )

    @property
    def grown(self) -> float:
        """The epoch, counted from 0, from which on training digits are distorted in full."""
        return min(self.curriculum * self.epochs, self.epochs - 1)


_Times = Annotated[int, Field(ge=1, le=1000)]


class EpochMultiplierSpec(Spec):
    """For each of our classifiers, how many times the recipe's epochs it trains: some learn more slowly, and faster."""

    cnn: _Times = 1
    cnn_paper: _Times = 1
    fcn: _Times = 1


RECIPES: dict[str, dict[str, Any]] = {
    "default": {
        "epochs": 20,
        "batch_size": 256,
        "optimizer": "adamw",
        "lr": 0.003,
        "schedule": "one_cycle",
        "warmup": 0.2,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "ema_decay": 0.995,
        "grad_clip": 1.0,
        "localisation_lr": 0.05,
        "classifier_delay": 0.0,
        "precision": "auto",
        "elastic_augmentation": 0.0,
        "curriculum": 0.0,
    },
    "paper": {
        "epochs": 640,
        "batch_size": 256,
        "optimizer": "sgd",
        "lr": 0.01,
        "schedule": "steps",
        "warmup": 0.2,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "grad_clip": None,
        "localisation_lr": 1.0,
        "classifier_delay": 0.0,
        "precision": "float32",
        "elastic_augmentation": 0.0,
        "curriculum": 0.0,
    },
}
"""Recipes by name; `paper` is appendix A's: 150 k iterations are 640 epochs of 60 k digits."""


def divergence_advice(recipe: TrainingSpec, transforms: bool) -> str:
    """What to try where a training diverges, by what is set: what is above the recipe's own value comes first."""
    usual = RECIPES["paper" if recipe.optimizer == "sgd" else "default"]
    said = {"lr": "", **({"localisation_lr": "a factor of lr; "} if transforms else {})}
    above = [
        f"a training.{key} below {getattr(recipe, key):g} ({what}the recipe has {usual[key]:g})"
        for key, what in said.items()
        if getattr(recipe, key) > usual[key]
    ]
    if above:
        return "try " + " and ".join(above)
    tries = [f"a training.localisation_lr below {recipe.localisation_lr:g} (a factor of lr)"] * transforms
    tries += ["training.grad_clip=1"] * (recipe.grad_clip is None)
    return "try " + " or ".join([*tries, f"a training.lr below {recipe.lr:g}"])


def stillness_advice(recipe: TrainingSpec) -> str:
    """What to try where a transformer stays at the identity: what is below the recipe's own value comes first."""
    usual = RECIPES["paper" if recipe.optimizer == "sgd" else "default"]
    if recipe.lr < usual["lr"]:
        return f"try a training.lr above {recipe.lr:g} (the recipe has {usual['lr']:g})"
    return f"try a training.localisation_lr above {recipe.localisation_lr:g} (a factor of lr), or more training.epochs"
