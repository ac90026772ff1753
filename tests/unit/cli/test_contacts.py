import json

from opnode.core.errors import ConfigError
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon import control_messages as messages

PEER = format_peer_id(PeerId(bytes(32)))
ANN = messages.ContactEntry(name="ann", peer_id=PEER)


def test_add_list_and_remove_ask_the_node(opnode, node, tmp_path):
    for kind in (messages.AddContact, messages.ListContacts, messages.RemoveContact):
        node.answers[kind] = [ANN]
    assert opnode("contacts", "add", "ann", PEER, "--data", tmp_path).out == (
        f"ann  {PEER}\n"
    )
    ended = opnode("contacts", "list", "--data", tmp_path, "--json")
    assert json.loads(ended.out) == {"event": "contact", "name": "ann", "peer_id": PEER}
    assert opnode("contacts", "remove", "ann", "--data", tmp_path).code == 0
    assert node.requests == [
        messages.AddContact(name="ann", peer=PEER),
        messages.ListContacts(),
        messages.RemoveContact(name="ann"),
    ]


def test_an_empty_list_says_how_to_add_somebody(opnode, node, tmp_path):
    out = opnode("contacts", "list", "--data", tmp_path).out
    assert out == "no contacts yet; add one with: opnode contacts add NAME PEER\n"
    assert opnode("contacts", "list", "--data", tmp_path, "--json").out == ""
    node.answers[messages.ListContacts] = [ANN]
    assert "no contacts" not in opnode("contacts", "list", "--data", tmp_path).out


def test_a_name_that_cannot_be_used_fails_with_its_reason(opnode, node, tmp_path):
    node.answers[messages.AddContact] = [ConfigError("name", "''", "one")]
    ended = opnode("contacts", "add", "", PEER, "--data", tmp_path)
    assert (ended.code, ended.err) == (1, "opnode: name: found '', expected one\n")
