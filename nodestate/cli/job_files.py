"""Job files: JSON as the API takes it, with `Job` around it or without."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from nodestate.cli.session import CommandError, Session
from nodestate.client_work import WorkClient

JOB_FILE_BYTES_MAX: Final = 1 << 20
"""What a server takes at most as the body of a request."""


def read_job(session: Session, path: str) -> dict[str, Any]:
    """Return the job in a file, or in what is piped in if the path is `-`."""
    text = _text(session, path)
    try:
        sent = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _unusable(path, f"it is no JSON: {error}{_hint(text)}") from error
    if isinstance(sent, dict) and "Job" in sent:
        sent = sent["Job"]
    if not isinstance(sent, dict):
        raise _unusable(path, "a job is a JSON object, alone or as the key Job of one")
    if not isinstance(sent.get("ID"), str) or not sent["ID"]:
        raise _unusable(path, "the job has no ID")
    return sent


def client_for(session: Session, job: Mapping[str, Any]) -> WorkClient:
    """Return a client that asks for the job's own namespace and region, if it has any."""
    named = {
        name.lower(): job[name]
        for name in ("Namespace", "Region")
        if isinstance(job.get(name), str) and job[name]
    }
    args = argparse.Namespace(**{**vars(session.args), **named})
    return msgspec.structs.replace(session, args=args).client()


def _text(session: Session, path: str) -> bytes:
    if path == "-":
        text = session.console.read_all().encode()
    else:
        try:
            with Path(path).open("rb") as file:
                text = file.read(JOB_FILE_BYTES_MAX + 1)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
    if len(text) > JOB_FILE_BYTES_MAX:
        raise _unusable(path, f"it is larger than {JOB_FILE_BYTES_MAX} bytes")
    return text


def _hint(text: bytes) -> str:
    """Say what to do about a job file in Nomad's own language."""
    if text.lstrip().startswith((b"job ", b"variable ", b"#", b"//")):
        return (
            "\nJob files in HCL are not read here. "
            "'nomad job run -output' turns one into JSON"
        )
    return ""


def _unusable(path: str, reason: str) -> CommandError:
    return CommandError(f"Error getting job struct: {path}: {reason}")
