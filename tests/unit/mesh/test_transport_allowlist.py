"""Which key may be what."""

import pytest

from mesh.errors import SettingsError
from mesh.protocol.messages import Hello, Role, StageFacts
from mesh.protocol.wire import VERSION
from mesh.transport.allowlist import AllowList, Permit, check_key, read_allowance

KEY, OTHER = "a" * 40, "b" * 40


def hello(role: Role, stage: str = "") -> Hello:
    facts = StageFacts(stage, "", 1, 1.0, 1) if stage else None
    return Hello(role, 1, "mesh", (VERSION,), stage=facts)


@pytest.mark.parametrize(
    ("permit", "claim", "objection"),
    [
        (Permit("stage"), hello(Role.REPLICA, "any"), ""),
        (Permit("stage", "detect"), hello(Role.REPLICA, "detect"), ""),
        (Permit("supervisor"), hello(Role.SUPERVISOR), ""),
        (Permit("client"), hello(Role.CLIENT), ""),
        (Permit("gateway"), hello(Role.GATEWAY), ""),
        (
            Permit("stage", "detect"),
            hello(Role.REPLICA, "decode"),
            "your key is for the stage 'detect', not for 'decode'",
        ),
        (Permit("stage", "detect"), hello(Role.REPLICA), "your key is for the stage 'detect'"),
        (Permit("stage"), hello(Role.SUPERVISOR), "your key is for a stage, not for a supervisor"),
        (Permit("feed"), hello(Role.REPLICA, "any"), "your key is for a feed, not for a stage"),
    ],
)
def test_a_key_may_be_what_the_list_says(permit: Permit, claim: Hello, objection: str) -> None:
    said = AllowList({KEY: permit}).objection(KEY, claim)
    assert said.startswith(objection)
    assert bool(said) == bool(objection)


def test_a_key_that_is_not_on_the_list_may_be_nothing() -> None:
    allowance = AllowList({KEY: Permit("stage")})
    assert KEY in allowance
    assert OTHER not in allowance
    assert allowance.objection(OTHER, hello(Role.REPLICA, "a")) == "your key is not allowed here"


def test_a_list_is_read() -> None:
    text = f"""
    [[allowed]]
    role = "gateway"
    public = "{KEY}"
    [[allowed]]
    role = "stage"
    stage = "detect"
    public = "{OTHER}"
    """
    allowance = read_allowance(text, "allowed.toml")
    assert allowance.keys_for("gateway") == [KEY]
    assert allowance.keys_for("stage") == [OTHER]
    assert allowance.objection(OTHER, hello(Role.REPLICA, "decode"))
    assert read_allowance("", "allowed.toml").keys_for("stage") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[allowed", "allowed.toml: "),
        ("allowed = 3", r"write \[\[allowed\]\]"),
        ("allowed = [3]", "number 1 of .* other members"),
        (f'[[allowed]]\nrole = "feed"\npublic = "{KEY}"\nstages = []', "other members than role"),
        (f'[[allowed]]\nrole = "king"\npublic = "{KEY}"', "not 'king'"),
        (f'[[allowed]]\nrole = "feed"\nstage = "a"\npublic = "{KEY}"', "name of a stage"),
        (f'[[allowed]]\nrole = "stage"\nstage = 3\npublic = "{KEY}"', "name of a stage"),
        ('[[allowed]]\nrole = "feed"\npublic = "short"', "not a key"),
        ('[[allowed]]\nrole = "feed"', "public is not a key"),
    ],
)
def test_a_wrong_list_names_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        read_allowance(text, "allowed.toml")


def test_a_key_is_forty_characters_of_z85() -> None:
    assert check_key(KEY, "here") == KEY
    for wrong in (KEY[1:], KEY[1:] + " ", KEY[1:] + "~", None, 5):
        with pytest.raises(SettingsError, match="here is not a key"):
            check_key(wrong, "here")
