"""Contract "Listener and Client": addresses, authentication, close."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys

import pytest

from tests.support import Background


def connected(impl, listener, key=None):
    """A client's connection to a listener and the listener's connection to it."""
    call = Background(impl.connection.Client, listener.address, authkey=key)
    server = listener.accept()
    return call.result(), server


def test_the_default_family_is_a_socket_file_in_a_private_directory(impl):
    with impl.connection.Listener() as listener:
        path = listener.address
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        with impl.connection.Listener() as second:
            assert second.address != path


def test_the_family_follows_from_the_address(impl, tmp_path):
    with impl.connection.Listener(("127.0.0.1", 0)) as listener:
        host, port = listener.address
        assert host == "127.0.0.1" and port > 0
        client, server = connected(impl, listener)
        assert listener.last_accepted[0] == "127.0.0.1"
        client.close()
        server.close()
    path = str(tmp_path / "socket")
    with impl.connection.Listener(path) as listener:
        assert listener.address == path
        client, server = connected(impl, listener)
        client.close()
        server.close()


def test_a_family_may_be_named(impl, tmp_path):
    with impl.connection.Listener(family="AF_INET") as listener:
        client = Background(impl.connection.Client, listener.address, "AF_INET")
        listener.accept().close()
        client.result().close()
    with impl.connection.Listener(str(tmp_path / "s"), "AF_UNIX", 5) as listener:
        assert stat.S_ISSOCK(os.stat(listener.address).st_mode)


def test_an_unknown_family_is_a_value_error(impl):
    with pytest.raises(ValueError, match="^unrecognized family$"):
        impl.connection.Listener(family="AF_NONSENSE")
    for call in (impl.connection.Listener, impl.connection.Client):
        with pytest.raises(ValueError, match="AF_PIPE is not recognized"):
            call(r"\\.\pipe\name", "AF_PIPE")


def test_connections_over_a_listener_exchange_objects_and_meet_the_end(impl):
    with impl.connection.Listener() as listener:
        assert listener.last_accepted is None
        client, server = connected(impl, listener)
        assert isinstance(client, impl.connection.Connection)
        assert isinstance(server, impl.connection.Connection)
        client.send(["to", "server"])
        assert server.recv() == ["to", "server"]
        server.send_bytes(b"to client")
        assert client.recv_bytes() == b"to client"
        assert (client.readable, client.writable) == (True, True)
        server.close()
        assert client.poll(20)
        with pytest.raises(EOFError):
            client.recv()
        client.close()


def test_a_listener_is_a_context_manager_and_close_removes_its_socket_file(impl):
    listener = impl.connection.Listener()
    path = listener.address
    with listener as entered:
        assert entered is listener
        assert os.path.exists(path)
    assert not os.path.exists(path)
    assert listener.close() is None
    with pytest.raises(OSError, match="^listener is closed$"):
        listener.accept()
    with pytest.raises(AttributeError):
        listener.address  # noqa: B018


def test_a_client_without_a_listener_gets_the_operating_systems_error(impl, tmp_path):
    with pytest.raises(FileNotFoundError):
        impl.connection.Client(str(tmp_path / "nothing"))
    with impl.connection.Listener(("127.0.0.1", 0)) as listener:
        address = listener.address
    with pytest.raises(ConnectionRefusedError):
        impl.connection.Client(address)


def test_the_same_key_on_both_sides_is_accepted(impl):
    with impl.connection.Listener(authkey=b"secret") as listener:
        client, server = connected(impl, listener, b"secret")
        client.send("authenticated")
        assert server.recv() == "authenticated"
        client.close()
        server.close()


def test_a_wrong_key_is_an_authentication_error_on_both_sides(impl):
    with impl.connection.Listener(authkey=b"secret") as listener:
        call = Background(impl.connection.Client, listener.address, authkey=b"wrong")
        with pytest.raises(impl.AuthenticationError, match="digest received was wrong"):
            listener.accept()
        with pytest.raises(impl.AuthenticationError, match="digest sent was rejected"):
            call.result()
        # The listener goes on.
        client, server = connected(impl, listener, b"secret")
        client.close()
        server.close()


def test_a_key_that_is_no_bytes_is_a_type_error_after_connecting(impl):
    with impl.connection.Listener() as listener:
        call = Background(impl.connection.Client, listener.address, authkey="text")
        server = listener.accept()
        with pytest.raises(TypeError, match="^authkey should be a byte string$"):
            call.result()
        server.close()


def test_an_unreachable_address_is_reported_before_a_wrong_key(impl, tmp_path):
    with pytest.raises(FileNotFoundError):
        impl.connection.Client(str(tmp_path / "nothing"), authkey="text")


def test_without_a_key_nobody_is_authenticated(impl):
    with impl.connection.Listener(authkey=None) as listener:
        client, server = connected(impl, listener, None)
        server.send("first message")
        assert client.recv() == "first message"
        client.close()
        server.close()


def listener_challenges(impl, key):
    """Whether a listener with this key sends a challenge to who connects."""
    with impl.connection.Listener(authkey=key) as listener:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(listener.address)
            call = Background(listener.accept)
            raw.settimeout(0.2)
            try:
                challenged = b"#CHALLENGE#" in raw.recv(1000)
            except TimeoutError:
                challenged = False
            raw.close()
            with contextlib.suppress(EOFError, OSError):
                call.result().close()
    return challenged


def test_a_listener_with_an_empty_key_challenges_only_from_3_13_on(impl):
    assert listener_challenges(impl, b"key")
    assert not listener_challenges(impl, None)
    # Changed during 3.12's life; its first and 3.13's first are certain.
    if sys.version_info < (3, 12) or sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)):
        assert not listener_challenges(impl, b"")
    if sys.version_info >= (3, 13):
        assert listener_challenges(impl, b"")


def test_the_listener_challenges_first_and_names_sha256_from_3_12_on(impl):
    with impl.connection.Listener(authkey=b"secret") as listener:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(listener.address)
            call = Background(listener.accept)
            with impl.connection.Connection(os.dup(raw.fileno())) as plain:
                message = plain.recv_bytes()
            prefix = b"#CHALLENGE#{sha256}" if sys.version_info >= (3, 12) else b"#CHALLENGE#"
            assert message.startswith(prefix)
        with pytest.raises((EOFError, OSError)):
            call.result()


def test_a_client_that_only_knows_hmac_md5_is_accepted(impl):
    with impl.connection.Listener(authkey=b"secret") as listener:
        call = Background(_old_client, listener.address, b"secret")
        server = listener.accept()
        server.send("welcome")
        assert call.result() == "welcome"
        server.close()


def _old_client(address, key):
    """A client as before 3.12, with the standard's connection: answers and challenges by MD5."""
    import hmac
    from multiprocessing.connection import Connection

    raw = socket.socket(socket.AF_UNIX)
    raw.connect(address)
    with Connection(raw.detach()) as conn:
        challenge = conn.recv_bytes(256)
        assert challenge.startswith(b"#CHALLENGE#")
        conn.send_bytes(hmac.new(key, challenge[len(b"#CHALLENGE#") :], "md5").digest())
        assert conn.recv_bytes(256) == b"#WELCOME#"
        nonce = b"n" * 20
        conn.send_bytes(b"#CHALLENGE#" + nonce)
        assert hmac.compare_digest(
            conn.recv_bytes(256).rpartition(b"}")[2], hmac.new(key, nonce, "md5").digest()
        )
        conn.send_bytes(b"#WELCOME#")
        return conn.recv()
