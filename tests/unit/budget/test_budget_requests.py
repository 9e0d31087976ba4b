"""Request ids: a repeat gets the first answer, a different request is refused, an error uses up nothing."""

from __future__ import annotations

from typing import NoReturn

import pytest

from isocost.budget.database import Database
from isocost.budget.requests import RequestKey, answer_once
from isocost.core.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from isocost.v1 import budget_service_pb2 as pb


def _key(body: str = "c", method: str = "FinishCampaign", request_id: str = "r1") -> RequestKey:
    return RequestKey.of(method, request_id, pb.FinishCampaignRequest(request_id=request_id, campaign_id=body))


def _never() -> NoReturn:
    raise AssertionError("the work was done a second time")


def test_a_repeat_gets_the_first_answer(database: Database) -> None:
    with database.write() as connection:
        assert answer_once(connection, _key(), lambda: b"first") == b"first"
    with database.write() as connection:
        assert answer_once(connection, _key(), _never) == b"first"


@pytest.mark.parametrize(
    ("other", "message"), [(_key(body="d"), "another body"), (_key(method="Plan"), "used before by FinishCampaign")]
)
def test_another_request_with_the_id_is_refused(database: Database, other: RequestKey, message: str) -> None:
    with database.write() as connection:
        answer_once(connection, _key(), lambda: b"first")
    with database.write() as connection, pytest.raises(AlreadyExistsError, match=message) as refusal:
        answer_once(connection, other, _never)
    assert refusal.value.field == "request_id"


def test_an_error_leaves_the_id_unused(database: Database) -> None:
    def fail() -> NoReturn:
        raise FailedPreconditionError("not now")

    with pytest.raises(FailedPreconditionError), database.write() as connection:
        answer_once(connection, _key(), fail)
    with database.write() as connection:
        assert answer_once(connection, _key(body="d"), lambda: b"second") == b"second"


@pytest.mark.parametrize("request_id", ["", "a\0b", "a\nb", "x" * 513])
def test_a_bad_request_id_is_refused(request_id: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        _key(request_id=request_id)
    assert refusal.value.field == "request_id"
