"""Credentials are held, never shown."""

from multi_fetch.registry.credentials import Credential


def test_repr_names_what_is_held_and_shows_none_of_it() -> None:
    credential = Credential(username="alice", password="s3cret", identity_token="idt")
    assert repr(credential) == "Credential(username=***, password=***, identity_token=***)"
    assert str(credential) == repr(credential)


def test_a_login_is_a_username_or_a_password() -> None:
    assert Credential(username="alice").has_login
    assert Credential(password="s3cret").has_login
    assert not Credential(identity_token="idt", registry_token="rt").has_login
