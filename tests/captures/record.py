#!/usr/bin/env python3
"""Records captures of real clients and servers: `record.py --out FOLDER [NAME...]`, as root, on Debian 12.

It owns the lab: three network namespaces (a node, and two pods behind veths of it), Debian's packages, and one
pcap for each scenario, taken on the node's end of the server's veth. The machine's own namespace is not
touched. Every password, token and address is made up.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import shutil
import subprocess
import sys
import tempfile
import time

SERVER, CLIENT = "10.244.1.2", "10.244.1.3"
NAMESPACES = {name: f"plainsight-record-{name}" for name in ("node", "server", "client")}
LIMIT = 60 * 1024
# Debian's own interpreter: the modules of its packages are not on another one's path.
PYTHON = "/usr/bin/python3"
SCENARIOS = {}


def scenario(*packages, pypi=()):
    """Declares the scenario that is named after the function, and the packages of Debian and PyPI that it needs."""

    def declare(function):
        SCENARIOS[function.__name__.replace("_", "-")] = (function, packages, pypi)
        return function

    return declare


class Lab:
    """One scenario's folder and processes."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    def path(self, name):
        return str(self.folder / name)

    def certificate(self):
        """A self-signed pair of today; only its public half is ever on the wire."""
        key, certificate = self.path("tls.key"), self.path("tls.crt")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=mcp.test", "-addext", "subjectAltName=DNS:mcp.test,IP:" + SERVER,
            "-keyout", key, "-out", certificate)
        os.chmod(key, 0o644)
        return certificate, key

    def start(self, *command, ports=(), where="server", user=None, env=None, seconds=30):
        """Starts a process and waits until it listens, without a connection that the capture would hold."""
        log = open(self.folder / f"log-{len(self.processes)}", "wb")
        process = subprocess.Popen(within(where, *command, user=user), cwd=self.folder, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, start_new_session=True, env=environment(env))
        self.processes.append(process)
        deadline = time.monotonic() + seconds
        for port in ports:
            while not run(*within(where, "ss", "-Hltn", f"sport = :{port}")):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{command[0]} does not listen on {port}: {pathlib.Path(log.name).read_text()[-2000:]}")
                time.sleep(0.05)
        return process

    def client(self, *command, input=b"", status=(0,), env=None, seconds=30):
        """Runs a client to its end."""
        done = subprocess.run(within("client", *command), cwd=self.folder, input=input, capture_output=True,
                              timeout=seconds, env=environment(env))
        if status is not None and done.returncode not in status:
            raise RuntimeError(f"{command}: {done.returncode}: {done.stdout[-500:]!r} {done.stderr[-1500:]!r}")
        # Whatever the client ends is on the wire before the next one starts.
        time.sleep(0.1)
        return done.stdout

    def python(self, text, *arguments, where="client", **options):
        """Runs a script as a client, or starts it as a server, with the packages of PyPI."""
        script = self.write(f"{where}.py", text)
        options["env"] = {"PYTHONPATH": self.path("pypi"), "HOME": str(self.folder)} | options.get("env", {})
        if where == "client":
            return self.client(PYTHON, script, *arguments, **options)
        return self.start(PYTHON, script, *arguments, where=where, **options)

    def stop(self):
        for process in reversed(self.processes):
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                try:
                    process.wait(5)
                    break
                except subprocess.TimeoutExpired:
                    pass


def environment(extra):
    base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    return base | (extra or {})


def run(*command):
    done = subprocess.run(command, capture_output=True, env=environment(None))
    if done.returncode:
        raise RuntimeError(f"{command}: {done.returncode}: {done.stderr.decode()[-1000:]}")
    return done.stdout


def within(where, *command, user=None):
    switch = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    # Servers and clients tell their host's name: a name of its own keeps the machine's out of the captures.
    named = ["unshare", "--uts", "--", "sh", "-c", 'hostname "$0" && exec "$@"', where]
    return ["ip", "netns", "exec", NAMESPACES[where], *named, *switch, *command]


def lay_out():
    """The node routes, as a CNI of the kind `ptp` has it: each pod has one address and one way out."""
    for name in NAMESPACES.values():
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
    node = NAMESPACES["node"]
    run("ip", "netns", "exec", node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    for pod, address in (("server", SERVER), ("client", CLIENT)):
        name = NAMESPACES[pod]
        run("ip", "-n", node, "link", "add", f"veth-{pod}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", node, "link", "set", f"veth-{pod}", "up")
        run("ip", "-n", node, "address", "add", "10.244.1.1/32", "dev", f"veth-{pod}")
        run("ip", "-n", node, "route", "add", f"{address}/32", "dev", f"veth-{pod}")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "address", "add", f"{address}/32", "dev", "eth0")
        run("ip", "-n", name, "route", "add", "10.244.1.1/32", "dev", "eth0", "scope", "link")
        run("ip", "-n", name, "route", "add", "default", "via", "10.244.1.1")


def clear_up():
    for name in NAMESPACES.values():
        # What went into the background by itself, as Erlang's port mapper does.
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True).stdout
        for process in found.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def install(packages):
    missing = [name for name in packages
               if b"install ok" not in subprocess.run(["dpkg-query", "-Wf", "${Status}", name], capture_output=True).stdout]
    if not missing:
        return
    # A service that starts at its installation would listen in the machine's own namespace.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True,
                       stdout=subprocess.DEVNULL, env=environment({"DEBIAN_FRONTEND": "noninteractive"}))
    finally:
        if ours:
            policy.unlink()


def record(name, out):
    function, packages, pypi = SCENARIOS[name]
    install(("tcpdump", "iproute2", "openssl", *packages))
    clear_up()
    target = out / f"{name}.pcap"
    with tempfile.TemporaryDirectory(prefix="plainsight-record-") as folder:
        os.chmod(folder, 0o777)
        lab = Lab(folder)
        if pypi:
            subprocess.run([PYTHON, "-m", "pip", "install", "-q", "--root-user-action=ignore", "--target", lab.path("pypi"), *pypi],
                           check=True)
        try:
            lay_out()
            file = pathlib.Path(folder) / "capture.pcap"
            ready = subprocess.Popen(
                within("node", "tcpdump", "-i", "veth-server", "-s", "0", "-U", "--immediate-mode", "-n", "-Z", "root",
                       "-w", str(file), "tcp"),
                stderr=subprocess.PIPE, start_new_session=True)
            if b"listening" not in ready.stderr.readline():
                raise RuntimeError("tcpdump does not listen")
            function(lab)
            time.sleep(0.5)
            ready.send_signal(signal.SIGINT)
            ready.wait(5)
            size = file.stat().st_size
            if not 24 < size <= LIMIT:
                raise RuntimeError(f"{size} bytes: nothing, or more than {LIMIT}")
            shutil.copy(file, target)
        finally:
            lab.stop()
            clear_up()
    versions = [run("dpkg-query", "-Wf", "${Package} ${Version}", package).decode() for package in packages]
    print(f"{name}: {size} bytes; {', '.join([*versions, *pypi])}", flush=True)


# Caches, brokers and databases.


@scenario("redis-server", "redis-tools")
def redis(lab):
    certificate, key = lab.certificate()
    lab.start("redis-server", "--port", "6379", "--tls-port", "6380", "--tls-cert-file", certificate, "--tls-key-file", key,
              "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no", "--bind", SERVER, "--protected-mode", "no",
              "--save", "", ports=[6379, 6380])
    for command in (["PING"], ["SET", "greeting", "hello"], ["GET", "greeting"]):
        lab.client("redis-cli", "-h", SERVER, *command)
    lab.client("redis-cli", "-h", SERVER, "-p", "6380", "--tls", "--insecure", "PING")


@scenario("redis-server", "redis-tools", pypi=("redis==7.0.1",))
def redis_auth(lab):
    lab.start("redis-server", "--port", "6379", "--bind", SERVER, "--requirepass", "made-up", "--save", "", ports=[6379])
    # `AUTH` before all else; `HELLO 3 AUTH` of RESP3; and a client that has no password.
    lab.client("redis-cli", "-h", SERVER, "-a", "made-up", "PING")
    lab.python(f"""
import redis
assert redis.Redis(host="{SERVER}", password="made-up", protocol=3).ping()
""")
    lab.client("redis-cli", "-h", SERVER, "PING", status=None)


def postgresql_server(lab, ssl, method="trust"):
    programs = next(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    data = lab.path("data")
    run(*within("server", str(programs / "initdb"), "-D", data, "-A", "trust", "--no-sync", user="postgres"))
    with open(f"{data}/pg_hba.conf", "a") as rules:
        rules.write(f"host all all 10.244.1.0/24 {method}\n")
    options = ["-c", "listen_addresses=" + SERVER, "-c", "unix_socket_directories=", "-c", "fsync=off"]
    if ssl:
        certificate, key = lab.certificate()
        shutil.chown(key, "postgres", "postgres")
        os.chmod(key, 0o600)
        options += ["-c", "ssl=on", "-c", "ssl_cert_file=" + certificate, "-c", "ssl_key_file=" + key]
    lab.start(str(programs / "postgres"), "-D", data, *options, ports=[5432], user="postgres")


def psql(lab, mode, status=(0,)):
    lab.client("psql", f"host=db.test hostaddr={SERVER} user=postgres dbname=postgres sslmode={mode}", "-Atc", "select 1",
               status=status)


@scenario("postgresql", "postgresql-client")
def postgresql_plain(lab):
    postgresql_server(lab, ssl=False)
    psql(lab, "disable")
    # Asks for TLS, is answered `N`, and goes on in clear.
    psql(lab, "prefer")
    # The same, and leaves.
    psql(lab, "require", status=(2,))


@scenario("postgresql", "postgresql-client")
def postgresql_tls(lab):
    postgresql_server(lab, ssl=True)
    psql(lab, "require")


@scenario("postgresql", "postgresql-client")
def postgresql_password(lab):
    postgresql_server(lab, ssl=False, method="password")
    for mode in ("disable", "prefer"):
        # The server asks for the password as it is; there is none that it would take.
        lab.client("psql", f"host=db.test hostaddr={SERVER} user=postgres dbname=postgres password=made-up sslmode={mode}", "-c", "",
                   status=(2,))


@scenario("postgresql", "postgresql-client")
def postgresql_scram(lab):
    postgresql_server(lab, ssl=False, method="scram-sha-256")
    lab.client("psql", f"host=db.test hostaddr={SERVER} user=postgres dbname=postgres password=made-up sslmode=disable", "-c", "",
               status=(2,))


@scenario("memcached", "libmemcached-tools")
def memcached(lab):
    lab.start("memcached", "-u", "nobody", "-l", SERVER, "-p", "11211", "-U", "0", ports=[11211])
    lab.client("memccp", "--servers=" + SERVER, lab.write("greeting", "hello"))
    lab.client("memcstat", "--servers=" + SERVER)


@scenario("memcached", "libmemcached-tools")
def memcached_get(lab):
    lab.start("memcached", "-u", "nobody", "-l", SERVER, "-p", "11211", "-U", "0", ports=[11211])
    lab.client("memccat", "--servers=" + SERVER, "greeting", status=None)


@scenario("mosquitto", "mosquitto-clients")
def mqtt(lab):
    certificate, key = lab.certificate()
    settings = lab.write("mosquitto.conf", f"user root\nlistener 1883 {SERVER}\nallow_anonymous true\n"
                         f"listener 8883 {SERVER}\ncertfile {certificate}\nkeyfile {key}\n")
    lab.start("mosquitto", "-c", settings, ports=[1883, 8883])
    send = ["mosquitto_pub", "-h", SERVER, "-t", "greeting", "-m", "hello", "-q", "1"]
    lab.client(*send, "-V", "mqttv311", "-i", "first")
    lab.client(*send, "-V", "mqttv5", "-i", "second")
    lab.client(*send, "-V", "mqttv31", "-i", "third")
    lab.client(*send, "-p", "8883", "--cafile", certificate, "--insecure")


@scenario("mosquitto", "mosquitto-clients")
def mqtt_password(lab):
    secrets = lab.path("secrets")
    run("mosquitto_passwd", "-b", "-c", secrets, "app", "made-up")
    settings = lab.write("mosquitto.conf", f"user root\nlistener 1883 {SERVER}\npassword_file {secrets}\n")
    lab.start("mosquitto", "-c", settings, ports=[1883])
    send = ["mosquitto_pub", "-h", SERVER, "-t", "greeting", "-m", "hello", "-u", "app"]
    lab.client(*send, "-P", "made-up", "-V", "mqttv5", "-i", "first", "--will-topic", "gone", "--will-payload", "x")
    lab.client(*send, "-P", "made-up", "-V", "mqttv311", "-i", "second")
    # A name alone, which the server refuses.
    lab.client(*send, "-V", "mqttv311", "-i", "third", status=None)


@scenario("nats-server", pypi=("nats-py==2.11.0",))
def nats_password(lab):
    lab.start("nats-server", "-a", SERVER, "-p", "4222", "--user", "app", "--pass", "made-up", ports=[4222])
    lab.python(f"""
import asyncio, nats
async def main():
    client = await nats.connect("nats://{SERVER}:4222", user="app", password="made-up", allow_reconnect=False)
    await client.publish("greeting", b"hello")
    await client.flush()
    await client.close()
asyncio.run(main())
""")


@scenario("nats-server", pypi=("nats-py==2.11.0",))
def nats_tls(lab):
    certificate, key = lab.certificate()
    lab.start("nats-server", "-a", SERVER, "-p", "4222", "--tls", "--tlscert", certificate, "--tlskey", key, ports=[4222])
    lab.python(f"""
import asyncio, nats, ssl
async def main():
    context = ssl.create_default_context(cafile={certificate!r})
    client = await nats.connect("nats://{SERVER}:4222", tls=context, tls_hostname="mcp.test", allow_reconnect=False)
    await client.flush()
    await client.close()
asyncio.run(main())
""")


@scenario("nats-server")
def nats(lab):
    lab.start("nats-server", "-a", SERVER, "-p", "4222", ports=[4222])
    client = lab.write("client.py", f"""
import socket
stream = socket.create_connection(("{SERVER}", 4222))
lines = stream.makefile("rb")
assert lines.readline().startswith(b"INFO ")
stream.sendall(b'CONNECT {{"verbose":false,"pedantic":false,"lang":"python","version":"0"}}\\r\\nPING\\r\\n')
assert lines.readline() == b"PONG\\r\\n"
stream.sendall(b"SUB greeting 1\\r\\nPUB greeting 5\\r\\nhello\\r\\n")
assert lines.readline().startswith(b"MSG greeting 1 5")
""")
    lab.client(PYTHON, client)


def mariadb_login(lab, *options):
    certificate, key = lab.certificate()
    data = lab.path("data")
    run("mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir=" + data, "--auth-root-authentication-method=normal")
    start = lab.write("start.sql", f"create user app@'{CLIENT}' identified by 'made-up';\ngrant all on *.* to app@'{CLIENT}';")
    lab.start("mariadbd", "--no-defaults", "--user=mysql", "--datadir=" + data, "--bind-address=" + SERVER, "--port=3306",
              "--socket=" + lab.path("socket"), "--skip-name-resolve", "--init-file=" + start, "--ssl-cert=" + certificate,
              "--ssl-key=" + key, ports=[3306])
    lab.client("mariadb", "--no-defaults", "-h", SERVER, "-uapp", "-pmade-up", "-e", "select 1", *options)


@scenario("mariadb-server", "mariadb-client")
def mariadb(lab):
    mariadb_login(lab, "--skip-ssl")


@scenario("mariadb-server", "mariadb-client", "python3-pymysql")
def mariadb_password(lab):
    # PAM wants the password as it is. It refuses this one, for there is no such user.
    data = lab.path("data")
    run("mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir=" + data, "--auth-root-authentication-method=normal")
    start = lab.write("start.sql", f"create user app@'{CLIENT}' identified via pam;")
    lab.start("mariadbd", "--no-defaults", "--user=mysql", "--datadir=" + data, "--bind-address=" + SERVER, "--port=3306",
              "--socket=" + lab.path("socket"), "--skip-name-resolve", "--init-file=" + start, "--plugin-load-add=auth_pam_v1",
              "--pam-use-cleartext-plugin", "--plugin-maturity=experimental", ports=[3306])
    lab.client("mariadb", "--no-defaults", "--skip-ssl", "-h", SERVER, "-uapp", "-pmade-up", "-e", "select 1", status=(1,))
    lab.python(f"""
import pymysql
try:
    pymysql.connect(host="{SERVER}", user="app", password="made-up")
except pymysql.err.OperationalError:
    pass
""")


@scenario("mariadb-server", "mariadb-client")
def mariadb_tls(lab):
    mariadb_login(lab, "--ssl", "--skip-ssl-verify-server-cert")


def rabbitmq(lab, listeners, ports):
    settings = lab.write("rabbitmq.conf", f"{listeners}\nloopback_users = none\n")
    env = {"RABBITMQ_NODENAME": "record@localhost", "RABBITMQ_MNESIA_BASE": lab.path("mnesia"), "RABBITMQ_CONFIG_FILE": settings,
           "RABBITMQ_LOG_BASE": lab.path("log"), "RABBITMQ_ENABLED_PLUGINS_FILE": lab.write("plugins", "[]."),
           "HOME": str(lab.folder), "RABBITMQ_PID_FILE": lab.path("pid")}
    lab.start("/usr/lib/rabbitmq/bin/rabbitmq-server", ports=ports, user="rabbitmq", env=env, seconds=90)


@scenario("rabbitmq-server", "amqp-tools")
def amqp(lab):
    rabbitmq(lab, f"listeners.tcp.1 = {SERVER}:5672", [5672])
    lab.client("amqp-declare-queue", "--server=" + SERVER, "-q", "greeting")
    lab.client("amqp-publish", "--server=" + SERVER, "-r", "greeting", "-b", "hello")


@scenario("rabbitmq-server", "python3-pika")
def amqp_tls(lab):
    certificate, key = lab.certificate()
    rabbitmq(lab, f"""listeners.tcp.1 = {SERVER}:5672
listeners.ssl.1 = {SERVER}:5671
ssl_options.cacertfile = {certificate}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none""", [5671, 5672])
    client = f"""
import pika, ssl, sys
context = ssl.create_default_context(cafile={certificate!r})
tls = pika.SSLOptions(context, "mcp.test") if sys.argv[1] == "5671" else None
connection = pika.BlockingConnection(pika.ConnectionParameters("{SERVER}", int(sys.argv[1]), ssl_options=tls))
connection.channel().queue_declare("greeting")
connection.close()
"""
    lab.python(client, "5671")
    lab.python(client, "5672")


def listener(lab, port):
    """A server that takes connections and says nothing: for clients whose servers no registry has."""
    lab.python("""
import socket, sys, threading
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
def read(stream):
    while stream.recv(65536):
        pass
while True:
    threading.Thread(target=read, args=server.accept()[:1], daemon=True).start()
""", SERVER, str(port), where="server", ports=[port])


@scenario("kcat", "python3-kafka")
def kafka(lab):
    listener(lab, 9092)
    lab.client("kcat", "-L", "-b", SERVER + ":9092", "-m", "2", status=None)
    lab.python(f"""
import kafka
try:
    kafka.KafkaProducer(bootstrap_servers="{SERVER}:9092", client_id="producer", api_version_auto_timeout_ms=1000)
except kafka.errors.NoBrokersAvailable:
    pass
""")


@scenario("kcat", "python3-kafka")
def kafka_sasl(lab):
    # It says what a broker says (https://kafka.apache.org/protocol), as far as the login.
    lab.python("""
import socket, struct, sys, threading
server = socket.create_server((sys.argv[1], 9092))
KEYS = {0: (0, 7), 1: (0, 11), 3: (0, 4), 17: (0, 1), 18: (0, 3), 36: (0, 1)}
def exactly(stream, length):
    data = b""
    while len(data) < length:
        more = stream.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data
def answer(key, version, request):
    if key == 18 and version == 3:
        keys = b"".join(struct.pack(">hhhb", key, *span, 0) for key, span in KEYS.items())
        return struct.pack(">hb", 0, len(KEYS) + 1) + keys + struct.pack(">ib", 0, 0)
    if key == 18:
        keys = b"".join(struct.pack(">hhh", key, *span) for key, span in KEYS.items())
        return struct.pack(">hi", 0, len(KEYS)) + keys + (struct.pack(">i", 0) if version else b"")
    if key == 17:
        mechanisms = [b"PLAIN", b"SCRAM-SHA-256"]
        return struct.pack(">hi", 0, len(mechanisms)) + b"".join(struct.pack(">h", len(name)) + name for name in mechanisms)
    if key == 36:
        return struct.pack(">hhi", 0, -1, 0) + (struct.pack(">q", 0) if version else b"")
def serve(stream):
    raw = False
    try:
        while True:
            request = exactly(stream, struct.unpack(">i", exactly(stream, 4))[0])
            if raw:
                # Behind a handshake of version 0 PLAIN stands in no request.
                stream.sendall(struct.pack(">i", 0))
                raw = False
                continue
            key, version, number = struct.unpack(">hhi", request[:8])
            raw = key == 17 and version == 0 and b"PLAIN" in request
            body = answer(key, version, request)
            if body is None:
                break
            stream.sendall(struct.pack(">ii", len(body) + 4, number) + body)
    except EOFError:
        pass
    stream.close()
while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
""", SERVER, where="server", ports=[9092])
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        lab.client("kcat", "-L", "-b", SERVER + ":9092", "-m", "2", "-X", "security.protocol=SASL_PLAINTEXT", "-X",
                   "sasl.mechanisms=" + mechanism, "-X", "sasl.username=app", "-X", "sasl.password=made-up", status=None)
    lab.python(f"""
import kafka
try:
    kafka.KafkaProducer(bootstrap_servers="{SERVER}:9092", client_id="producer", api_version=(1, 0, 0), max_block_ms=1000,
                        security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_plain_username="app",
                        sasl_plain_password="made-up").partitions_for("topic")
except kafka.errors.KafkaError:
    pass
""")


@scenario("python3-pymongo", pypi=("pymongo==4.15.4",))
def mongodb(lab):
    listener(lab, 27017)
    client = f"""
import platform, sys
# Drivers tell which kernel they run on.
platform.release = lambda: "6.18"
import pymongo, pymongo.errors
api = dict(server_api=pymongo.server_api.ServerApi("1")) if "api" in sys.argv else dict()
try:
    pymongo.MongoClient("{SERVER}", serverSelectionTimeoutMS=1000, connectTimeoutMS=1000, **api).admin.command("ping")
except pymongo.errors.ServerSelectionTimeoutError:
    pass
"""
    # OP_QUERY of old drivers and of new ones that do not know the server; OP_MSG of those that name an API.
    lab.python(client, env={"PYTHONPATH": ""})
    lab.python(client)
    lab.python(client, "api")


@scenario("python3-cassandra")
def cassandra(lab):
    listener(lab, 9042)
    for version in (3, 4):
        lab.python(f"""
import cassandra.cluster
cluster = cassandra.cluster.Cluster(["{SERVER}"], protocol_version={version}, connect_timeout=1)
try:
    cluster.connect()
except cassandra.cluster.NoHostAvailable:
    pass
cluster.shutdown()
""")


@scenario("python3-cassandra")
def cassandra_password(lab):
    # It says what a server says (native protocol v4), as far as the login.
    lab.python("""
import socket, struct, sys, threading
server = socket.create_server((sys.argv[1], 9042))
def string(text):
    return struct.pack(">H", len(text)) + text
SUPPORTED = {b"CQL_VERSION": [b"3.4.5"], b"COMPRESSION": [b"snappy", b"lz4"], b"PROTOCOL_VERSIONS": [b"3/v3", b"4/v4"]}
def answer(opcode, version):
    if opcode == 5:
        lists = (string(key) + struct.pack(">H", len(values)) + b"".join(map(string, values)) for key, values in SUPPORTED.items())
        return 6, struct.pack(">H", len(SUPPORTED)) + b"".join(lists)
    if opcode == 1:
        return 3, string(b"org.apache.cassandra.auth.PasswordAuthenticator")
    if opcode == 15:
        return 16, struct.pack(">i", -1)
    return None
def serve(stream):
    data = b""
    while more := stream.recv(65536):
        data += more
        while len(data) >= 9:
            version, flags, number, opcode, length = struct.unpack(">BBhBi", data[:9])
            if len(data) < 9 + length:
                break
            data = data[9 + length:]
            said = answer(opcode, version)
            if said:
                stream.sendall(struct.pack(">BBhBi", version | 0x80, 0, number, said[0], len(said[1])) + said[1])
while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
""", SERVER, where="server", ports=[9042])
    for version in (3, 4):
        lab.python(f"""
import cassandra.auth, cassandra.cluster
login = cassandra.auth.PlainTextAuthProvider("app", "made-up")
cluster = cassandra.cluster.Cluster(["{SERVER}"], protocol_version={version}, connect_timeout=1, auth_provider=login)
try:
    cluster.connect()
except cassandra.cluster.NoHostAvailable:
    pass
cluster.shutdown()
""")


@scenario("zookeeper")
def zookeeper(lab):
    settings = lab.write("zoo.cfg", f"tickTime=2000\ndataDir={lab.path('data')}\nclientPort=2181\nclientPortAddress={SERVER}\n"
                         "admin.enableServer=false\n4lw.commands.whitelist=ruok,srvr\n")
    jars = "/etc/zookeeper/conf:/usr/share/java/*"
    lab.start("java", "-cp", jars, "org.apache.zookeeper.server.quorum.QuorumPeerMain", settings, ports=[2181], seconds=60)
    lab.client("java", "-cp", jars, "org.apache.zookeeper.ZooKeeperMain", "-server", SERVER + ":2181", "ls", "/", seconds=60)


# Directories, mail, files, shells.


@scenario("slapd", "ldap-utils")
def ldap(lab):
    directory(lab, ["-H", f"ldap://{SERVER}:389"], ["-H", f"ldaps://{SERVER}:636"])


@scenario("slapd", "ldap-utils")
def ldap_starttls(lab):
    directory(lab, ["-ZZ", "-H", f"ldap://{SERVER}:389"])


def directory(lab, *searches):
    certificate, key = lab.certificate()
    os.mkdir(lab.path("data"))
    settings = lab.write("slapd.conf", f"""
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
suffix "dc=test"
rootdn "cn=admin,dc=test"
rootpw made-up
directory {lab.path('data')}
""")
    entry = lab.write("entry.ldif", "dn: dc=test\nobjectClass: dcObject\nobjectClass: organization\ndc: test\no: test\n")
    run("slapadd", "-f", settings, "-l", entry)
    lab.start("slapd", "-d", "0", "-f", settings, "-h", f"ldap://{SERVER}:389 ldaps://{SERVER}:636", ports=[389, 636])
    search = ["ldapsearch", "-x", "-b", "dc=test", "-D", "cn=admin,dc=test", "-w", "made-up"]
    for options in searches:
        lab.client(*search, *options, env={"LDAPTLS_REQCERT": "never"})


def mail_server(lab, port, *options):
    lab.start(PYTHON, "-m", "aiosmtpd", "-n", "-l", f"{SERVER}:{port}", "-c", "aiosmtpd.handlers.Sink", *options, ports=[port])


def mail_server_with_tls(lab):
    certificate, key = lab.certificate()
    mail_server(lab, 587, "--tlscert", certificate, "--tlskey", key, "--no-requiretls")


@scenario("python3-aiosmtpd", "swaks")
def smtp(lab):
    mail_server(lab, 25)
    mail_server_with_tls(lab)
    send = ["swaks", "--server", SERVER, "--helo", "client.test", "--from", "a@client.test", "--to", "b@mcp.test"]
    lab.client(*send)
    # The server offers STARTTLS, and the client does not take it up.
    lab.client(*send, "--port", "587")


@scenario("python3-aiosmtpd", "swaks")
def smtp_auth(lab):
    lab.python(f"""
import time
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult
Controller(Sink(), hostname="{SERVER}", port=587, auth_require_tls=False,
           authenticator=lambda *all: AuthResult(success=True)).start()
time.sleep(60)
""", where="server", ports=[587])
    send = ["swaks", "--server", SERVER, "--port", "587", "--helo", "client.test", "--from", "a@client.test", "--to", "b@mcp.test"]
    for mechanism in ("PLAIN", "LOGIN"):
        lab.client(*send, "--auth", mechanism, "--auth-user", "app", "--auth-password", "made-up")


@scenario("python3-aiosmtpd", "openssl")
def smtp_starttls(lab):
    mail_server_with_tls(lab)
    lab.client("openssl", "s_client", "-connect", f"{SERVER}:587", "-starttls", "smtp", "-servername", "mcp.test", "-quiet",
               input=b"QUIT\r\n", status=None)


def dovecot(lab, protocol, port):
    certificate, key = lab.certificate()
    settings = lab.write("dovecot.conf", f"""
protocols = {protocol}
listen = {SERVER}
base_dir = {lab.path('run')}
state_dir = {lab.path('run')}
log_path = {lab.path('dovecot.log')}
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
mail_location = maildir:{lab.path('mail')}
first_valid_uid = 1
passdb {{
  driver = static
  args = password=made-up
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={lab.path('mail')}
}}
""")
    os.mkdir(lab.path("mail"))
    shutil.chown(lab.path("mail"), "nobody", "nogroup")
    lab.start("dovecot", "-F", "-c", settings, ports=[port])


@scenario("dovecot-imapd", "curl")
def imap(lab):
    dovecot(lab, "imap", 143)
    lab.client("curl", "-sS", f"imap://{SERVER}/", "-u", "app:made-up")


@scenario("dovecot-imapd", "openssl")
def imap_starttls(lab):
    dovecot(lab, "imap", 143)
    lab.client("openssl", "s_client", "-connect", f"{SERVER}:143", "-starttls", "imap", "-noservername", "-quiet",
               input=b"a logout\r\n", status=None)


@scenario("dovecot-imapd", "openssl")
def imaps(lab):
    dovecot(lab, "imap", 993)
    lab.client("openssl", "s_client", "-connect", f"{SERVER}:993", "-noservername", "-quiet", input=b"a logout\r\n", status=None)


@scenario("dovecot-pop3d", "curl")
def pop3(lab):
    dovecot(lab, "pop3", 110)
    lab.client("curl", "-sS", f"pop3://{SERVER}/", "-u", "app:made-up")


@scenario("dovecot-pop3d", "openssl")
def pop3_starttls(lab):
    dovecot(lab, "pop3", 110)
    lab.client("openssl", "s_client", "-connect", f"{SERVER}:110", "-starttls", "pop3", "-noservername", "-quiet",
               input=b"QUIT\r\n", status=None)


def file_server(lab, ssl):
    certificate, key = lab.certificate()
    os.makedirs(lab.path("root/public"))
    lab.write("root/public/greeting", "A file's content is nothing that is known.\n")
    os.makedirs("/var/run/vsftpd/empty", exist_ok=True)
    settings = lab.write("vsftpd.conf", f"""
listen=YES
listen_address={SERVER}
listen_port=21
background=NO
anonymous_enable=YES
anon_root={lab.path('root')}
pasv_min_port=2100
pasv_max_port=2100
ssl_enable={ssl}
allow_anon_ssl=YES
require_ssl_reuse=NO
rsa_cert_file={certificate}
rsa_private_key_file={key}
ssl_ciphers=HIGH
seccomp_sandbox=NO
connect_from_port_20=NO
""")
    lab.start("vsftpd", settings, ports=[21])


@scenario("python3-pyftpdlib", "curl")
def ftp_login(lab):
    lab.write("root/greeting", "A file's content is nothing that is known.\n")
    lab.python(f"""
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_user("app", "made-up", {lab.path("root")!r})
FTPHandler.passive_ports = [2100]
FTPServer(("{SERVER}", 21), FTPHandler).serve_forever()
""", where="server", ports=[21])
    lab.client("curl", "-sS", "-u", "app:made-up", f"ftp://{SERVER}/greeting")


@scenario("prosody", "python3-slixmpp")
def xmpp(lab):
    certificate, key = lab.certificate()
    settings = lab.write("prosody.cfg.lua", f"""
run_as_root = true
daemonize = false
data_path = "{lab.path('data')}"
pidfile = "{lab.path('pid')}"
log = {{ warn = "*console" }}
interfaces = {{ "{SERVER}" }}
c2s_ports = {{ 5222 }}
c2s_direct_tls_ports = {{ 5223 }}
s2s_ports = {{ }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
ssl = {{ certificate = "{certificate}", key = "{key}" }}
VirtualHost "mcp.test"
""")
    lab.write("data/mcp%2etest/accounts/app.dat", 'return { ["password"] = "made-up" };\n')
    lab.start("prosody", "-F", "--config", settings, ports=[5222, 5223])
    client = f"""
import slixmpp, ssl, sys
how = sys.argv[1]
class Client(slixmpp.ClientXMPP):
    def __init__(self):
        plugins = dict(feature_mechanisms=dict(unencrypted_plain=True, unencrypted_scram=True, use_mech=sys.argv[2]))
        super().__init__("app@mcp.test/x", "made-up", plugin_config=plugins)
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.add_event_handler("session_start", lambda event: self.disconnect())
client = Client()
clear = how == "clear"
client.connect(("{SERVER}", 5223 if how == "direct" else 5222), use_ssl=how == "direct", disable_starttls=clear)
client.process(forever=False)
"""
    # Without TLS by a password that can be read and by one that cannot; with STARTTLS; and behind TLS from the start.
    for how, mechanism in (("clear", "PLAIN"), ("clear", "SCRAM-SHA-1"), ("starttls", "PLAIN"), ("direct", "PLAIN")):
        lab.python(client, how, mechanism)


@scenario("vsftpd", "curl")
def ftp(lab):
    file_server(lab, "NO")
    lab.client("curl", "-sS", f"ftp://{SERVER}/public/greeting")


@scenario("vsftpd", "curl")
def ftp_tls(lab):
    file_server(lab, "YES")
    lab.client("curl", "-sSk", "--ssl-reqd", f"ftp://{SERVER}/public/greeting")


@scenario("openssh-server", "openssh-client")
def ssh(lab):
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", lab.path("host"))
    settings = lab.write("sshd_config", f"Port 22\nListenAddress {SERVER}\nHostKey {lab.path('host')}\nPidFile none\n"
                         "PasswordAuthentication no\nUsePAM no\n")
    os.makedirs("/run/sshd", exist_ok=True)
    lab.start("/usr/sbin/sshd", "-D", "-f", settings, ports=[22])
    lab.client("ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
               "nobody@" + SERVER, "true", status=(255,))


# HTTP.


def nginx(lab, servers):
    settings = lab.write("nginx.conf", f"""
daemon off;
pid {lab.path('nginx.pid')};
error_log stderr;
worker_processes 1;
events {{}}
http {{
  access_log off;
  {' '.join(f'{kind}_temp_path {lab.path(kind)};' for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))}
  types {{ application/json json; text/plain txt; }}
  default_type text/plain;
  gzip on; gzip_min_length 1; gzip_types text/plain application/json;
  {servers}
}}
""")
    ports = sorted({int(word.strip(";").rsplit(":")[-1]) for line in servers.splitlines()
                    if line.strip().startswith("listen ") for word in line.split()[1:2]})
    lab.start("nginx", "-c", settings, "-p", str(lab.folder), "-e", "stderr", ports=ports)


JSON = ["-H", "Content-Type: application/json"]
HTTP = """
  server {
    listen 8080;
    location /healthz { return 200 "ok"; }
    location /login { add_header Set-Cookie "sid=made-up"; return 200 "ok"; }
    location /graphql { default_type application/json; return 200 '{"data":{"tools":[{"name":"jsonrpc"}]}}'; }
    location /mcp { default_type application/json; return 200 '{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'; }
    location /metrics { default_type "text/plain; version=0.0.4"; root ROOT; try_files /metrics.txt =404; }
    location / { root ROOT; }
  }
"""
METRICS = """# HELP http_requests_total Requests by method.
# TYPE http_requests_total counter
http_requests_total{method="tools/list",jsonrpc="2.0"} 3
http_requests_total{method="initialize"} 1
"""


def http_server(lab):
    lab.write("files/metrics.txt", METRICS)
    lab.write("files/notes.txt", 'The word "jsonrpc" and "method":"tools/list" stand in a text.\n' * 4)
    nginx(lab, HTTP.replace("ROOT", lab.path("files")))


@scenario("nginx-light", "curl")
def nginx_http(lab):
    http_server(lab)
    url = f"http://{SERVER}:8080"
    # One connection: a probe, a chunked answer, HEAD, 404, and the answer 304.
    lab.client("curl", "-sS", "-A", "kube-probe/1.34", f"{url}/healthz", "--next", "-sS", "--compressed", f"{url}/notes.txt",
               "--next", "-sSI", f"{url}/notes.txt", "--next", "-sS", f"{url}/absent", "--next", "-sS", "-z",
               lab.path("files/notes.txt"), f"{url}/notes.txt")
    lab.client("curl", "-sS", f"{url}/metrics")
    lab.client("curl", "-sS", *JSON, "-d", '{"query":"{ tools(method: \\"tools/list\\") { name jsonrpc } }"}', f"{url}/graphql")
    lab.client("curl", "-sS", "-H", "Transfer-Encoding: chunked", "-d", "a=1&jsonrpc=2.0", f"{url}/healthz")


@scenario("nginx-light", "curl")
def http_credentials(lab):
    http_server(lab)
    url = f"http://{SERVER}:8080"
    lab.client("curl", "-sS", "-u", "app:made-up", f"{url}/healthz")
    lab.client("curl", "-sS", "--oauth2-bearer", "made-up", f"{url}/healthz")
    lab.client("curl", "-sS", "-b", "sid=made-up", f"{url}/healthz")
    lab.client("curl", "-sS", f"{url}/login")
    lab.client("curl", "-sS", "-H", "X-API-Key: made-up", f"{url}/healthz")
    lab.client("curl", "-sS", "-H", "Authorization: Digest made-up", f"{url}/healthz")
    lab.client("curl", "-sS", f"{url}/healthz")


@scenario("nginx-light", "curl")
def http_health_then_mcp(lab):
    http_server(lab)
    url = f"http://{SERVER}:8080"
    lab.client("curl", "-sS", f"{url}/healthz", f"{url}/healthz", f"{url}/metrics", "--next", "-sS", *JSON, "-H",
               "Accept: application/json, text/event-stream", "-H", "MCP-Protocol-Version: 2026-07-28", "-H", "Mcp-Method: tools/list",
               "-d", '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', f"{url}/mcp")


@scenario("nginx-light", "curl")
def http_health_and_mcp(lab):
    http_server(lab)
    url = f"http://{SERVER}:8080"
    # One port: a connection of health checks alone, and one that turns to MCP.
    lab.client("curl", "-sS", f"{url}/healthz")
    lab.client("curl", "-sS", f"{url}/healthz", "--next", "-sS", *JSON, "-d",
               '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', f"{url}/mcp")


H2C_BODIES = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1}}}',
    '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}',
    '{"query":"{ tools { name } }"}',
)


def http2(lab, *ports):
    for port in sorted(set(ports)):
        lab.start("nghttpd", "--no-tls", "--echo-upload", "-a", SERVER, str(port), ports=[port])
    for port, body in zip(ports, H2C_BODIES):
        lab.client("curl", "-sS", "--http2-prior-knowledge", *JSON, "-d", body, f"http://{SERVER}:{port}/mcp")


@scenario("nghttp2-server", "curl")
def h2c(lab):
    http2(lab, 8081, 8082, 8083)


@scenario("nghttp2-server", "curl")
def h2c_one_port(lab):
    http2(lab, 8080, 8080, 8080)


@scenario("python3-websockets")
def websocket(lab):
    server = lab.write("server.py", f"""
import asyncio, websockets
async def echo(stream):
    async for message in stream:
        await stream.send(message)
async def main():
    async with websockets.serve(echo, "{SERVER}", 8765, subprotocols=["mcp", "chat"]):
        await asyncio.Future()
asyncio.run(main())
""")
    client = lab.write("client.py", f"""
import asyncio, sys, websockets
async def main():
    async with websockets.connect("ws://{SERVER}:8765/ws", subprotocols=[sys.argv[1]]) as stream:
        await stream.send('{{"jsonrpc":"2.0","id":1,"method":"tools/list"}}')
        await stream.recv()
asyncio.run(main())
""")
    lab.start(PYTHON, server, ports=[8765])
    lab.client(PYTHON, client, "mcp")
    lab.client(PYTHON, client, "chat")


@scenario("haproxy", "nginx-light", "curl")
def proxy_protocol(lab):
    certificate, key = lab.certificate()
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    nginx(lab, "\n".join(f"server {{\nlisten {port} {options} proxy_protocol; {tls}\nreturn 200 ok; }}"
                         for port, options in ((8081, ""), (8082, ""), (8441, "ssl"), (8442, "ssl"))))
    proxies = "\n".join(
        f"listen p{port}\n  bind 127.0.0.1:{port}\n  server s {SERVER}:{port} {kind}\n"
        for port, kind in ((8081, "send-proxy"), (8082, "send-proxy-v2"), (8441, "send-proxy"), (8442, "send-proxy-v2")))
    settings = lab.write("haproxy.cfg", f"defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n{proxies}")
    lab.start("haproxy", "-db", "-f", settings, ports=[8081, 8082, 8441, 8442], where="client")
    for port in (8081, 8082):
        lab.client("curl", "-sS", f"http://127.0.0.1:{port}/")
    for port in (8441, 8442):
        lab.client("curl", "-sSk", "--connect-to", f"mcp.test:{port}:127.0.0.1:{port}", f"https://mcp.test:{port}/")


# TLS.


@scenario("nginx-light", "curl")
def nginx_tls(lab):
    certificate, key = lab.certificate()
    nginx(lab, "\n".join(f"""server {{
    listen {port} ssl;
    ssl_protocols {versions}; ssl_certificate {certificate}; ssl_certificate_key {key};
    return 200 ok;
  }}""" for port, versions in ((8442, "TLSv1.2"), (8443, "TLSv1.2 TLSv1.3"), (8444, "TLSv1.3"))))
    curl = ["curl", "-sSk", "--connect-to", f"::{SERVER}:"]
    lab.client(*curl, "https://mcp.test:8442/")
    lab.client(*curl, "https://mcp.test:8443/")
    # No version in common: the server answers with an alert.
    lab.client(*curl, "--tls-max", "1.2", "https://mcp.test:8444/", status=(35,))


def s_server(lab, port, *options):
    certificate, key = lab.certificate()
    lab.start("openssl", "s_server", "-accept", f"{SERVER}:{port}", "-cert", certificate, "-key", key, "-quiet", "-www", *options,
              ports=[port])


def s_client(lab, port, *options):
    lab.client("openssl", "s_client", "-connect", f"{SERVER}:{port}", *options, input=b"Q\n", status=None)


@scenario("openssl")
def openssl_mesh(lab):
    s_server(lab, 8080, "-alpn", "istio")
    s_server(lab, 4143, "-alpn", "transport.l5d.io/v1")
    s_server(lab, 15008, "-alpn", "h2")
    s_server(lab, 8443)
    linkerd = "tools.mcp.serviceaccount.identity.linkerd.cluster.local"
    s_client(lab, 8080, "-alpn", "istio", "-servername", "outbound_.8080_._.mcp.ns.svc.cluster.local")
    s_client(lab, 4143, "-alpn", "transport.l5d.io/v1", "-servername", linkerd)
    s_client(lab, 15008, "-alpn", "h2", "-noservername")
    # Linkerd's name alone, as its proxies send it to the server's own port.
    s_client(lab, 8443, "-servername", linkerd)


# The proxies themselves are in no registry that is at hand. Both are built on rustls and aws-lc (linkerd2-proxy
# `linkerd/meshtls/rustls`, ztunnel `src/tls`): these are hellos of that library, configured as they configure it.
RUSTLS_MANIFEST = """
[package]
name = "mesh-hello"
version = "0.0.0"
edition = "2024"

[dependencies]
rustls = { version = "=0.23.46", default-features = false, features = ["aws_lc_rs", "std"] }
"""
RUSTLS_PROGRAM = """
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::{env, io::{Read as _, Write as _}, net::{TcpListener, TcpStream}, sync::Arc};

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: &ServerName<'_>, _: &[u8], _: UnixTime)
        -> Result<ServerCertVerified, Error> { Ok(ServerCertVerified::assertion()) }
    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct)
        -> Result<HandshakeSignatureValid, Error> { Ok(HandshakeSignatureValid::assertion()) }
    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct)
        -> Result<HandshakeSignatureValid, Error> { Ok(HandshakeSignatureValid::assertion()) }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// `serve ADDRESS ALPN CERTIFICATE KEY` | `call ADDRESS ALPN NAME GROUPS`
fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [role, address, alpn, one, other] = arguments.try_into().unwrap();
    let alpn: Vec<Vec<u8>> = if alpn == "-" { vec![] } else { vec![alpn.into_bytes()] };
    let mut provider = default_provider();
    provider.kx_groups = match &other[..] {
        "hybrid" => vec![kx_group::X25519MLKEM768],
        "classic" => vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        _ => vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
    };
    let provider = Arc::new(provider);
    let versions = &[&rustls::version::TLS13];
    if role == "serve" {
        let certificate = CertificateDer::from_pem_file(one).unwrap();
        let key = PrivateKeyDer::from_pem_file(other).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
            .with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = alpn;
        let config = Arc::new(config);
        for stream in TcpListener::bind(address).unwrap().incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut question = [0; 4];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"pong").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    } else {
        let mut config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
            .dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
        config.alpn_protocols = alpn;
        let connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(one).unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap());
        stream.write_all(b"ping").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
    }
}
"""


@scenario("openssl")
def rustls_mesh(lab):
    lab.write("hello/Cargo.toml", RUSTLS_MANIFEST)
    lab.write("hello/src/main.rs", RUSTLS_PROGRAM)
    # The builder's own PATH and home: cargo is not Debian's.
    target = os.environ.get("MESH_HELLO_TARGET", lab.path("target"))
    subprocess.run(["cargo", "build", "-q", "--manifest-path", lab.path("hello/Cargo.toml"), "--target-dir", target], check=True)
    program = target + "/debug/mesh-hello"
    certificate, key = lab.certificate()
    for port, alpn in ((4143, "transport.l5d.io/v1"), (15008, "h2"), (8443, "-")):
        lab.start(program, "serve", f"{SERVER}:{port}", alpn, certificate, key, ports=[port])
    identity = "tools.mcp.serviceaccount.identity.linkerd.cluster.local"
    # Extensions stand in another order each time.
    for _ in range(4):
        lab.client(program, "call", SERVER + ":4143", "transport.l5d.io/v1", identity, "hybrid-first")
    lab.client(program, "call", SERVER + ":8443", "-", identity, "hybrid-first")
    # ztunnel names an address, which is no server name; its hello is hybrid by `COMPLIANCE_POLICY=pqc` alone.
    for groups in ("classic", "classic", "hybrid"):
        lab.client(program, "call", SERVER + ":15008", "h2", "0.0.0.0", groups)


@scenario("openssl")
def openssl_weak(lab):
    for port, version in ((8440, "-tls1"), (8441, "-tls1_1")):
        s_server(lab, port, version, "-cipher", "DEFAULT:@SECLEVEL=0")
        s_client(lab, port, version, "-cipher", "DEFAULT:@SECLEVEL=0", "-noservername")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for the captures")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all without any")
    arguments = parser.parse_args()
    failed = []
    for name in arguments.names or SCENARIOS:
        if name not in SCENARIOS:
            parser.error(f"no scenario {name}; there are {', '.join(SCENARIOS)}")
        try:
            record(name, arguments.out)
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
