"""Whether the oracle can tell right from wrong: a mistake in reading a config changes the logits, another wording does not."""
import shutil

import numpy as np
import pytest
from tiny_models import LONGEST, TRANSLATIONS, VARIANTS, change_config, reference_logits, sequences, write_model

IDS = sequences()[-1]
# Ten times what test_families.py allows.
VISIBLE = 1e-3


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("models")
    made = {}

    def folder(name):
        if name not in made:
            made[name] = write_model(VARIANTS[name], parent / name)
        return made[name]

    yield folder
    shutil.rmtree(parent)


def short(change):
    return ",".join(f"{key}={str(value).replace(' ', '')}" for key, value in change.items())


@pytest.mark.parametrize(
    "name,mistake",
    [pytest.param(name, mistake, id=f"{name}-{short(mistake)}") for name in VARIANTS for mistake in VARIANTS[name].mistakes],
)
def test_a_mistake_shows(tmp_path, folders, name, mistake):
    wrong = tmp_path / "wrong"
    shutil.copytree(folders(name), wrong)
    change_config(wrong, mistake)
    difference = np.abs(reference_logits(wrong, IDS) - reference_logits(folders(name), IDS)).max()
    shutil.rmtree(wrong)
    assert difference > VISIBLE


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_translated_config_means_the_same(folders, name):
    np.testing.assert_array_equal(reference_logits(folders(name), IDS), reference_logits(folders(TRANSLATIONS[name]), IDS))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_tame_and_depend_on_what_came_before(folders, name):
    logits = reference_logits(folders(name), IDS)
    assert logits.shape == (LONGEST, 131)
    assert 0.5 < logits.std() < 10, "rounding must stay far below the tolerance of test_families.py"
    other_start = ((IDS[0] + 1) % 131, *IDS[1:])
    difference = np.abs(reference_logits(folders(name), other_start) - logits).max(axis=1)
    assert difference[1] > VISIBLE
