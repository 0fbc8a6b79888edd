"""What the fake says to one client is what PROTOCOL.md says that Polygon says: session, auth, connection limit."""

from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import InvalidStatus

from tests.fakes.client import Client, join, nothing_before
from tests.fakes.polygon import FakePolygon


@pytest.fixture(autouse=True)
async def hang_up() -> AsyncIterator[None]:
    yield
    await Client.close_all()


@pytest.fixture
async def fake() -> AsyncIterator[FakePolygon]:
    async with FakePolygon() as fake:
        yield fake


# -- session


async def test_pipelined_auth_and_subscribe_are_answered_in_order_and_logged(fake: FakePolygon) -> None:
    client = await Client.open(fake.url)
    await client.say("auth", "k")
    await client.say("subscribe", "T.AAPL, A.BRK.A")
    assert await client.hear() == '[{"ev":"status","status":"connected","message":"Connected Successfully"}]'
    assert await client.hear() == '[{"ev":"status","status":"auth_success","message":"authenticated"}]'
    assert await client.hear_statuses() == ["success: subscribed to: T.AAPL", "success: subscribed to: A.BRK.A"]
    assert fake.held() == {"T.AAPL", "A.BRK.A"}
    log = [(one.connection, one.action, one.params) for one in fake.actions]
    assert log == [(1, "auth", "k"), (1, "subscribe", "T.AAPL, A.BRK.A")]


async def test_acks_can_come_one_frame_each(fake: FakePolygon) -> None:
    fake.script.acks = "frames"
    client = await join(fake)
    assert await client.subscribe("T.A,T.B") == ["success: subscribed to: T.A"]
    assert await client.hear_statuses() == ["success: subscribed to: T.B"]


async def test_unsubscribe_is_acked_with_the_words_of_polygon(fake: FakePolygon) -> None:
    client = await join(fake)
    await client.subscribe("T.A,T.B")
    await client.say("unsubscribe", "T.A,T.C")
    assert await client.hear_statuses() == ["success: unsubscribed to: T.A"]
    assert fake.held() == {"T.B"}


@pytest.mark.parametrize("params", ["T.AAPL", "ZZ.AAPL", "*", "T", "T.", "", ","])
async def test_what_is_held_or_unknown_or_empty_gets_no_answer(fake: FakePolygon, params: str) -> None:
    client = await join(fake)
    await client.subscribe("T.AAPL")
    await client.say("subscribe", params)
    assert await client.subscribe("T.NEXT") == ["success: subscribed to: T.NEXT"]
    assert fake.held() == {"T.AAPL", "T.NEXT"}


async def test_refusals_come_ahead_of_acks_and_name_nothing(fake: FakePolygon) -> None:
    fake.script.refused = {"NOI", "Q.MSFT"}
    client = await join(fake)
    answers = await client.subscribe("T.AAPL,NOI.AAPL,Q.MSFT,Q.AAPL")
    assert answers[:2] == ["error: not authorized"] * 2
    assert answers[2:] == ["success: subscribed to: T.AAPL", "success: subscribed to: Q.AAPL"]
    assert fake.held() == {"T.AAPL", "Q.AAPL"}


async def test_a_silent_channel_is_fed_but_never_acked(fake: FakePolygon) -> None:
    fake.script.silent = {"T.AAPL"}
    client = await join(fake)
    await client.say("subscribe", "T.AAPL")
    await fake.wait_held({"T.AAPL"})
    assert await fake.emit(b'{"ev":"T","sym":"AAPL"}') == 1
    assert await client.hear() == '[{"ev":"T","sym":"AAPL"}]'


async def test_a_delayed_ack_is_when_the_channel_is_held(fake: FakePolygon) -> None:
    fake.script.ack_delay_s = 0.05
    client = await join(fake)
    await client.say("subscribe", "T.AAPL")
    await fake.wait_for(lambda: fake.actions[-1].action == "subscribe")
    assert fake.held() == set()
    assert await client.hear_statuses() == ["success: subscribed to: T.AAPL"]
    assert fake.held() == {"T.AAPL"}


async def test_options_quotes_have_no_wildcard_and_a_limit_that_refuses_the_whole_message(fake: FakePolygon) -> None:
    fake.script.limits[("options", "Q")] = 2
    client = await join(fake, cluster="options")
    assert await client.subscribe("Q.*") == ["error: not authorized"]
    await client.subscribe("Q.O:A,T.O:A")
    (answer,) = await client.subscribe("Q.O:B,Q.O:C")
    assert answer.startswith("error: Subscription limit reached for feed.")
    assert fake.held() == {"Q.O:A", "T.O:A"}
    await client.say("unsubscribe", "Q.O:A")
    await client.hear()
    assert len(await client.subscribe("Q.O:B,Q.O:C")) == 2


@pytest.mark.parametrize(
    "message", ["{", "[]", '{"action":"auth","params":["k"]}', '{"action":"fly","params":""}', b"x"]
)
async def test_garbage_is_logged_and_ignored_or_answered_by_a_knob(fake: FakePolygon, message: str | bytes) -> None:
    client = await join(fake)
    await client.socket.send(message)
    await fake.wait_for(lambda: fake.actions[-1].action == "")
    await nothing_before(client, fake)
    fake.script.garbage = "error"
    await client.socket.send(message)
    assert (await client.hear_statuses())[0].startswith("error: ")


# -- auth


async def test_a_wrong_key_gets_auth_failed_and_then_a_drop_without_a_close_frame() -> None:
    async with FakePolygon(keys=frozenset({"good"})) as fake:
        client = await Client.open(fake.url)
        await client.hear()
        await client.say("auth", "bad")
        assert await client.hear_statuses() == ["auth_failed: authentication failed"]
        assert await client.hear_end() == 1006
        assert fake.connections == 0


async def test_a_key_without_the_plan_is_told_so(fake: FakePolygon) -> None:
    fake.script.no_plan_keys = {"k"}
    client = await Client.open(fake.url)
    await client.hear()
    await client.say("auth", "k")
    assert (await client.hear_statuses())[0].startswith("auth_failed: Your plan doesn't include websocket access.")
    assert await client.hear_end() == 1006


async def test_who_does_not_authenticate_in_time_is_told_and_dropped(fake: FakePolygon) -> None:
    fake.script.auth_timeout_s = 0.02
    client = await Client.open(fake.url)
    await client.hear()
    assert await client.hear_statuses() == ["auth_timeout: No authentication request received."]
    assert await client.hear_end() == 1006


async def test_no_subscription_before_auth(fake: FakePolygon) -> None:
    client = await Client.open(fake.url)
    await client.hear()
    assert (await client.subscribe("T.AAPL"))[0].startswith("auth_required: ")
    assert fake.held() == set()


async def test_without_greeting_auth_is_the_first_thing_answered(fake: FakePolygon) -> None:
    fake.script.greeting = False
    client = await Client.open(fake.url)
    await client.say("auth", "k")
    assert await client.hear_statuses() == ["auth_success: authenticated"]


@pytest.mark.parametrize("path", ["", "nonsense", "stocks/", "stocks/cme", "futures/nyse"])
async def test_a_wrong_path_is_a_404(fake: FakePolygon, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await Client.open(fake.url_of(path))
    assert refused.value.response.status_code == 404


async def test_a_venue_and_a_query_are_paths_too_and_every_upgrade_can_be_refused(fake: FakePolygon) -> None:
    await join(fake, cluster="futures/cme")
    await join(fake, cluster="stocks?apiKey=k")
    fake.script.refuse_http = 503
    with pytest.raises(InvalidStatus) as refused:
        await Client.open(fake.url)
    assert refused.value.response.status_code == 503


# -- the connection limit


async def test_the_older_connection_is_evicted_once_the_newcomer_has_subscribed(fake: FakePolygon) -> None:
    older = await join(fake)
    await older.subscribe("T.AAPL")
    newcomer = await join(fake)
    assert fake.connections == 2
    assert await newcomer.subscribe("T.AAPL") == ["success: subscribed to: T.AAPL"]
    assert await older.hear_statuses() == ["max_connections: Maximum number of websocket connections exceeded. "]
    assert await older.hear_end() == 1008
    await fake.wait_for(lambda: fake.connections == 1)
    assert fake.max_seen_connections == 2
    await nothing_before(newcomer, fake)


async def test_the_newcomer_loses_when_the_script_says_so(fake: FakePolygon) -> None:
    fake.script.loser, fake.script.max_connections = "newcomer", "d"
    older = await join(fake)
    await older.subscribe("T.AAPL")
    newcomer = await join(fake)
    await newcomer.subscribe("T.AAPL")
    assert await newcomer.hear_statuses() == ["max_connections: Maximum number of connections exceeded."]
    assert await newcomer.hear_end() == 1008
    await nothing_before(older, fake)


async def test_the_limit_counts_each_key_and_cluster_by_itself(fake: FakePolygon) -> None:
    clients = [await join(fake), await join(fake, key="other"), await join(fake, cluster="options")]
    for client in clients:
        await client.subscribe("T.AAPL")
    assert fake.connections == 3
    assert fake.max_seen_connections == 1
