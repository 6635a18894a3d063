"""The proxy of a mesh, as far as the wire shows it: mutual TLS towards others, plaintext on the loopback.

`inbound` takes TLS and passes it on in the clear; plaintext it passes on as it is, or refuses with --strict.
`outbound` takes plaintext and passes it on over TLS, with the server name and protocols that it is told.
"""

import argparse
import select
import socket
import ssl
import threading

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("direction", choices=["inbound", "outbound"])
parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
parser.add_argument("--to", required=True, help="ADDRESS:PORT")
parser.add_argument("--strict", action="store_true", help="refuse plaintext")
parser.add_argument("--alpn", default="", help="protocols, separated by commas")
parser.add_argument("--sni", help="server name")
parser.add_argument("--cert", required=True)
parser.add_argument("--key", required=True)
args = parser.parse_args()


def address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


def context(side: int) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.load_cert_chain(args.cert, args.key)
    if side == ssl.PROTOCOL_TLS_CLIENT:
        # The other one's certificate vouches for itself; who it is was never the question here.
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if args.alpn:
        made.set_alpn_protocols(args.alpn.split(","))
    return made


INBOUND = args.direction == "inbound"
CONTEXT = context(ssl.PROTOCOL_TLS_SERVER if INBOUND else ssl.PROTOCOL_TLS_CLIENT)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Passes bytes both ways until one side ends.

    In one thread: a TLS connection may not be read and written at the same time.
    """
    opposite = {one: other, other: one}
    while True:
        ready = [end for end in opposite if isinstance(end, ssl.SSLSocket) and end.pending()]
        ready = ready or select.select(list(opposite), [], [])[0]
        for end in ready:
            try:
                data = end.recv(65536)
                if not data:
                    return
                opposite[end].sendall(data)
            except OSError:
                return


def serve(client: socket.socket) -> None:
    with client:
        try:
            if INBOUND:
                first = client.recv(1, socket.MSG_PEEK)
                if first == b"\x16":
                    client = CONTEXT.wrap_socket(client, server_side=True)
                elif args.strict:
                    return
            server = socket.create_connection(address(args.to), timeout=20)
            server.settimeout(None)
            if not INBOUND:
                server = CONTEXT.wrap_socket(server, server_hostname=args.sni)
        except OSError:
            return
        with server:
            relay(client, server)


with socket.create_server(address(args.listen), backlog=64) as listener:
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
