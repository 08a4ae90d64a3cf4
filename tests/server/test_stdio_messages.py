"""What a line must be to be a message, and what is answered when it is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCRequest

from bmad_mcp.server.messages import UnusableMessage, id_at_edge, read_message

DEEP = 100_000


def refused(data: bytes) -> dict:
    with pytest.raises(UnusableMessage) as found:
        read_message(data)
    return json.loads(found.value.reply())


def request(params: bytes, request_id: bytes = b"7") -> bytes:
    return b'{"jsonrpc":"2.0","id":' + request_id + b',"method":"tools/call","params":{"x":' + params + b"}}"


def test_a_request_is_read_as_it_is():
    message = read_message(request(b'"\xc3\xa9"')).message
    assert isinstance(message, JSONRPCRequest)
    assert (message.id, message.method, message.params) == (7, "tools/call", {"x": "é"})


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (request(b"NaN"), INVALID_REQUEST, "NaN"),
        (request(b"-Infinity"), INVALID_REQUEST, "Infinity"),
        (request(b"1e400"), INVALID_REQUEST, "too large"),
        (request(b'{"a":1,"a":2}'), INVALID_REQUEST, "'a' twice"),
        (request(b'"\\ud800"'), INVALID_REQUEST, "surrogate"),
        (request(b'"\xff"'), PARSE_ERROR, "UTF-8"),
        (request(b"[" * 300 + b"]" * 300), INVALID_REQUEST, "nested"),
        (request(b"[" * DEEP + b"]" * DEEP), PARSE_ERROR, "nested"),
        (request(b'"\x01"'), PARSE_ERROR, "not JSON"),
        (request(b'"cut'), PARSE_ERROR, "not JSON"),
        (b'{"jsonrpc":"2.0","id":7,"method":5}', INVALID_REQUEST, "JSON-RPC"),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","params":"text"}', INVALID_REQUEST, "JSON-RPC"),
        (b'{"jsonrpc":"1.0","id":7,"method":"a"}', INVALID_REQUEST, "JSON-RPC"),
        (b'{"id":7,"method":"a"}', INVALID_REQUEST, "JSON-RPC"),
    ],
)
def test_an_unusable_request_is_answered_under_its_own_id(data, code, word):
    answer = refused(data)
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", 7, code)
    assert word in answer["error"]["message"]


@pytest.mark.parametrize("key", ["jsonrpc", "method"])
def test_the_id_is_found_where_another_client_writes_it(key):
    parts = ['"method":"a"', '"params":{"x":NaN}', '"jsonrpc":"2.0"', '"id":"q-1"']
    if key == "method":
        parts = [parts[2], parts[0], parts[1], parts[3]]
    assert refused(("{" + ",".join(parts) + "}").encode())["id"] == "q-1"
    assert id_at_edge(("{" + ",".join(parts)[:-1]).encode()) is None


@pytest.mark.parametrize("inner", [b'{"id":9,"y":NaN}', b'[{"jsonrpc":"2.0","id":9,"z":NaN}]'])
def test_an_id_deep_inside_is_nobodys(inner):
    assert refused(b'{"method":"a","jsonrpc":"2.0","params":' + inner + b',"x":1}')["id"] is None
    assert refused(b'{"method":"a","params":' + inner + b"}\xff")["id"] is None


@pytest.mark.parametrize("wrong", [b"null", b"1.5", b"true", b"[1]", b'{"a":1}'])
def test_a_request_whose_id_is_no_id_is_refused_and_not_taken_for_a_notification(wrong):
    answer = refused(b'{"jsonrpc":"2.0","id":' + wrong + b',"method":"tools/list"}')
    assert answer["id"] is None
    assert "string or a whole number" in answer["error"]["message"]


@pytest.mark.parametrize("data", [b"5", b"null", b'"text"', b"[]", b'[{"jsonrpc":"2.0","id":1,"method":"a"}]', b"{}"])
def test_json_that_is_no_message_is_refused(data):
    answer = refused(data)
    assert (answer["id"], answer["error"]["code"]) == (None, INVALID_REQUEST)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_refusal_that_is_json(data):
    try:
        read_message(data)
    except UnusableMessage as unusable:
        answer = json.loads(unusable.reply().decode("utf-8"))
        assert answer["error"]["message"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_what_an_honest_client_sends_is_never_refused(value):
    storable = json.loads(json.dumps(value).encode("utf-8", "replace"))
    data = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "a", "params": {"value": storable}}, ensure_ascii=False)
    assert read_message(data.encode()).message.params == {"value": storable}
