from __future__ import annotations

import json

import pytest

from twinlens.contest.escrow import open_escrow, seal
from twinlens.contest.secret import Secret
from twinlens.errors import EscrowError


@pytest.fixture
def files(tmp_path):
    return tmp_path / "sealed.json", tmp_path / "opened.json"


def test_what_is_sealed_is_opened_and_hides_the_secret(files):
    digest = seal(Secret("1234", "5678"), *files, facts={"tier": "full"})
    assert open_escrow(*files) == Secret("1234", "5678")
    public = files[0].read_text()
    assert digest in public
    assert json.loads(public)["facts"] == {"tier": "full"}
    salt = json.loads(files[1].read_text())["salt"]
    assert not any(hidden in json.loads(public) for hidden in ("salt", "secret"))
    assert salt not in public
    assert "trigger" not in public


def test_the_same_secret_has_another_hash_each_time(tmp_path):
    made = {
        seal(Secret(), tmp_path / f"{name}.sealed", tmp_path / f"{name}.opened") for name in "ab"
    }
    assert len(made) == 2


@pytest.mark.parametrize("part", ["secret", "salt", "facts"])
def test_what_was_changed_afterwards_is_refused(files, part):
    seal(Secret(), *files, facts={"tier": "full"})
    path = files[0] if part == "facts" else files[1]
    content = json.loads(path.read_text())
    content[part] = {"secret": Secret("1", "2").plain(), "salt": "0" * 64, "facts": {}}[part]
    path.write_text(json.dumps(content))
    with pytest.raises(EscrowError, match="another"):
        open_escrow(*files)


def test_what_is_no_escrow_is_refused(files):
    with pytest.raises(EscrowError, match="cannot be read"):
        open_escrow(*files)
    seal(Secret(), *files)
    with pytest.raises(EscrowError, match="not written over"):
        seal(Secret("1", "2"), *files)
    with pytest.raises(EscrowError, match="no twinlens escrow"):
        open_escrow(files[1], files[0])
