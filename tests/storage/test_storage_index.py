"""The index beside the journal: it never holds up the writer, and whatever happens to it, it comes back by itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import apsw
import pytest

from collector.core.flags import BOT
from collector.storage.ground.kept import know
from collector.storage.index import index
from collector.storage.index.index import BUCKET
from collector.storage.index.lookup import Lookup
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from tests.kit.journal_kit import DAY, HOUR, NOW, Kit, click, order


def test_a_fold_does_not_hold_up_the_writer(tmp_path: Path) -> None:
    """BEGIN IMMEDIATE takes the write lock of every attached database, unless that is attached read-only."""
    with Kit(tmp_path) as kit:
        kit.post(click("IwARbefore000"))
        db = index.open_index(kit.journal.data_dir, kit.config.storage)
        db.execute("BEGIN IMMEDIATE -- not from the cache of statements, which may be older than the attachment")
        (stored,) = kit.post(click("IwARduring000"))  # while the fold goes on, or it would fail as busy
        db.execute("ROLLBACK")
        db.close()
    assert stored.id == 2


def test_the_journal_cannot_be_written_through_the_index(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        db = index.open_index(kit.journal.data_dir, kit.config.storage)
        with pytest.raises(apsw.ReadOnlyError):
            db.execute("DELETE FROM source.click")
        db.close()


def fill(kit: Kit, count: int, first: int = 0) -> None:
    for start in range(first, first + count, 500):
        numbers = range(start, min(start + 500, first + count))
        kit.submit([kit.operation(click(f"IwARfill{n:08}", visitorId=f"v{n}")) for n in numbers])


def settle(path: Path) -> None:
    """Move the WAL into the file, so that damage to the file is damage."""
    db = apsw.Connection(str(path))
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()


def known(kit: Kit, number: int) -> bool:
    (again,) = kit.post(click(f"IwARfill{number:08}", visitorId=f"v{number}"))
    return bool(again.duplicate) and again.id == number + 1


@pytest.mark.parametrize("damage", ["deleted", "garbage", "cut", "of another database"])
def test_a_damaged_index_is_rebuilt_at_the_next_start(tmp_path: Path, damage: str) -> None:
    with Kit(tmp_path) as kit:
        fill(kit, 1200)
        kit.fold()
        fill(kit, 50, 1200)
    path = tmp_path / "index.db"
    settle(path)
    match damage:
        case "deleted":
            for file in tmp_path.glob("index.db*"):
                file.unlink()
        case "garbage":
            path.write_bytes(b"no database" * 1000)
        case "cut":
            path.write_bytes(path.read_bytes()[:20_000])
        case "of another database":
            with Kit(tmp_path / "other") as other:
                fill(other, 900, 5000)
                other.fold()
            settle(tmp_path / "other" / "index.db")
            for file in tmp_path.glob("index.db*"):
                file.unlink()
            path.write_bytes((tmp_path / "other" / "index.db").read_bytes())
    with Kit(tmp_path) as kit:
        assert all(known(kit, number) for number in (0, 600, 899, 1199, 1249))
        kit.fold()
        assert known(kit, 3)


def test_an_index_that_knows_more_than_the_journal_is_emptied(tmp_path: Path) -> None:
    """After a restored backup, or a power cut under durability = "normal"."""
    with Kit(tmp_path) as kit:
        fill(kit, 300)
        kit.fold()
    db = know(apsw.Connection(str(tmp_path / "collector.db")))
    db.execute("DELETE FROM click WHERE id > 200")
    db.close()
    (tmp_path / "acknowledged").unlink()  # else the loss is told, and the index made anew for that
    with Kit(tmp_path) as kit:
        fill(kit, 50, 1000)
        (again,) = kit.post(click(f"IwARfill{1007:08}", visitorId="v1007"))
        assert (again.duplicate, again.id) == (True, 208)
        assert known(kit, 150)


def test_a_deleted_index_is_rebuilt_on_disk_and_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Kit(tmp_path) as kit:
        fill(kit, 3000)
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    monkeypatch.setattr(index, "MOST_UNFOLDED", 1000, raising=False)
    with Kit(tmp_path) as kit:
        assert kit.journal.tail_rows() <= 1000
        assert known(kit, 0)
        assert known(kit, 2999)


def test_folding_happens_by_itself_and_the_tail_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collector.storage.index import tail
    from collector.storage.journal import flusher, transaction

    for module in (flusher, transaction):
        monkeypatch.setattr(module, "FOLD_ROWS", 500)
        monkeypatch.setattr(module, "FOLD_AT_ONCE", 500)
    monkeypatch.setattr(tail, "GENERATION", 500)
    with Kit(tmp_path) as kit:
        fill(kit, 6000)
        deadline = time.monotonic() + 60
        while kit.journal.tail_rows() > 1000 and time.monotonic() < deadline:
            kit.submit([])
            time.sleep(0.01)
        assert kit.journal.tail_rows() <= 1000
        assert all(known(kit, number) for number in (0, 17, 499, 500, 3000, 5999))


def test_what_is_counted_and_what_is_not(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        bot = kit.operation(click("IwARbot000000", ipAddress="93.184.216.34"))
        bot.row = (*bot.row[:11], bot.row[11] | BOT, *bot.row[12:])
        kit.submit([bot])
        kit.post(click("IwARperson000", ipAddress="93.184.216.34", visitorId="v1"))
        for _ in range(2):
            lookup: Lookup = kit.transaction.lookup
            ip = lookup.clicks.get(2) or lookup.click_rows({2})[0]
            assert lookup.find(CLICKS, "ip", ip.ip_k or 0, 0) == [2]
            assert lookup.frequencies.clicks_between(1, NOW - 1, NOW + 1) == 1
            kit.fold()


def recovered(kit: Kit) -> int:
    """The clicks in the store's figures once an order's fbc has named one that nobody told us of."""
    (ordered,) = kit.post(order("1", NOW, fbc=f"fb.1.{NOW - HOUR}.IwARunseen000"))
    assert ordered.state.match.click is not None
    return int(kit.transaction.lookup.frequencies.clicks_between(1, NOW - DAY, NOW))


def test_a_click_known_from_an_fbc_alone_is_not_counted(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        assert recovered(kit) == 0
        assert kit.transaction.lookup.frequencies.visitors(1, NOW) == 0
        kit.post(order("2", NOW, fbc=f"fb.1.{NOW - 2 * HOUR}.IwARunseen000"))  # an earlier time of the same one
        kit.fold()
    with Kit(tmp_path) as kit:
        assert kit.transaction.lookup.frequencies.clicks_between(1, NOW - DAY, NOW) == 0
        assert kit.transaction.lookup.frequencies.visitors(1, NOW) == 0


def test_look_ups_cross_buckets_newest_first(tmp_path: Path) -> None:
    """Rows of three buckets, made by giving ids far apart, as years of traffic would."""
    with Kit(tmp_path) as kit:
        ids = []
        for number, jump in enumerate((0, BUCKET, 3 * BUCKET)):
            kit.transaction.lookup.last[CLICKS] += jump
            ids += [one.id for one in kit.post(*[click(f"IwARjump{number}{n}0000", visitorId="v1") for n in range(3)])]
        kit.fold()
        lookup = kit.transaction.lookup
        name = kit.journal.names.name(1, "visitor", "v1")
        assert lookup.find(CLICKS, "visitor", name, 0) == sorted(ids, reverse=True)
        assert lookup.find(CLICKS, "visitor", name, 0, limit=4) == sorted(ids, reverse=True)[:4]


def test_folders_of_two_edges_share_the_work(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        fill(kit, 2000)
        threads = [threading.Thread(target=_fold_all, args=(kit,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert kit.rows("SELECT count(*) FROM click") == [(2000,)]
        db = apsw.Connection(str(tmp_path / "index.db"))
        assert db.execute("SELECT count(*), count(DISTINCT id) FROM click_fbclid").fetchone() == (2000, 2000)
        assert db.execute("SELECT sum(n) FROM click_hour").get == 2000
        db.close()


def _fold_all(kit: Kit) -> None:
    db = index.open_index(kit.journal.data_dir, kit.config.storage)
    for _ in range(50):
        index.fold(db, CLICKS, 100)
        index.fold(db, CONVERSIONS, 100)
    db.close()


def test_orders_are_found_by_their_id_wherever_they_are(tmp_path: Path) -> None:
    with Kit(tmp_path) as kit:
        kit.post(*[order(f"n{n}") for n in range(20)])
        kit.fold()
        kit.post(*[order(f"n{n}") for n in range(20, 40)])
        assert [one.duplicate for one in kit.post(*[order(f"n{n}") for n in range(40)])] == [True] * 40
    with Kit(tmp_path) as kit:
        assert [one.duplicate for one in kit.post(*[order(f"n{n}") for n in range(40)])] == [True] * 40
        assert kit.rows("SELECT count(*) FROM conversion") == [(40,)]
