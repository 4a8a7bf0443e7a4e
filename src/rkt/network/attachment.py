"""One network of one pod: what each of its plugins is asked, and asking them.

Plugins of a list run one after another, each told the result of the one before (CNI specification,
"Deriving execution configuration").  What depends on the pod goes to those that say they take it, as
``runtimeConfig``: ``portMappings``, ``ips``, ``mac`` and ``bandwidth``.  Two things rkt sees to itself
where the configuration leaves them to plugins that cost much or are not there:

* masquerading of the standard plugins ``ptp`` and ``bridge`` (``ipMasq``) is done by rkt's own rules with
  those of the ports: the plugins would start iptables five times, and not work without it;
* a limit of bandwidth that no plugin of the network takes is given to the plugin ``bandwidth``, as if the
  list ended with it.
"""

from __future__ import annotations

from rkt.appc import gojson
from rkt.errors import RktError
from rkt.network import plugins
from rkt.network.configuration import NetworkConfig
from rkt.network.record import Attachment
from rkt.network.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PORTS = "portMappings"
ADDRESSES = "ips"
MAC = "mac"
BANDWIDTH = "bandwidth"
_MASQUERADING = ("ptp", "bridge")
# What of a configuration is for the runtime; plugins do not get it.
_OF_THE_RUNTIME = ("capabilities", "cniVersions")
# The oldest version whose results say which interface of the host belongs to the pod.
_BANDWIDTH_VERSION = "0.4.0"


class Step:
    """One plugin of the network: the decoded configuration and where the program is ("" if nowhere)."""

    __slots__ = ("config", "path")

    def __init__(self, config: dict[str, Any], path: str) -> None:
        self.config = config
        self.path = path

    @property
    def type(self) -> str:
        return str(self.config["type"])


def capabilities_from(args: str) -> dict[str, Any]:
    """What the arguments of ``--net`` say in the words of capabilities: every ``IP=``, and ``MAC=``."""
    pairs = [pair.partition("=") for pair in args.split(";") if pair]
    found: dict[str, Any] = {}
    addresses = [value for key, _, value in pairs if key == "IP" and value]
    if addresses:
        found[ADDRESSES] = addresses
    for key, _, value in pairs:
        if key == "MAC" and value:
            found[MAC] = value
    return found


def masquerades(config: NetworkConfig) -> bool:
    """Whether it is rkt that masquerades the network."""
    return any(plugin.get("ipMasq") is True and plugin["type"] in _MASQUERADING for plugin in config.plugins)


class Network:
    """A network's plugins for one attachment, the same for ADD, CHECK and DEL.

    ``version`` is the version of the specification that the plugins are asked in.
    """

    __slots__ = ("_verbatim", "attachment", "config", "steps", "version")

    def __init__(self, config: NetworkConfig, attachment: Attachment, places: list[str]) -> None:
        self.config = config
        self.attachment = attachment
        given = attachment.capabilities
        self.version = config.cni_version
        members = [self._adapted(plugin) for plugin in config.plugins]
        limited = BANDWIDTH in given and not config.takes(BANDWIDTH)
        if limited:
            members.append({"type": BANDWIDTH, **given[BANDWIDTH]})
            if not config.is_at_least(0, 4):
                self.version = _BANDWIDTH_VERSION
        self._verbatim = not config.is_list and not limited and members[0] == config.plugins[0]
        self._verbatim &= self.version == config.plugins[0].get("cniVersion", "")
        self.steps = [Step(member, plugins.look_up(member["type"], places)) for member in members]

    def _adapted(self, plugin: dict[str, Any]) -> dict[str, Any]:
        given = self.attachment.capabilities
        own = plugin.get("capabilities") or {}
        wanted = {name: given[name] for name in sorted(given) if own.get(name) is True}
        made = dict(plugin)
        if wanted:
            made["runtimeConfig"] = wanted
        if self.attachment.masquerade and plugin["type"] in _MASQUERADING and plugin.get("ipMasq") is True:
            made["ipMasq"] = False
        return made

    def require(self, places: list[str]) -> None:
        """RktError for the first plugin that is not installed."""
        for step in self.steps:
            if not step.path:
                plugins.find(step.type, places)

    def text(self, step: Step, previous: Any = None) -> str:
        """What a plugin reads; a single configuration that nothing is added to is handed over as it is."""
        if self._verbatim and previous is None:
            return self.config.text
        value = {key: member for key, member in step.config.items() if key not in _OF_THE_RUNTIME}
        value["name"] = self.config.name
        if self.version:
            value["cniVersion"] = self.version
        if previous is not None:
            value["prevResult"] = previous
        return gojson.dumps(value)

    def add(self, invocation: plugins.Invocation) -> Result | None:
        """Run ADD of each plugin, the answer of one being ``prevResult`` of the next; results are kept in
        the attachment."""
        previous = None
        for step in self.steps:
            text = self.text(step, previous)
            try:
                answer = plugins.run("ADD", step.path, text, invocation=invocation, version=self.version)
            except RktError as exc:
                raise _translated(exc, self.config.name) from None
            try:
                result = _result(answer)
            except RktError as exc:
                raise RktError(
                    f"plugin {step.path} answered ADD with a result that is wrong: {exc}"
                ) from None
            self.attachment.results.append(answer)
            previous = answer if answer is not None else previous
            if result is None and len(self.steps) > 1:
                raise RktError(f"plugin {step.path} answered ADD with nothing")
        return Result(previous) if previous is not None else None

    @property
    def previous(self) -> Any:
        """The cached result for CHECK and DEL: of the last plugin; None before version 0.4.0."""
        if self.version != _BANDWIDTH_VERSION and not self.config.is_at_least(0, 4):
            return None
        return next((item for item in reversed(self.attachment.results) if item is not None), None)

    def check(self, invocation: plugins.Invocation) -> None:
        """Run CHECK of each plugin, first to last; nothing where the version or the list has none."""
        if self.config.disable_check or self.previous is None:
            return
        for step in self.steps:
            text = self.text(step, self.previous)
            plugins.run("CHECK", step.path, text, invocation=invocation, version=self.version)


def _result(answer: Any) -> Result | None:
    """RktError also for an error object that came with exit code 0."""
    if answer is None:
        return None
    result = Result(answer)
    if not result.addresses and answer.get("code") and "msg" in answer:
        raise RktError(f"it says {plugins.shorten(plugins.error_text(answer))}")
    return result


def _translated(error: RktError, network: str) -> RktError:
    """host-local's words for an address that is taken, in the form that scripts of rkt look for; of CNI's
    library, what to do about arguments that a plugin does not know."""
    if "ARGS: unknown args" in error.message:
        error.hint = "IgnoreUnknown=1 among the arguments lets each plugin take those it knows"
    start = "requested IP address "
    before, found, rest = error.message.partition(start)
    address, separator, _ = rest.partition(" is not available in range set ")
    if not found or not separator:
        return error
    return plugins.Refusal(f'{before}{start}"{address}" is not available in network: {network}')
