"""Users, their tokens, how often a password may be tried, and where a server may listen."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.errors import ConfigError
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.security.desk import PasswordDesk
from medseg_nca.serving.security.listening import check_certificate, check_listening, is_loopback
from medseg_nca.serving.security.login_limit import LoginLimit, TryLimit
from medseg_nca.serving.security.tokens import Tokens
from medseg_nca.serving.security.users import UserFile
from medseg_nca.serving.settings import ServeSettings

pytest.importorskip(
    "argon2", reason="argon2-cffi is not installed: pip install 'medseg-nca[serve]'"
)
PASSWORD = "correct horse"


def command(*args: object, password: str = PASSWORD) -> str:
    options = ("--password-stdin",) if "remove" not in args else ()
    done = CliRunner().invoke(cli, ["user", *map(str, args), *options], input=f"{password}\n")
    return f"{done.exit_code} {done.output}"


def test_a_user_is_added_changed_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    assert command("add", "ann", "--users", file, "--role", "admin").startswith("0")
    users = UserFile(file)
    assert PASSWORD not in file.read_text()
    assert "$argon2id$" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    found = users.check("ann", PASSWORD)
    assert found is not None
    assert found.may("user")
    assert users.check("ann", "wrong horse") is None
    assert users.check("bob", PASSWORD) is None
    assert "there is such a user" in command("add", "ann", "--users", file)
    assert "10 to" in command("add", "bob", "--users", file, password="short")
    assert "cannot be a user" in command("add", "../x", "--users", file)
    assert command("passwd", "ann", "--users", file, password="another horse").startswith("0")
    assert users.check("ann", PASSWORD) is None  # seen at once
    assert users.check("ann", "another horse") is not None
    assert command("remove", "ann", "--users", file).startswith("0")
    assert users.names == ()
    assert "2 Error: Unknown user 'ann'" in command("remove", "ann", "--users", file)


def test_commands_at_once_lose_no_user(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as threads:  # each has a file of its own open, as a process has
        list(threads.map(
            lambda name: UserFile(tmp_path / "users.json").add(name, PASSWORD, "user"), names
        ))  # fmt: skip
    assert UserFile(tmp_path / "users.json").names == tuple(sorted(names))


def test_what_is_no_file_of_users_is_named(tmp_path: Path) -> None:
    for text in ("", "[]", '{"users": {"ann": {"role": "king", "hash": "x"}}}'):
        (tmp_path / "users.json").write_text(text)
        with pytest.raises(ConfigError, match=r"users\.json: is no file of users"):
            UserFile(tmp_path / "users.json")


def test_a_token_ends_with_time_password_user_and_logout(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users.json")
    users.add("ann", PASSWORD, "user")
    store = JobStore(tmp_path / "state")
    tokens = Tokens(store, users, age=3600)
    user = users.get("ann")
    assert user is not None
    token = tokens.issue(user)
    assert tokens.user_of(token) == user
    assert tokens.user_of(token[:-1]) is None
    assert token.encode() not in (tmp_path / "state" / "jobs.sqlite-wal").read_bytes()
    assert Tokens(store, users, age=-1).issue(user) is not None
    assert tokens.user_of(Tokens(store, users, age=-1).issue(user)) is None
    other = tokens.issue(user)
    tokens.revoke(other)
    assert tokens.user_of(other) is None
    users.change("ann", "another horse")
    assert tokens.user_of(token) is None
    again = users.get("ann")
    assert again is not None
    token = tokens.issue(again)
    users.remove("ann")
    assert tokens.user_of(token) is None
    store.close()


def test_after_some_wrong_passwords_one_has_to_wait() -> None:
    limit = LoginLimit(TryLimit(3, 0.2), TryLimit(4, 0.2), TryLimit(5, 0.2))
    for _ in range(3):
        assert limit.begin("ann", "here") == 0
    assert 0 < limit.begin("ann", "here") <= 0.2
    assert limit.begin("ann", "elsewhere") == 0  # nobody locks a user out so soon
    assert limit.begin("ann", "far away") == 0
    assert limit.begin("ann", "further away") > 0
    assert limit.begin("bob", "here") == 0
    assert limit.begin("eve", "here") > 0
    time.sleep(0.21)
    assert limit.begin("ann", "here") == 0
    for _ in range(10):  # right passwords are not counted
        assert limit.begin("tom", "home") == 0
        limit.undo("tom", "home")


def test_tries_at_once_are_no_more_than_tries_in_a_row() -> None:
    limit = LoginLimit(TryLimit(5, 60.0))
    with ThreadPoolExecutor(16) as threads:
        waits = list(threads.map(lambda _: limit.begin("ann", "here"), range(60)))
    assert waits.count(0.0) == 5


def test_only_some_passwords_wait_to_be_checked(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users.json")
    users.add("ann", PASSWORD, "user")
    desk = PasswordDesk(users, most=2)

    async def ask() -> list[object]:
        tries = (desk.check("ann", PASSWORD) for _ in range(5))
        return list(await asyncio.gather(*tries, return_exceptions=True))

    found = asyncio.run(ask())
    refused = [one for one in found if isinstance(one, Refused)]
    assert [one.status for one in refused] == [429] * 3
    assert found.count(users.get("ann")) == 2
    assert asyncio.run(desk.check("ann", "wrong horse")) is None  # there is room again


def settings(tmp_path: Path, **changes: object) -> ServeSettings:
    for name in ("users", "cert", "key"):
        (tmp_path / name).touch()
    return ServeSettings(models=("zoo:nuclei",), state=tmp_path, **changes)  # type: ignore[arg-type]


def test_beyond_this_machine_users_and_tls_are_needed(tmp_path: Path) -> None:
    tls = {"tls_cert": tmp_path / "cert", "tls_key": tmp_path / "key"}
    check_listening(settings(tmp_path), users=0)
    check_listening(settings(tmp_path, host="0.0.0.0", insecure=True), users=0)
    check_listening(settings(tmp_path, host="0.0.0.0", **tls), users=1)
    with pytest.raises(ConfigError, match=r"needs users .* and TLS"):
        check_listening(settings(tmp_path, host="0.0.0.0"), users=0)
    with pytest.raises(ConfigError, match="needs TLS"):
        check_listening(settings(tmp_path, host="10.0.0.1"), users=1)
    with pytest.raises(ConfigError, match=r"needs users \(--users\)\."):
        check_listening(settings(tmp_path, host="::", **tls), users=0)
    with pytest.raises(ConfigError, match="nobody could log in"):
        check_listening(settings(tmp_path, users=tmp_path / "users"), users=0)
    with pytest.raises(ConfigError, match="certificate and its key"):
        settings(tmp_path, tls_cert=tmp_path / "cert").check()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    check_certificate(settings(tmp_path))
    found = settings(tmp_path, tls_cert=tmp_path / "cert", tls_key=tmp_path / "key")
    (tmp_path / "cert").write_text("-----BEGIN CERTIFICATE-----\njunk\n")
    with pytest.raises(ConfigError, match=r"--tls-cert .*cannot be used"):
        check_certificate(found)


def test_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "10.1.1.1", "example.org", "", "localhost.x"))
    )


def test_the_command_refuses_before_it_listens(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["serve", "--models", "zoo:nuclei", "--host", "0.0.0.0"])
    assert done.exit_code == 2
    assert "needs users (--users) and TLS" in done.output
    assert not list(tmp_path.iterdir())
