"""REDIS_URL with sentinels in it: what it says, what is refused, and what may be shown of it."""

import pytest

from shared.redis_address import describe, find_passwords, parse_redis_url


@pytest.mark.parametrize(
    ("url", "sentinels", "login"),
    [
        ("redis+sentinel://h/bus", [("h", 26379)], (None, None, 0)),
        ("redis+sentinel://h:1,i,10.0.0.1:65535/bus", [("h", 1), ("i", 26379), ("10.0.0.1", 65535)], (None, None, 0)),
        ("redis+sentinel://[::1]:1,[fe80::2]/bus/7", [("::1", 1), ("fe80::2", 26379)], (None, None, 7)),
        ("redis+sentinel://:pw@h/bus", [("h", 26379)], (None, "pw", 0)),
        ("redis+sentinel://u%40x:p%2Fw,@y@h,i/bus/15", [("h", 26379), ("i", 26379)], ("u@x", "p/w,@y", 15)),
    ],
)
def test_a_sentinel_url_says_whom_to_ask_for_which_master(
    url: str, sentinels: list[tuple[str, int]], login: tuple[str | None, str | None, int]
) -> None:
    options = parse_redis_url(url)
    assert options.pop("master") == "bus"
    assert options.pop("sentinels") == sentinels
    assert options == dict(zip(("username", "password", "db"), login, strict=True))


@pytest.mark.parametrize(
    "rest",
    [
        *("", "//", "//h", "//h/", "///bus", "//,/bus", "//h,/bus", "//h//0", "//h/bus/", "//h/bus/x", "//h/bus/0/1"),
        *("//h:0/bus", "//h:65536/bus", "//h:x/bus", "//[::1/bus", "//h i/bus", "//h/b us", "//pw@h/bus", "//:@h/bus"),
        *("//h/bus?db=1", "//h/bus#1", "//h/bus\n", "//h/bus/\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_what_is_no_sentinel_url_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match="not a sentinel"):
        parse_redis_url(f"redis+sentinel:{rest}")


def test_a_url_without_sentinels_is_left_to_redis_py() -> None:
    options = parse_redis_url("redis://u:p%2Fw@h:1/2")
    assert options == {"username": "u", "password": "p/w", "host": "h", "port": 1, "db": 2}


@pytest.mark.parametrize(
    ("url", "passwords"),
    [
        ("redis+sentinel://h,i/bus", set()),
        ("redis+sentinel://u:p%2fw@h,[::1]:2/bus", {"p/w", "p%2fw"}),
        ("redis://:p%2fw@h:1/0", {"p/w", "p%2fw"}),
        ("redis://h:1/0", set()),
        ("redis://h?password=p%2fw", {"p/w"}),
        ("unix://:pw@/run/redis.sock", {"pw"}),
    ],
)
def test_the_password_is_found_as_it_is_and_as_it_is_written(url: str, passwords: set[str]) -> None:
    assert find_passwords(url) == passwords


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis+sentinel://u:sekret@h,i:1/bus", "the master 'bus' that the sentinels at h:26379, i:1 name"),
        ("redis://u:sekret@h", "h:6379"),
        ("unix://:sekret@/run/redis.sock", "/run/redis.sock"),
    ],
)
def test_a_description_has_no_password(url: str, text: str) -> None:
    assert describe(url) == text
