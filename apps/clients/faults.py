"""Why a call over HTTP came to no answer, whichever library made it."""


class HttpFault(Exception):
    """A call that came to no answer; its text says why and does not name the server."""


class NotReached(HttpFault):
    """There was no connection, or it broke before the answer was whole."""


class CertificateRefused(HttpFault):
    """The server shows a certificate that nobody trusted has signed, or another host's."""


class AddressUnusual(HttpFault):
    """The host is a number that stands for an address, such as 127.1 or 017700000001."""


class CallTimedOut(HttpFault):
    """The call took longer than a call may."""


class NotHttp(HttpFault):
    """The answer is not HTTP, or its head is out of all bounds."""
