"""The way to the server: sslmode=verify-full trusts its own authority, and says of any other why not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from collector.config import StorageConfig
from collector.errors import StorageError
from collector.storage.postgres.database import Database
from tests.kit import postgres
from tests.kit.authority import Authority


async def is_encrypted(dsn: str) -> bool:
    database = Database(StorageConfig(engine="postgres", dsn=dsn), "test")
    try:
        async with database.connection() as connection:
            return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        await database.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_the_servers_certificate_is_looked_at(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    given = ours.give("server")
    with postgres.server() as node:
        node.put("server.crt", given.cert.read_text())
        node.put("server.key", given.key.read_text())
        node.configure("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n")
        node.stop()
        node.start()
        plain = node.dsn("postgres")
        by_name = plain.replace("127.0.0.1", "localhost")
        at = f"localhost:{node.port}"
        assert asyncio.run(is_encrypted(f"{by_name}?sslmode=verify-full&sslrootcert={ours.root}"))
        assert not asyncio.run(is_encrypted(f"{plain}?sslmode=disable"))
        with pytest.raises(StorageError) as refused:
            asyncio.run(is_encrypted(f"{by_name}?sslmode=verify-full&sslrootcert={others.root}"))
        assert str(refused.value).startswith(f"[storage] dsn: no TLS with {at}: its certificate is not trusted: ")
        with pytest.raises(StorageError, match="it names a file that is not there"):
            asyncio.run(is_encrypted(f"{by_name}?sslmode=verify-full&sslrootcert={tmp_path}/none.pem"))
