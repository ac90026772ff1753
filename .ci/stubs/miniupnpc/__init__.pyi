class UPnP:
    multicastif: str
    discoverdelay: int
    lanaddr: str
    def discover(self) -> int: ...
    def selectigd(self) -> str: ...
    def externalipaddress(self) -> str: ...
    def addportmapping(
        self,
        external_port: int,
        protocol: str,
        lan_address: str,
        internal_port: int,
        description: str,
        remote_host: str,
        lease_s: int,
        /,
    ) -> bool: ...
    def deleteportmapping(self, external_port: int, protocol: str, /) -> bool: ...
