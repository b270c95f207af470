"""Federated learning, simulated: who holds what, what a client does, how answers are averaged, and what is told."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from click.testing import CliRunner
from scipy.optimize import brentq
from scipy.stats import norm

from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.federated import environment, simulation
from pipeline.federated.clients import SHARED, Clients, clients_of_table, dealt, made_up_clients, takes_as_clients
from pipeline.federated.descent import LocalRows, Weights, descend, rows_of_client
from pipeline.federated.scoring import alone, head_of, out_of_fold, weights_without
from pipeline.federated.simulation import Settings, simulate
from pipeline.federated.standardizing import Standardization
from pipeline.files import layout, write_text
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import read_head
from pipeline.heads.weighing import row_weights
from pipeline.images.codec import encode_jpeg
from pipeline.litert.learner import Learner
from pipeline.litert.trainable import HeadShape, with_training
from pipeline.pictures.rounds import rounds_picture
from pipeline.processes.progress import Progress
from pipeline.takes.rows import Rows, Unit
from pipeline.takes.splits import NONE, TRAIN
from pipeline.tools.cli import viewfinder
from pipeline.tools.federate import Request, _settings, table
from tests import tiny_project
from tests.conftest import PROJECT
from tests.tiny_models import NUM_FEATURES, SCHEMES, backbone

LABELS = ("cup", "hammer")
SETTINGS = Settings(
    rounds=3,
    share=1.0,
    drop=0.0,
    local_epochs=1,
    learning_rate=0.1,
    momentum=0.0,
    seed=0,
    clip=None,
    noise=0.0,
    delta=1e-3,
)
NOTHING = np.zeros(0, np.int64)


def made(num_takes=3, num_frames=4, num_strangers=3, copies=1, takes_of=None):
    """Return rows of takes of both labels, frames and copies, and pictures of other things behind them."""
    takes = takes_of or [(label, f"{number}.mp4") for label in LABELS for number in range(num_takes)]
    units = [Unit(label, f"{label}/{take}", TRAIN, is_whole=True) for label, take in takes]
    units += [Unit(NONE, f"data/strangers/{number}.jpg", TRAIN, is_whole=True) for number in range(num_strangers)]
    draw, columns = np.random.default_rng(0), []
    for number, unit in enumerate(units):
        label = [*LABELS, NONE].index(unit.label)
        for frame in range(1 if unit.is_stranger else num_frames):
            for copy in range(1 if unit.is_stranger else 1 + copies):
                features = draw.normal(0, 0.7, NUM_FEATURES) + 1.5 * (np.arange(NUM_FEATURES) % 3 == label)
                columns.append((features, label, number, copy, f"{number}-{frame}"))
    features, label_indices, unit_indices, copy_numbers, frame_ids = zip(*columns, strict=True)
    return Rows(
        np.array(features, np.float32),
        np.array(label_indices, np.int64),
        np.array(unit_indices, np.int64),
        np.array(copy_numbers, np.int64),
        np.array(frame_ids, object),
        LABELS,
        tuple(units),
    )


def all_weights(rows):
    return weights_without(rows, NOTHING, class_balance=False)


def local_rows(clients, client):
    rows = clients.rows
    return rows_of_client(rows.features, rows.label_indices, all_weights(rows), clients.client_of_row, client)


def central_descent(rows, settings, num_steps):
    start = Weights.zeros(NUM_FEATURES, rows.num_outputs)
    everything = LocalRows(rows.features, rows.label_indices, all_weights(rows))
    return descend(start, everything, settings.learning_rate, num_steps)


def in_float64(rows, learning_rate, num_steps):
    """The same by the textbook: the gradient of the mean cross-entropy of a softmax regression, in float64."""
    weights = row_weights(rows.label_indices, len(rows.labels), class_balance=False).astype(np.float64)
    matrix, bias = np.zeros((NUM_FEATURES, rows.num_outputs)), np.zeros(rows.num_outputs)
    for _ in range(num_steps):
        slopes = [np.zeros_like(matrix), np.zeros_like(bias)]
        for x, label, weight in zip(rows.features.astype(np.float64), rows.label_indices, weights, strict=True):
            exponentials = np.exp(x @ matrix + bias)
            error = exponentials / exponentials.sum() - np.eye(len(bias))[label]
            slopes[0] += weight * np.outer(x, error)
            slopes[1] += weight * error
        matrix = matrix - learning_rate * slopes[0] / weights.sum()
        bias = bias - learning_rate * slopes[1] / weights.sum()
    return matrix, bias


def test_a_step_is_that_of_the_gradient():
    rows = made()
    for found, expected in zip(central_descent(rows, SETTINGS, 5), in_float64(rows, 0.1, 5), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_step_is_that_of_the_model_that_learns_on_a_phone():
    """What is simulated is what `train` of trainable.tflite does; what a row weighs stands in its row of labels."""
    clients = takes_as_clients(made())
    local = local_rows(clients, 1)
    shape = HeadShape(NUM_FEATURES, num_labels=2, num_new_labels=1, knows_none=True)
    start = Weights.zeros(NUM_FEATURES, 3)
    phone = Learner(with_training(backbone(), *start, shape, len(local.row_weights)))
    labels = np.zeros((len(local.row_weights), shape.num_outputs), np.float32)
    labels[np.arange(len(labels)), np.array(shape.known_rows)[local.label_indices]] = local.row_weights
    for _ in range(3):
        phone.train(local.features, labels, 0.1, 0.0)
    learned, saved = descend(start, local, 0.1, 3), phone.save()
    np.testing.assert_allclose(saved["weights"][list(shape.known_rows)], learned.matrix.T, atol=1e-6)
    np.testing.assert_allclose(saved["bias"][list(shape.known_rows)], learned.bias, atol=1e-6)


def test_clients_together_count_each_row_once():
    """So the mean of their first steps, each counted by its weight, is the step on all rows in one place."""
    takes = [("cup", "a.mp4"), ("cup", "b.mp4"), ("hammer", "c.mp4"), (NONE, "d.mp4")]
    clients = takes_as_clients(made(takes_of=takes))
    local = [local_rows(clients, client) for client in range(len(clients.names))]
    assert sum(one.total_weight for one in local) == pytest.approx(all_weights(clients.rows).sum())
    start = Weights.zeros(NUM_FEATURES, 3)
    steps = [descend(start, one, 0.1, 1).matrix for one in local]
    mean = np.average(steps, axis=0, weights=[one.total_weight for one in local])
    np.testing.assert_allclose(mean, central_descent(clients.rows, SETTINGS, 1).matrix, atol=1e-6)


def test_takes_are_clients_and_a_live_photo_goes_with_its_video():
    names = [("cup", "IMG_1.mov"), ("cup", "IMG_1.heic"), ("hammer", "IMG_1.mov"), ("hammer", "x.mp4")]
    clients = takes_as_clients(made(takes_of=names))
    assert clients.names == ("cup/IMG_1.mov", "hammer/IMG_1.mov", "hammer/x.mp4")
    of_unit = dict(zip(clients.rows.unit_indices, clients.client_of_row, strict=True))
    assert [of_unit[unit] for unit in range(7)] == [0, 0, 1, 2, SHARED, SHARED, SHARED]


def test_a_table_names_clients(folder):
    text = "take,client\ncup/0.mp4,Ada\ncup/1.mp4,Ada\nhammer/0.mp4,Ada\nhammer/1.mp4,Bo\n"
    write_text(Path("clients.csv"), text)
    clients = clients_of_table(made(2), Path("clients.csv"))
    assert clients.names == ("Ada", "Bo")
    assert np.bincount(clients.client_of_row + 1).tolist() == [3, 24, 8]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("take,person\n", r"the table clients.csv cannot be read \(its first line is 'take,person'\)"),
        ("take,client\ncup/0.mp4\n", "line 2 has not two fields"),
        ("take,client\ncup/0.mp4,A\ncup/0.mp4,B\n", "line 3 gives `cup/0.mp4` to another client"),
        ("take,client\ncup/0.mp,A\n", r"there is no take `cup/0.mp`(.|\n)*did you mean `cup/0.mp4`\?"),
        ("take,client\ncup/0.mp4,A\n", "3 takes without a client, such as `cup/1.mp4`"),
    ],
)
def test_a_table_that_does_not_say_who_filmed_what_is_refused(folder, text, told):
    write_text(Path("clients.csv"), text)
    with pytest.raises(InputError, match=told):
        clients_of_table(made(2), Path("clients.csv"))


def test_folds_hold_each_client_out_once_and_keep_every_label():
    clients = takes_as_clients(made())
    folds = clients.folds(3)
    assert [len(np.unique(clients.client_of_row[fold])) for fold in folds] == [2, 2, 2]
    assert sorted(np.concatenate(folds)) == np.flatnonzero(clients.client_of_row != SHARED).tolist()


def test_a_client_that_alone_has_a_label_is_never_held_out():
    clients = takes_as_clients(made(takes_of=[("cup", "a.mp4"), ("hammer", "b.mp4"), ("hammer", "c.mp4")]))
    assert 0 not in clients.client_of_row[np.concatenate(clients.folds(5))]


def test_clients_without_whom_a_label_is_gone_are_told():
    rows = made(2)
    one = Clients(rows, np.where(rows.label_indices == 2, SHARED, 0), ("all",), share_takes=False)
    with pytest.raises(InputError, match=r"no client is left to learn cup from(.|\n)*more folds"):
        one.folds(2)


@pytest.mark.parametrize(("num_clients", "shares_takes"), [(6, False), (7, True), (24, True), (48, True)])
def test_clients_are_made_up_of_takes_or_frames_or_copies(num_clients, shares_takes):
    clients = made_up_clients(made(), num_clients, 0.3, seed=1)
    assert clients.share_takes == shares_takes
    assert np.unique(clients.client_of_row).tolist() == [SHARED, *range(num_clients)]
    held_out = [set(clients.rows.unit_indices[fold].tolist()) for fold in clients.folds(3)]
    assert sum(map(len, held_out)) == len(set().union(*held_out)) == 6  # a take is never on both sides


def test_more_clients_than_rows_are_refused():
    with pytest.raises(ConfigurationError, match="--num-clients 49, and 48 frames and copies"):
        made_up_clients(made(), 49, None, seed=0)


def test_skew_makes_clients_differ_and_every_item_has_one():
    labels = np.arange(1200) % 6

    def share_of_main_label(skew):
        clients = dealt(labels, 60, skew, seed=0)
        assert np.bincount(clients, minlength=60).tolist() == [20] * 60
        return np.mean([np.bincount(labels[clients == client]).max() / 20 for client in range(60)])

    assert share_of_main_label(None) < share_of_main_label(1.0) < share_of_main_label(0.1)
    np.testing.assert_array_equal(dealt(labels, 60, 0.3, seed=5), dealt(labels, 60, 0.3, seed=5))


def test_what_is_held_out_counts_nothing():
    rows = made()
    fold = np.flatnonzero(rows.unit_indices == 0)
    weights = weights_without(rows, fold, class_balance=True)
    assert (weights[fold] == 0).all()
    kept = np.setdiff1d(np.arange(len(rows)), fold)
    np.testing.assert_array_equal(weights[kept], row_weights(rows.label_indices[kept], 2, class_balance=True))


def test_each_frame_is_asked_of_the_head_that_has_not_seen_it():
    rows = made()
    folds = takes_as_clients(rows).folds(3)

    def always(fold):  # says cup in the first fold and hammer in the others
        weights = Weights.zeros(NUM_FEATURES, 3)
        weights.bias[min(fold, 1)] = 9
        return head_of(weights, rows)

    found = out_of_fold(rows, folds, always)
    frames = np.flatnonzero(rows.are_frames & rows.are_of_labels)
    expected = np.where(np.isin(frames, folds[0]), 0, 1)
    np.testing.assert_array_equal(found.predicted, expected)
    np.testing.assert_array_equal(found.actual, rows.label_indices[frames])


def test_a_client_alone_is_asked_about_what_it_does_not_hold():
    """A take knows one label alone: right on the other takes of its label, wrong on the rest."""
    rows = made(num_strangers=0)
    clients = takes_as_clients(replace(rows, features=np.abs(rows.features)))
    own = alone(clients, replace(SETTINGS, local_epochs=20), class_balance=False)
    assert own.num_clients == 6
    assert own.is_right.mean() == pytest.approx(2 / 5)
    assert len(own.takes) == 6 * 5 * 4


def test_features_are_standardized_by_what_all_have():
    clients = takes_as_clients(made(num_strangers=40))
    standardized, scale = clients.standardized()
    strangers = clients.rows.features[clients.client_of_row == SHARED].astype(np.float64)
    expected = (clients.rows.features - strangers.mean(0)) / (strangers.std(0) + 0.1 * strangers.std(0).mean())
    np.testing.assert_allclose(standardized.rows.features, expected, atol=1e-5)
    draw = np.random.default_rng(1)
    weights = Weights(draw.normal(size=(NUM_FEATURES, 3)).astype(np.float32), np.ones(3, np.float32))
    told = head_of(weights, clients.rows).probabilities(standardized.rows.features)
    folded = head_of(scale.folded(weights), clients.rows).probabilities(clients.rows.features)
    np.testing.assert_allclose(folded, told, atol=1e-5)


def test_the_table_of_phones_names_each_sample():
    table = pd.read_csv(PROJECT / "examples/federate/phones.csv")
    videos = PROJECT / "data/videos"
    assert sorted(table["take"]) == sorted(path.relative_to(videos).as_posix() for path in videos.glob("*/*.*"))
    assert set(table["client"]) == {"iPhone", "Android", "others"}


@pytest.mark.parametrize("num_strangers", [0, 1])
def test_without_pictures_of_other_things_features_stay_as_they_are(num_strangers):
    clients = takes_as_clients(made(num_strangers=num_strangers))
    np.testing.assert_array_equal(clients.standardized()[0].rows.features, clients.rows.features)


def test_features_that_do_not_vary_stay_finite():
    scale = Standardization.of(np.full((3, 2), 5, np.float32))
    np.testing.assert_array_equal(scale.applied(np.array([[5, 6]], np.float32)), [[0, 1]])


def test_what_is_left_open_is_filled_in():
    clients = takes_as_clients(made())
    rows = clients.rows
    settings = _settings(Request(), clients)
    lengths = np.sum(rows.features[rows.are_frames].astype(np.float64) ** 2, axis=1)
    assert settings.learning_rate == pytest.approx(2 / (lengths.mean() + 1))
    assert settings.share == 1
    assert settings.delta == pytest.approx(6**-1.1)
    assert settings.momentum == 0.9
    assert _settings(Request(clip=0.1), clients).momentum == 0
    many = replace(clients, names=tuple(map(str, range(1000))))
    assert _settings(Request(), many).share == 0.05


def test_the_picture_is_a_picture():
    drawn = rounds_picture(
        [0.1, 0.5, 0.8], {"low": 0.7, "high": 0.9}, central=0.9, alone=0.4, asked_of="clients", num_clients=6
    )
    assert drawn.startswith(b"\x89PNG")


RESULT = {
    "clients": {"num": 1000, "share_takes": True, "num_folds": 5, "held_out": "takes"},
    "settings": {"share": 0.05, "rounds": 30, "local_epochs": 10, "clip": 0.1},
    "federated": {"accuracy": 0.8, "interval": {"low": 0.7, "high": 0.9}, "take_accuracy": 0.85},
    "central": {"accuracy": 0.9, "interval": {"low": 0.8, "high": 1.0}, "take_accuracy": 0.95},
    "alone": {"accuracy": 0.4, "interval": {"low": 0.3, "high": 0.5}},
    "federated_minus_central": [-0.12, 0.021],
    "privacy": {"epsilon": 3.21, "delta": 5e-4},
    "seconds": 61.0,
}


def test_what_a_simulation_cannot_show_is_told():
    told = table(RESULT)
    assert [line.split() for line in told.splitlines()][1] == ["federated", "80.0%", "70.0%", "to", "90.0%", "85.0%"]
    assert "1000 clients, 50 of them a round, 30 rounds of 10 steps; 5 folds of takes" in told
    assert "federated minus central, on the same frames: -12.0 to +2.1 points" in told
    assert "this is optimistic" in told
    assert "epsilon 3.21 at delta 5.0e-04" in told
    assert "that gives no privacy" in table(RESULT | {"privacy": None})


def test_options_that_contradict_each_other_are_refused(folder):
    for name in ("dvc.yaml", "params.yaml"):
        write_text(Path(name), "{}\n")
    for options, told in (
        (["--clients", "a.csv", "--num-clients", "3"], "--clients and --num-clients"),
        (["--skew", "1"], "--skew without --num-clients"),
        (["--noise", "1"], "--noise without --clip"),
        (["--momentum", "0.5", "--clip", "1"], "--momentum with --clip"),
        (["--drop", "0.5", "--clip", "1"], "--drop with --clip"),
    ):
        done = CliRunner().invoke(viewfinder, ["federate", *options])
        assert f"options that do not go together: {told}" in done.stderr
        assert done.exit_code == ConfigurationError.exit_status


def test_a_tuned_backbone_and_a_scheme_that_is_not_there_are_refused(folder):
    params = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    write_text(Path("dvc.yaml"), "{}\n")
    write_text(Path("params.yaml"), params)
    done = CliRunner().invoke(viewfinder, ["federate"])
    assert "no bottlenecks of the scheme `float32` in data/bottlenecks/float32" in done.stderr
    write_text(Path("params.yaml"), params.replace("mode: head ", "mode: finetune "))
    done = CliRunner().invoke(viewfinder, ["federate"])
    assert "a backbone that has learned from the takes" in done.stderr


def test_a_set_up_that_fails_leaves_nothing_and_says_why(monkeypatch, folder):
    write_text(Path("lock"), "flwr==0.0.0 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setattr(environment, "LOCK", folder / "lock")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        PipelineError, match=r"setting up Flower in .cache/federate failed: ERROR(.|\n)*connect and try"
    ):
        environment.set_up()
    assert list(environment.FOLDER.iterdir()) == []


def test_a_simulation_that_dies_is_told_with_its_last_words(monkeypatch):
    monkeypatch.setattr(simulation, "_MAIN", "import sys; sys.exit('clients failed: no answer')")
    monkeypatch.setattr(simulation, "set_up", lambda: Path(sys.executable))
    told = r"the simulation ended with status 1; Flower last printed:\n +clients failed: no answer"
    with pytest.raises(PipelineError, match=told):
        run(takes_as_clients(made()), SETTINGS)


def test_ctrl_c_ends_what_was_started(monkeypatch, folder):
    code = "import os, sys, time; open({!r}, 'w').write(str(os.getpid())); "
    code += "os.write(int(sys.argv[2]), b'.'); time.sleep(600)"

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "_MAIN", code.format(str(folder / "pid")))
    monkeypatch.setattr(simulation, "set_up", lambda: Path(sys.executable))
    monkeypatch.setattr(Progress, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(takes_as_clients(made()), SETTINGS)
    assert not psutil.pid_exists(int((folder / "pid").read_text(encoding="utf-8")))


def run(clients, settings, runs=None):
    return simulate(clients, runs or [all_weights(clients.rows)], settings, title="test")


@pytest.fixture(scope="module")
def flower():
    """Set it up, or take what is there: the project's own, so that it is made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "FOLDER", PROJECT / ".cache/federate")
        patch.setattr(simulation, "num_workers", lambda: 1)  # which Ray starts sooner
        try:
            environment.set_up()
        except PipelineError as error:
            if any(word in error.found for word in ("No matching distribution", "onnection", "resolve")):
                pytest.skip(f"PyPI cannot be reached: {error.found}")
            raise
        yield


@pytest.mark.slow
def test_federated_averaging_is_central_descent_if_clients_take_one_step(flower):
    """On Flower itself: six clients in the first run; in the second one alone, which has all that counts."""
    clients = takes_as_clients(made())
    rows = clients.rows
    others = np.flatnonzero((clients.client_of_row != 0) & (clients.client_of_row != SHARED))
    only_one = weights_without(rows, others, class_balance=False)
    six, one = run(clients, SETTINGS, [all_weights(rows), only_one]).rounds
    np.testing.assert_allclose(six[-1].matrix, central_descent(rows, SETTINGS, 3).matrix, atol=1e-6)
    kept = np.flatnonzero(only_one)
    left = LocalRows(rows.features[kept], rows.label_indices[kept], only_one[kept])
    np.testing.assert_allclose(one[-1].matrix, descend(one[0], left, 0.1, 3).matrix, atol=1e-6)
    assert (one[-1].matrix != 0).any()


@pytest.mark.slow
def test_the_server_moves_on_by_momentum(flower):
    """Heavy ball: each step and nine tenths of the one before."""
    clients = takes_as_clients(made())
    rounds = run(clients, replace(SETTINGS, momentum=0.9)).rounds[0]
    matrix, step = np.zeros((NUM_FEATURES, 3)), np.zeros((NUM_FEATURES, 3))
    bias, bias_step = np.zeros(3), np.zeros(3)
    everything = LocalRows(clients.rows.features, clients.rows.label_indices, all_weights(clients.rows))
    for found in rounds[1:]:
        start = Weights(matrix.astype(np.float32), bias.astype(np.float32))
        learned = descend(start, everything, SETTINGS.learning_rate, 1)
        step, bias_step = 0.9 * step + learned.matrix - matrix, 0.9 * bias_step + learned.bias - bias
        matrix, bias = matrix + step, bias + bias_step
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-6)
        np.testing.assert_allclose(found.bias, bias, atol=1e-6)


@pytest.mark.slow
def test_clients_that_go_away_are_left_out(flower):
    clients = takes_as_clients(made())
    dropped = run(clients, replace(SETTINGS, rounds=2, drop=0.5)).rounds[0]
    steps = [descend(Weights.zeros(NUM_FEATURES, 3), local_rows(clients, i), 0.1, 1).matrix for i in range(6)]
    trios = [np.mean([steps[i] for i in trio], axis=0) for trio in TRIOS]
    assert min(np.abs(dropped[1].matrix - mean).max() for mean in trios) < 1e-6  # of three of six, equally large


@pytest.mark.slow
def test_a_client_that_fails_is_none_that_goes_away(flower):
    clients = takes_as_clients(made())
    clients.rows.label_indices[0] = 7  # no output of the head
    with pytest.raises(PipelineError, match=r"the simulation ended(.|\n)*1 of 6 clients failed: (.|\n)*out of bounds"):
        run(clients, SETTINGS, [all_weights(made())])


def delta_of(epsilon, mu):
    """Of Gaussian noise; r releases of noise multiplier z are as one of mu = sqrt(r) / z.

    Source: B. Balle and Y.-X. Wang, Improving the Gaussian Mechanism for Differential Privacy, ICML 2018.
    """
    return norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)


TRIOS = [(i, j, k) for i in range(6) for j in range(i) for k in range(j)]


@pytest.mark.slow
def test_the_command_from_bottlenecks_to_a_model_that_answers(flower, folder):
    tiny_project.make()
    tiny_project.make_bottlenecks(SCHEMES["int8"])
    write_text(Path("dvc.yaml"), "{}\n")
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    write_text(Path("params.yaml"), yaml.safe_dump(params | {"heads": {"material": "one"}}))
    options = ["--scheme", "int8", "--rounds", "2", "--folds", "2", "--clip", "0.001", "--noise", "3", "--json"]
    done = CliRunner().invoke(viewfinder, ["federate", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert "federate: takes the first head alone, and leaves out: material\n" in done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((layout.FEDERATED / "result.json").read_text(encoding="utf-8"))
    assert (result["clients"]["num"], len(result["accuracy_by_round"])) == (6, 3)
    assert result["federated"]["num_frames"] == result["central"]["num_frames"] == 6 * tiny_project.NUM_FRAMES
    head = read_head(layout.FEDERATED / "int8.safetensors")
    assert head.labels == tiny_project.LABELS
    assert head.threshold == result["threshold"]
    delta = result["privacy"]["delta"]
    mu = np.sqrt(2) / 3
    exact = brentq(lambda epsilon: delta_of(epsilon, mu) - delta, 0, 50)
    # Accounting by Renyi orders is above that, but not above its first form (I. Mironov, CSF 2017).
    assert exact <= result["privacy"]["epsilon"] <= mu**2 / 2 + mu * np.sqrt(2 * np.log(1 / delta))
    scale = json.loads((layout.FEDERATED / "standardization.json").read_text(encoding="utf-8"))
    learned = head.weights * np.array(scale["deviation"])[:, np.newaxis]
    assert learned.std() == pytest.approx(np.sqrt(2) * 3 * 0.001 / 6, rel=0.4)  # it is noise for the most part
    model = (layout.FEDERATED / "model.tflite").read_bytes()
    assert model == classifier(layout.backbone("int8").read_bytes(), head, name="efficientnet_lite0 int8, federated")
    assert (layout.FEDERATED / "rounds.png").read_bytes().startswith(b"\x89PNG")
    (folder / "red.jpg").write_bytes(encode_jpeg(tiny_project.picture(0, 1), quality=95))
    asked = ["predict", "red.jpg", "--model", str(layout.FEDERATED / "model.tflite"), "--threshold", "0"]
    answered = CliRunner().invoke(viewfinder, asked, catch_exceptions=False)
    assert any(label in answered.stdout for label in head.labels), answered.stderr
