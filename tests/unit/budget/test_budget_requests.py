"""Request ids: a repeat gets the first answer, a different request is refused, an error uses up nothing."""

from __future__ import annotations

from typing import NoReturn

import pytest

from isocost.budget.database import Database
from isocost.budget.requests import Answer, RequestKey, answer_once, list_audit_entries
from isocost.core.caller import Caller, Role, caller
from isocost.core.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from isocost.v1 import budget_service_pb2 as pb


def _key(body: str = "c", method: str = "FinishCampaign", request_id: str = "r1") -> RequestKey:
    return RequestKey.of(method, request_id, pb.FinishCampaignRequest(request_id=request_id, campaign_id=body))


def _never() -> NoReturn:
    raise AssertionError("the work was done a second time")


def test_a_repeat_gets_the_first_answer(database: Database) -> None:
    with database.write() as connection:
        assert answer_once(connection, _key(), lambda: Answer(b"first", "c")) == b"first"
    with database.write() as connection:
        assert answer_once(connection, _key(), _never) == b"first"


@pytest.mark.parametrize(
    ("other", "message"), [(_key(body="d"), "another body"), (_key(method="Plan"), "used before by FinishCampaign")]
)
def test_another_request_with_the_id_is_refused(database: Database, other: RequestKey, message: str) -> None:
    with database.write() as connection:
        answer_once(connection, _key(), lambda: Answer(b"first", "c"))
    with database.write() as connection, pytest.raises(AlreadyExistsError, match=message) as refusal:
        answer_once(connection, other, _never)
    assert refusal.value.field == "request_id"


def test_an_error_leaves_the_id_unused(database: Database) -> None:
    def fail() -> NoReturn:
        raise FailedPreconditionError("not now")

    with pytest.raises(FailedPreconditionError), database.write() as connection:
        answer_once(connection, _key(), fail)
    with database.write() as connection:
        assert answer_once(connection, _key(body="d"), lambda: Answer(b"second", "c")) == b"second"


def test_where_nothing_was_done_the_id_may_be_tried_again(database: Database) -> None:
    with database.write() as connection:
        assert answer_once(connection, _key(), lambda: Answer(b"", "c", nothing_done=True)) == b""
    with database.write() as connection:
        assert answer_once(connection, _key(), lambda: Answer(b"done", "c")) == b"done"


def test_who_did_what_is_kept(database: Database) -> None:
    token = caller.set(Caller("ann", Role.ANNOTATOR, "ipv4:127.0.0.1:5"))
    key = _key(body="reviews")
    caller.reset(token)
    with database.write() as connection:
        answer_once(connection, key, lambda: Answer(b"first", "reviews"))
        answer_once(connection, _key(request_id="r2"), lambda: Answer(b"second", "other"))
    with database.read() as connection:
        (entry,) = list_audit_entries(connection, campaign_id="reviews")
        pages = [
            list_audit_entries(connection, limit=1),
            list_audit_entries(connection, after_request_id="r1"),
            list_audit_entries(connection, after_request_id="r2"),
        ]
    assert (entry.request_id, entry.method, entry.campaign_id) == ("r1", "FinishCampaign", "reviews")
    assert (entry.principal, entry.role, entry.peer) == ("ann", "annotator", "ipv4:127.0.0.1:5")
    assert entry.body_digest == key.body_digest
    assert [[entry.request_id for entry in page] for page in pages] == [["r1"], ["r2"], []]


@pytest.mark.parametrize("request_id", ["", "a\0b", "a\nb", "x" * 513])
def test_a_bad_request_id_is_refused(request_id: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        _key(request_id=request_id)
    assert refusal.value.field == "request_id"
