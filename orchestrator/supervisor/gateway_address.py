"""Where a gateway listens, before and after it is replaced."""

from __future__ import annotations

from typing import Any

import msgspec

from contract.process.ports import free_port
from orchestrator.config.effects import SOCKETS
from orchestrator.errors import UserError
from orchestrator.protocol.specs import GatewaySpec, UnitSpec
from orchestrator.supervisor.units.launch import addresses_of
from orchestrator.supervisor.units.unit import Unit
from orchestrator.system.ports import PortClaims, require_free


def with_port(gateway: GatewaySpec, unit: Unit | None, claims: PortClaims) -> GatewaySpec:
    """Choose its port, if it is to have any; that of the gateway that runs stays. Raises
    `UserError` if another process has one of its ports."""
    if unit is not None and unit.process and isinstance(unit.spec, GatewaySpec):
        return msgspec.structs.replace(gateway, port=gateway.port or unit.spec.port)
    if gateway.port == 0:
        gateway = msgspec.structs.replace(gateway, port=_any_port(gateway.host))
    for host, port in addresses_of(gateway):
        require_free(host, port)
        claims.take(host, port)
    return gateway


def _any_port(host: str) -> int:
    try:
        return free_port(host)
    except OSError as error:
        message = f"cannot listen on {host}: {error.strerror}"
        raise UserError(message, "check `gateway.host`") from None


def where_it_is(gateway: GatewaySpec, unit: Unit) -> GatewaySpec:
    """Return the specification with the address that the gateway has: its processes are replaced
    where they listen."""
    if not isinstance(unit.spec, GatewaySpec):
        return gateway
    section = _with_sockets(unit.spec.config.get("gateway", {}), gateway.config.get("gateway", {}))
    config = {**gateway.config, "gateway": section}
    return msgspec.structs.replace(gateway, host=unit.spec.host, port=unit.spec.port, config=config)


def _with_sockets(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the gateway's section with the sockets that there are."""
    sockets = {key: before[key] for key in SOCKETS & before.keys()}
    return {key: value for key, value in after.items() if key not in SOCKETS} | sockets


def settings_of(spec: UnitSpec) -> UnitSpec:
    """Return what matters to the process: of the whole configuration, the gateway's section."""
    if not isinstance(spec, GatewaySpec):
        return spec
    section = spec.config.get("gateway", {})
    return msgspec.structs.replace(spec, config={"gateway": section})
