"""The label store."""

import sqlite3
from pathlib import Path

import pytest

from isocost.core.errors import FailedPreconditionError
from isocost.labeler.store import LabelStore, StoredLabel

LABEL = StoredLabel((0.1, 0.9), 0.7, 12, "engine 1")


async def opened(path: Path) -> LabelStore:
    store = LabelStore(path)
    await store.open()
    return store


async def test_label_is_there_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "labels.sqlite"
    store = await opened(path)
    await store.put({"a": LABEL})
    # Not closed: what put() returned from must be on disk already.
    other = await opened(path)
    assert await other.get(["a", "b"]) == {"a": LABEL}
    assert await other.count() == 1
    await store.close()
    await other.close()


async def test_first_label_stays(tmp_path: Path) -> None:
    store = await opened(tmp_path / "labels.sqlite")
    await store.put({"a": LABEL})
    await store.put({"a": StoredLabel((0.5, 0.5), 1.0, 1, "engine 2"), "b": LABEL})
    assert (await store.get(["a"]))["a"] == LABEL
    assert await store.count() == 2
    await store.close()


async def test_more_keys_than_one_statement_takes(tmp_path: Path) -> None:
    store = await opened(tmp_path / "labels.sqlite")
    await store.put({f"key-{number}": LABEL for number in range(1200)})
    assert len(await store.get([f"key-{number}" for number in range(100, 1300)])) == 1100
    await store.close()


async def test_probabilities_come_back_bit_for_bit(tmp_path: Path) -> None:
    store = await opened(tmp_path / "labels.sqlite")
    label = StoredLabel((1 / 3, 2 / 3), 5e-324, 1, "e")
    await store.put({"a": label})
    assert (await store.get(["a"]))["a"] == label
    await store.close()


async def test_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_text("this is not a database, and long enough to be seen as none" * 50)
    with pytest.raises(FailedPreconditionError, match=r"labels\.sqlite.*cannot be used") as caught:
        await opened(path)
    assert caught.value.field == "state_dir"


async def test_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FailedPreconditionError, match="schema 99"):
        await opened(path)


async def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPreconditionError, match="cannot be used"):
        await opened(tmp_path / "file" / "labels.sqlite")


async def test_closing_twice_is_allowed(tmp_path: Path) -> None:
    store = await opened(tmp_path / "labels.sqlite")
    await store.close()
    await store.close()
