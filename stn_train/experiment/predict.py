"""Trained networks asked about pictures from outside, as photographs or scans."""

from collections.abc import Sequence

from stn_train.data.pictures import Picture, prepare
from stn_train.evaluation.prediction import Prediction, predict_image
from stn_train.experiment.load import NoPoseError, Trained, told_by_its_line


def predict_picture(
    trained: Sequence[Trained], picture: Picture, invert: bool | None = None, as_is: bool = False
) -> list[Prediction]:
    """What networks make of a picture, one after the other; prepared as their training images were, see `prepare`.

    Networks that are given true poses are left out: a picture has none to give. Raises UserError where the picture
    cannot be prepared, or where a classifier of the user's raises inside; NoPoseError where no network is left.
    """
    found = []
    for one, name in zip(trained, short_names(trained), strict=True):
        trial = one.trial
        if trial.model.pose == "oracle":
            continue
        prepared = prepare(picture, trial, invert, as_is)
        with told_by_its_line(one):
            probabilities, transformations = predict_image(one.network, prepared.image, trial.model.tta_angles)
        image, notes = prepared.image.numpy(), prepared.notes
        found.append(Prediction(picture.name, name, trial.class_names, probabilities, image, transformations, notes))
    if not found:
        raise NoPoseError("each of these networks is given the true pose of an image, and a picture has none to give")
    return found


def short_names(trained: Sequence[Trained]) -> list[str]:
    """What of `dataset/model/seed-k` tells networks apart: the model's name at least."""
    parts = [one.trial.key.split("/") for one in trained]
    differ = [index == 1 or len({key[index] for key in parts}) > 1 for index in range(3)]
    return ["/".join(part for part, told in zip(key, differ, strict=True) if told) for key in parts]
