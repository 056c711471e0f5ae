"""The configuration of the HTTP server."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contract.config.media import MediaConfig
from contract.config.section import HostPattern, Port, Section

#: Of a web page: scheme, host and port, as browsers send it.
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\s]+)$")]


def _checked_network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; give an address, or a network such as 10.0.0.0/8") from None
    return text


#: Of a proxy: an address, or a network.
Network = Annotated[str, AfterValidator(_checked_network)]


class TlsConfig(Section):
    """TLS with certificates of your own: the gateway then speaks HTTPS alone. The files are in PEM,
    relative to the project, and are read again when they change."""

    certificate_file: str = Field(
        description="The server's certificate, and after it those between it and the authority "
        "(`fullchain.pem`)."
    )
    key_file: str = Field(description="The key of that certificate, without a passphrase.")
    client_ca_file: str | None = Field(
        None,
        description="Authorities of clients: a request without a certificate of theirs is refused, "
        "but for the health probes.",
    )
    minimum_version: Literal["1.2", "1.3"] = Field("1.2", description="The oldest TLS.")


class GatewayConfig(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Loopback unless you ask for more.")
    port: Port = Field(8080, description="0 picks a free port.")
    hosts: tuple[HostPattern, ...] = Field(
        (),
        description="Hosts that run a gateway, by name or pattern, where several share one "
        "configuration and one Redis; all of them if empty.",
    )
    tls: TlsConfig | None = Field(None, description="Serve HTTPS; plain HTTP if unset.")
    trusted_proxies: list[Network] = Field(
        default_factory=list,
        description="Addresses or networks of proxies that are believed who their client is: "
        "`X-Forwarded-For` and `X-Forwarded-Proto` of their requests count, those of others "
        "never.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names that clients may use for this gateway, as in `Host`; `*.example.com` "
        "covers all below. On loopback, its own names are allowed anyway; elsewhere any is if "
        "this is empty.",
    )
    allowed_origins: list[Origin] = Field(
        default_factory=list,
        description="Web pages that may use this gateway from a browser (CORS), such as "
        "`https://chat.example.com`; `*` is all of them. They still need an API key.",
    )
    admin_host: str = Field("127.0.0.1", description="Where `admin_port` is listened on.")
    admin_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="A second listener, which shows `/metrics`, `/docs` and `/openapi.json` "
        "without an API key; only your monitoring should reach it.",
    )
    ollama: bool = Field(
        False,
        description="Serve Ollama's API, too: `/api/chat`, `/api/generate`, `/api/embed`, "
        "`/api/tags`, `/api/show` and `/api/version`.",
    )
    processes: int = Field(
        0,
        ge=0,
        le=64,
        description="HTTP processes; 0 takes one for every four cores: two at least from four "
        "cores on, and one on fewer. Of two or more, one that dies takes its own streams along and "
        "no others (those of `/v1` cannot be resumed by a stock client), the death of their "
        "parent takes none, and the port stays open. A second needs 85 MiB, and 1 % of a core.",
    )
    drain_timeout_s: float = Field(
        30, ge=0, description="How long open answers may go on when the gateway stops."
    )
    max_connections: int = Field(
        8192, ge=16, description="Connections that one HTTP process may have."
    )
    media: MediaConfig = Field(MediaConfig(), description="Images, sound and video in requests.")

    @model_validator(mode="after")
    def _has_two_ports(self) -> GatewayConfig:
        if self.admin_port == self.port:
            raise ValueError("`admin_port` must not be `port`")
        return self
