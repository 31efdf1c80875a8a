"""Settings: environment variables with the prefix ``KHATA_``, each with a default that works on a laptop."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.log.note import NoteMalformed, Type, Verifier


class Witness(BaseModel):
    """``vkey``: its key of type cosignature/v1; ``url``: its submission prefix."""

    model_config = ConfigDict(frozen=True)

    vkey: str
    url: str

    @field_validator("vkey")
    @classmethod
    def _cosigns(cls, vkey: str) -> str:
        try:
            key = Verifier.parse(vkey)
        except NoteMalformed as error:
            raise ValueError(str(error)) from error
        if key.type is not Type.COSIGNATURE:
            raise ValueError("a witness's key is of type 4, cosignature/v1")
        return vkey

    @property
    def verifier(self) -> Verifier:
        return Verifier.parse(self.vkey)


class Settings(BaseSettings):
    """Read once at start and handed on; nothing else reads the environment."""

    model_config = SettingsConfigDict(env_prefix="KHATA_", frozen=True)

    home: Path = Path(".khata")
    """Run-time data: secrets, the embedded database, settlement files."""

    database_url: str | None = Field(default=None, repr=False)
    """libpq URL of a superuser, or of a role with CREATEROLE and CREATEDB (PostgreSQL ≥ 15); None: embedded.

    Its own database is only connected to, to make `database_name`.
    """
    database_name: str = "khata"
    """The database that is made and used."""
    pg_bin: Path | None = None
    """Bin directory for the embedded server, in place of the wheel's."""
    pg_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the embedded server; None: the last one if it is free, else any."""

    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    """0: any free port."""
    public_url: str | None = None
    """How clients reach the API (token issuer, links); None: http://api_host:api_port."""

    acquirer_host: str = "127.0.0.1"
    acquirer_port: int = Field(default=9583, ge=0, le=65535)

    acquirer_timeout_s: float = Field(default=15.0, gt=0)
    """How long to wait for the acquirer's answer before the outcome is unknown."""
    acquirer_id: str = Field(default="626001", pattern=r"^[0-9]{1,11}$")
    """Our institution code at the acquirer (ISO 8583 field 32)."""
    acquirer_control_port: int = Field(default=9584, ge=0, le=65535)
    """Control port of the acquirer's simulator (`khata up`, `khata demo`)."""

    lease_s: float = Field(default=60.0, gt=0)
    """How long an operation belongs to who sends it; longer than `acquirer_timeout_s`."""
    recovery_backoff_s: tuple[float, ...] = (30, 120, 300, 900, 3600)
    """Pauses between checks of an unknown outcome; after the last, the review queue."""

    book: str = "main"
    """Name of the book that commands and platform clients mean when they name none."""
    books: tuple[str, ...] = ()
    """Names of the books that new merchants are at home in (JSON), one chosen by the merchant's id; none: `book`."""
    log_level: str = "INFO"

    log_origin: str = Field(default="khata.local", pattern=r"^[!-*,-~]{1,120}$")
    """What the names of the books' transparency logs begin with: `<log_origin>/<book>`."""
    witnesses: tuple[Witness, ...] = ()
    """Who cosigns their checkpoints (JSON): `[{"vkey": "name+id+key", "url": "https://…"}]`."""
