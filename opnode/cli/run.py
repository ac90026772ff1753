"""`opnode up` and `opnode seed`: a node in the foreground, and what it shows.

Owns the options that describe a node, and the wording of its events. Refuses to know
how the node does what it does.
"""

# ruff: noqa: D301 - click needs the character "\b" to leave a block unwrapped.

import functools
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec

from opnode.cli.gateway_options import (
    gateway_trust_option,
    lan_option,
    websocket_options,
)
from opnode.cli.introducer_options import introducer_options
from opnode.cli.options import (
    EndpointType,
    EntryType,
    LocationNameType,
    common_options,
    qlog_option,
    reach_options,
)
from opnode.cli.output import Output, set_up_logging, size_text
from opnode.cli.patience import told_if_slow
from opnode.cli.prompt import TerminalPrompt
from opnode.cli.relay_options import relay_options
from opnode.cli.signals import run_until_signal
from opnode.core.addresses import Endpoint, is_loopback, is_wildcard
from opnode.core.crypto import random_bytes
from opnode.core.errors import ConfigError, LocalProtocolError
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon.contact_watch import ContactsChanged
from opnode.daemon.daemon import (
    DaemonEvent,
    DaemonSettings,
    Ready,
    RoleChanged,
    run_daemon,
    run_seed,
)
from opnode.daemon.services import (
    AcceptPolicy,
    ChatLine,
    FileArrived,
    FileFailed,
    FileProgress,
)
from opnode.drivers.turn.turn import TurnServer
from opnode.drivers.websocket.client import GatewayTrust
from opnode.node.bootstrap import BootstrapEntry, read_seeds_file
from opnode.node.config import EVERY_INTERFACE, NodeConfig, Role, WebSocketOffer
from opnode.node.data_directory import default_data_directory
from opnode.node.joining import JoinReport
from opnode.node.node import OverlayNode, open_node
from opnode.node.turn_servers import read_turn_servers
from opnode.protocols.introductions.introducer import IntroducerConfig
from opnode.protocols.relay import RelayConfig

SEED_PORT: Final = 4848
"""A fixed port, so that a seed's invite stays true after a restart."""

SEED_LISTEN: Final = EVERY_INTERFACE._replace(port=SEED_PORT)
SEEDS_FILE: Final = "bootstrap_seeds.json"
NETWORK_NAME: Final = "main"

SLOW_LEAVE_S: Final = 0.3
"""What takes longer is told: whoever pressed Ctrl-C should know why it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line said about the node to run."""

    data: Path
    listen: Endpoint
    bootstrap: tuple[BootstrapEntry, ...]
    role: Role
    accept: AcceptPolicy
    inbox: Path
    is_seed: bool
    name: str = ""
    qlog: Path | None = None
    lan: bool = True
    websocket: WebSocketOffer | None = None
    relay: RelayConfig | None = None
    introducer: IntroducerConfig = field(default_factory=IntroducerConfig)
    gateway_trust: GatewayTrust = field(default_factory=GatewayTrust)
    turn_servers: tuple[TurnServer, ...] = ()
    port_mapping: bool = True


def node_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that ``up``, ``seed`` and ``doctor`` share."""
    bootstrap = click.option(
        "--bootstrap",
        type=EntryType(),
        multiple=True,
        metavar="ENTRY",
        help="Join through this node: opnode://KEY@HOST:PORT. May be repeated.",
    )
    seeds = click.option(
        "--seeds",
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        metavar="FILE",
        help=f"Join through the nodes in this file, instead of {SEEDS_FILE}.",
    )
    return common_options(bootstrap(seeds(command)))


@click.command()
@node_options
@click.option(
    "--listen",
    type=EndpointType(),
    default=EVERY_INTERFACE,
    show_default="every interface, any port",
    help="Where the node's UDP socket is.",
)
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.AUTO.value,
    show_default=True,
    help="Place in the DHT: a server is in others' tables, a leaf is in nobody's.",
)
@click.option(
    "--accept",
    type=click.Choice([policy.value for policy in AcceptPolicy]),
    default=AcceptPolicy.ASK.value,
    show_default=True,
    help="Whose files are taken.",
)
@click.option(
    "--inbox",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where received files go. Default: inbox, in the data directory.",
)
@click.option(
    "--name",
    type=LocationNameType(),
    default="",
    help="What you call this device, for all to see. Default: no name.",
)
@lan_option
@gateway_trust_option
@reach_options
@qlog_option
@relay_options
@introducer_options
def up(  # noqa: PLR0913 - click hands over one argument per option
    *,
    data: Path | None,
    is_json: bool,
    is_verbose: bool,
    bootstrap: tuple[BootstrapEntry, ...],
    seeds: Path | None,
    listen: Endpoint,
    role: str,
    accept: str,
    inbox: Path | None,
    name: str,
    turn_servers: Path | None,
    port_mapping: bool,
    qlog: Path | None,
    relay: RelayConfig | None,
    introducer: IntroducerConfig,
    gateway_trust: GatewayTrust,
    lan: bool,
) -> None:
    """Run your node until Ctrl-C.

    Joins through the ENTRYs, through bootstrap_seeds.json (looked for in the data
    directory, then here), and through nodes it met before. Says "ready" once others can
    find you. Then use `opnode id`, `opnode send` and the others in a second terminal.

    \b
    Examples:
        opnode up --bootstrap opnode://KEY@seed.example.org:4848
        opnode up --accept contacts --inbox ~/Downloads
        opnode up --data /tmp/second --listen 127.0.0.1:0
    """
    directory = data or default_data_directory()
    options = RunOptions(
        data=directory,
        listen=listen,
        bootstrap=bootstrap or seed_entries(seeds, directory),
        role=Role(role),
        accept=AcceptPolicy(accept),
        inbox=inbox or directory / "inbox",
        is_seed=False,
        name=name,
        qlog=qlog,
        gateway_trust=gateway_trust,
        lan=lan,
        relay=relay,
        turn_servers=read_turn_servers(turn_servers) if turn_servers else (),
        port_mapping=port_mapping,
        introducer=introducer,
    )
    if options.accept is not AcceptPolicy.NEVER:
        _check_inbox(options.inbox)
    _run(options, is_json=is_json, is_verbose=is_verbose)


@click.command()
@node_options
@click.option(
    "--listen",
    type=EndpointType(),
    default=SEED_LISTEN,
    show_default=f"every interface, port {SEED_PORT}",
    help="Where the node's UDP socket is.",
)
@lan_option
@websocket_options
@relay_options
@introducer_options
def seed(  # noqa: PLR0913 - click hands over one argument per option
    *,
    data: Path | None,
    is_json: bool,
    is_verbose: bool,
    bootstrap: tuple[BootstrapEntry, ...],
    seeds: Path | None,
    listen: Endpoint,
    websocket: WebSocketOffer | None,
    lan: bool,
    relay: RelayConfig | None,
    introducer: IntroducerConfig,
) -> None:
    """Run a node through which others join, until Ctrl-C.

    Prints its invite: the line for other nodes' --bootstrap and for
    bootstrap_seeds.json. The key in it stays the same after a restart, and so do the
    records and contacts. A seed has no identity and talks to nobody.

    \b
    Examples:
        opnode seed
        opnode seed --relay --relay-rate 2MB
        opnode seed --listen 203.0.113.5:4848 --data /var/lib/opnode
        opnode seed --bootstrap opnode://KEY@other-seed.example.org:4848
        opnode seed --websocket 0.0.0.0:443 --tls-cert fullchain.pem --tls-key key.pem
    """
    default = default_data_directory()
    directory = data or default.with_name(f"{default.name}-seed")
    options = RunOptions(
        data=directory,
        listen=listen,
        bootstrap=bootstrap or (seed_entries(seeds, directory) if seeds else ()),
        role=Role.SERVER,
        accept=AcceptPolicy.NEVER,
        inbox=directory / "inbox",
        is_seed=True,
        websocket=websocket,
        lan=lan,
        # Clients of a gateway have no other way to their peers.
        relay=relay or (RelayConfig() if websocket is not None else None),
        port_mapping=False,
        introducer=introducer,
    )
    _run(options, is_json=is_json, is_verbose=is_verbose)


def seed_entries(named: Path | None, data: Path) -> tuple[BootstrapEntry, ...]:
    """The entries of the named file, or of the one in its usual places.

    Raises:
        ConfigError: what is wrong with the file.
    """
    candidates = [named] if named else [data / SEEDS_FILE, Path(SEEDS_FILE)]
    for path in candidates:
        if path.exists():
            return read_seeds_file(path, network_name=NETWORK_NAME)
    return ()


def _check_inbox(inbox: Path) -> None:
    """Find out now, not when the first file comes, that none could be taken.

    Nothing is created: the data directory, which it may lie in, is not there yet.
    """
    place = inbox.absolute()
    while not os.path.exists(place):  # noqa: PTH110 - false, too, where we may not look
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return
    expected = "a directory that you can write, or a place to create it"
    raise ConfigError("inbox", str(inbox), expected)


def _run(options: RunOptions, *, is_json: bool, is_verbose: bool) -> None:
    set_up_logging(is_verbose=is_verbose)
    view = DaemonView(Output(is_json=is_json), options)
    run_until_signal(functools.partial(_run_node, options, view))
    view.output.text("left the network")


async def _run_node(options: RunOptions, view: "DaemonView") -> None:
    config = NodeConfig(
        listen=options.listen,
        bootstrap=options.bootstrap,
        data_dir=options.data,
        role=options.role,
        has_identity=not options.is_seed,
        location_name=options.name,
        qlog_dir=options.qlog,
        # Whoever listens at its own machine alone has no neighbours.
        lan=options.lan and not is_loopback(options.listen.host),
        websocket=options.websocket,
        relay=options.relay,
        introducer=options.introducer,
        gateway_trust=options.gateway_trust,
        turn_servers=options.turn_servers,
        port_mapping=options.port_mapping,
        network_name=NETWORK_NAME,
    )
    async with (
        told_if_slow(SLOW_LEAVE_S, view.leaving) as leaving,
        open_node(config) as node,
    ):
        try:
            await _run_daemon(node, options, view)
        finally:
            leaving.set()


async def _run_daemon(
    node: OverlayNode, options: RunOptions, view: "DaemonView"
) -> None:
    directory = node.data_directory
    if directory is None:
        raise LocalProtocolError("a node on disk has no data directory")
    can_ask = sys.stdin.isatty() and not view.output.is_json
    settings = DaemonSettings(
        inbox=options.inbox,
        policy=options.accept,
        notify=view.show,
        ask=TerminalPrompt(view.output).ask if can_ask else None,
        rng=random.Random(random_bytes(16)),  # noqa: S311 - jitter
    )
    peer_id = node.statistics().peer_id
    view.started(peer_id, str(node.endpoint), len(options.bootstrap))
    run = run_seed if options.is_seed else run_daemon
    await run(node, directory, settings)


class DaemonView:
    """Shows a daemon's events to people, or writes them as JSON."""

    def __init__(self, output: Output, options: RunOptions) -> None:
        """Nothing is shown yet."""
        self.output = output
        self._options = options
        self._told_percent: dict[tuple[PeerId, str], int] = {}

    def started(self, peer_id: PeerId | None, endpoint: str, entries: int) -> None:
        """The socket is bound and the keys are loaded."""
        self.output.event(
            {
                "event": "started",
                "peer_id": format_peer_id(peer_id) if peer_id else None,
                "endpoint": endpoint,
                "data": str(self._options.data),
            }
        )
        if peer_id is not None:
            self.output.text(f"you are {format_peer_id(peer_id)}")
        self.output.text(f"listening on {endpoint}, data in {self._options.data}")
        if not entries and not self._options.is_seed:
            self.output.text(
                "no bootstrap entry: only nodes met in earlier runs can be asked. To"
                " join, stop this and pass --bootstrap with the invite of a seed, or of"
                " a node that runs with --role server (`opnode id` shows it), or start"
                " the first one of a network with: opnode seed",
                style="yellow",
            )

    def leaving(self) -> None:
        """The node is still busy with leaving the network."""
        self.output.event({"event": "leaving"})
        self.output.text("saying good-bye to the network")

    def show(self, event: DaemonEvent) -> None:
        """Show one event."""
        match event:
            case JoinReport():
                self._show_report(event)
            case Ready():
                self._show_ready(event)
            case RoleChanged():
                self._show_role(event)
            case ContactsChanged(contacts=contacts):
                self._show_contacts(contacts)
            case FileProgress():
                self._show_progress(event)
            case FileArrived():
                self._show_arrived(event)
            case FileFailed(reason=reason):
                self._emit("file failed", event.peer_id, reason=reason)
                who = event.petname or format_peer_id(event.peer_id)
                self.output.text(f"no file from {who}: {reason}", style="yellow")
            case ChatLine(text=text):
                self._emit("chat", event.peer_id, text=text)
                who = event.petname or format_peer_id(event.peer_id)
                self.output.text(f"{who} says: {text}")

    def _emit(self, name: str, peer_id: PeerId, /, **fields: object) -> None:
        peer = format_peer_id(peer_id)
        self.output.event({"event": name, "peer_id": peer, **fields})

    def _show_report(self, report: JoinReport) -> None:
        verdict = "joined" if report.joined else report.verdict.kind.value
        self.output.event(
            {
                "event": "bootstrap",
                "entry": str(report.verdict.entry),
                "verdict": verdict,
                "detail": report.verdict.detail,
                "contacts": report.contacts,
            }
        )
        self.output.text(str(report), style="green" if report.joined else "yellow")

    def _show_ready(self, ready: Ready) -> None:
        self.output.event({"event": "ready", **msgspec.to_builtins(ready)})
        if ready.peer_id is None and ready.invite is not None:
            self.output.text("invite, for --bootstrap and bootstrap_seeds.json:")
            self.output.text(ready.invite, style="bold")
            if is_wildcard(self._options.listen.host):
                self.output.text(
                    "(where others reach this machine by another name or address,"
                    " write that one instead)"
                )
        self.output.text("ready", style="bold green")

    def _show_role(self, change: RoleChanged) -> None:
        role = change.role.value
        self.output.event({"event": "role", "role": role, "invite": change.invite})
        if change.role is Role.SERVER:
            self.output.text("role: server, as others can reach this node")
            self.output.text(f"others join through it with: {change.invite}")
        else:
            self.output.text("role: leaf, as others do not reach this node any more")

    def _show_contacts(self, contacts: int) -> None:
        self.output.event({"event": "contacts", "contacts": contacts})
        if contacts:
            plural = "" if contacts == 1 else "s"
            text = f"in touch with others: {contacts} contact{plural}"
            self.output.text(text, style="green")
        else:
            text = "the last contact is gone: this node tries to join again"
            self.output.text(text, style="yellow")

    def _show_progress(self, progress: FileProgress) -> None:
        """A line at every percent for programs, and at every quarter for people."""
        key = (progress.peer_id, progress.name)
        percent = progress.done * 100 // max(progress.size, 1)
        step = 1 if self.output.is_json else 25
        if percent - self._told_percent.get(key, 0) < step:
            return
        self._told_percent[key] = percent
        self._emit(
            "file progress",
            progress.peer_id,
            name=progress.name,
            done=progress.done,
            size=progress.size,
        )
        total = size_text(progress.size)
        self.output.text(f"receiving {progress.name}: {percent} % of {total}")

    def _show_arrived(self, arrived: FileArrived) -> None:
        self._told_percent.clear()
        self._emit(
            "file arrived",
            arrived.peer_id,
            path=str(arrived.path),
            size=arrived.size,
            sha256=arrived.sha256.hex(),
        )
        who = arrived.petname or format_peer_id(arrived.peer_id)
        text = f"received {arrived.path} ({size_text(arrived.size)}) from {who}"
        self.output.text(text, style="green")
