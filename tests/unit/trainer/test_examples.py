from __future__ import annotations

from pathlib import Path

import pytest

from isocost.core.errors import InvalidArgumentError, NotFoundError
from isocost.resources.run import Example
from isocost.trainer.examples import ExampleList, ExampleListBuilder, ExampleStore


def _examples(n: int) -> list[Example]:
    return [Example(f"item-{k}", {"text": f"text {k} \u00fc"}, (0.1 * (k % 5), 1 - 0.1 * (k % 5))) for k in range(n)]


def _build(examples: list[Example], *, n_examples_max: int = 100) -> ExampleList:
    builder = ExampleListBuilder(n_examples_max)
    builder.extend(examples)
    return builder.build()


def test_a_prefix_has_the_digest_it_would_have_as_a_list_of_its_own() -> None:
    long, short = _build(_examples(20)), _build(_examples(7))
    assert long.first(7) == short
    assert long.digests[6] == short.digest
    assert len(set(long.digests)) == 20


@pytest.mark.parametrize(
    "changed",
    [
        Example("item-x", {"text": "text 2 \u00fc"}, (0.2, 0.8)),
        Example("item-2", {"text": "other"}, (0.2, 0.8)),
        Example("item-2", {"text": "text 2 \u00fc"}, (0.21, 0.79)),
    ],
    ids=["item_id", "fields", "probabilities"],
)
def test_the_digest_is_of_all_content_and_of_the_order(changed: Example) -> None:
    examples = _examples(5)
    other = [*examples[:2], changed, *examples[3:]]
    assert _build(other).digests[:2] == _build(examples).digests[:2]
    assert not set(_build(other).digests[2:]) & set(_build(examples).digests[2:])
    assert _build(examples[::-1]).digest != _build(examples).digest


def test_a_list_comes_back_from_disk_as_it_was_put(tmp_path: Path) -> None:
    examples = _build(_examples(9))
    ExampleStore(tmp_path).put(examples)
    assert ExampleStore(tmp_path).get(examples.digest, field="f") == examples


def test_putting_again_writes_nothing(tmp_path: Path) -> None:
    examples = _build(_examples(9))
    ExampleStore(tmp_path).put(examples)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    ExampleStore(tmp_path).put(examples)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("digest", ["0" * 32, "", "../secret", "nonsense"])
def test_an_unknown_digest_is_not_found(tmp_path: Path, digest: str) -> None:
    with pytest.raises(NotFoundError, match=r"spec\.weak_digest: .*PutExamples"):
        ExampleStore(tmp_path).get(digest, field="spec.weak_digest")


def test_a_damaged_file_is_told_from_the_list_it_was(tmp_path: Path) -> None:
    one, other = _build(_examples(3)), _build(_examples(4))
    store = ExampleStore(tmp_path)
    store.put(one)
    store.put(other)
    (tmp_path / f"{other.digest}.parquet").rename(tmp_path / f"{one.digest}.parquet")
    with pytest.raises(NotFoundError, match="damaged"):
        ExampleStore(tmp_path).get(one.digest, field="f")


def test_lists_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="empty"):
        _build([])
    with pytest.raises(InvalidArgumentError, match="more than 3"):
        _build(_examples(4), n_examples_max=3)
    with pytest.raises(InvalidArgumentError, match="'odd' has 3, but the first example has 2"):
        _build([*_examples(2), Example("odd", {"text": ""}, (0.2, 0.3, 0.5))])
