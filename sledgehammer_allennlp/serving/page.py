"""The service's page: one file, without anything from elsewhere."""

from pathlib import Path

from fastapi.responses import HTMLResponse

_FILE = Path(__file__).with_name("page.html")

# Its own program and styles, connections to the service, and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def page() -> HTMLResponse:
    """The page, which asks `/info`, `/exits` and `/load` for what it shows."""
    return HTMLResponse(
        _FILE.read_text(encoding="utf-8"),
        headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"},
    )
