"""The same drawn runs as the fits are tested on."""

from tests.fits.conftest import frame

__all__ = ["frame"]
