"""docker-py against a manager: swarm, networks, secrets, configs, services, tasks, nodes, logs, events.

Speaks to DOCKER_HOST. Each step asserts; the last line says that all of it was done.
"""

import threading
import time

import docker
from docker.errors import APIError, NotFound
from docker.types import (
    ConfigReference, EndpointSpec, Healthcheck, NetworkAttachmentConfig, Resources, RestartPolicy, RollbackConfig,
    SecretReference, ServiceMode, UpdateConfig,
)

SPECIFIED = "10.99.0.0/24"
client = docker.from_env()


def until(what, holds):
    for _ in range(200):
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not in time: {what}")


def refused(status, words, act):
    try:
        act()
    except APIError as error:
        assert error.status_code == status, (error.status_code, status)
        assert words in error.explanation, error.explanation
    else:
        raise AssertionError(f"not refused: {words}")


def swarm():
    refused(503, "This node is not a swarm manager", lambda: client.services.list())
    assert client.swarm.init(advertise_addr="10.77.0.11", task_history_retention_limit=3, snapshot_interval=5000)
    client.swarm.reload()
    spec = client.swarm.attrs["Spec"]
    assert spec["Orchestration"]["TaskHistoryRetentionLimit"] == 3 and spec["Raft"]["SnapshotInterval"] == 5000, spec
    assert client.swarm.attrs["JoinTokens"]["Worker"].startswith("SWMTKN-1-")
    before = client.swarm.attrs["JoinTokens"]["Worker"]
    assert client.swarm.update(rotate_worker_token=True, task_history_retention_limit=4)
    client.swarm.reload()
    assert client.swarm.attrs["JoinTokens"]["Worker"] != before
    assert client.swarm.attrs["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"] == 4
    refused(503, "already part of a swarm", lambda: client.swarm.init())
    assert client.swarm.get_unlock_key() == {"UnlockKey": ""}


def system():
    assert client.ping() is True
    assert client.version()["ApiVersion"] == client.api._version
    info = client.info()
    assert info["Swarm"]["ControlAvailable"] and info["Swarm"]["LocalNodeState"] == "active"
    assert client.df()["Images"] == []
    assert client.containers.list(all=True) == [] and client.images.list() == []
    refused(501, "use a service", lambda: client.containers.create("a"))


def nodes():
    (node,) = client.nodes.list(filters={"role": "manager"})
    assert client.nodes.list(filters={"role": "worker"}) == []
    assert node.attrs["ManagerStatus"]["Leader"] is True
    spec = dict(node.attrs["Spec"], Labels={"zone": "a"}, Availability="active", Role="manager")
    assert node.update(spec)
    node.reload()
    assert node.attrs["Spec"]["Labels"] == {"zone": "a"}
    assert client.nodes.get(node.id).id == node.id
    refused(404, "node nosuch not found", lambda: client.nodes.get("nosuch"))
    return node


def networks():
    pool = docker.types.IPAMPool(subnet=SPECIFIED, gateway="10.99.0.1")
    made = client.networks.create(
        "back", driver="overlay", scope="swarm", attachable=True, labels={"a": "b"},
        ipam=docker.types.IPAMConfig(pool_configs=[pool]),
    )
    made.reload()
    assert made.attrs["IPAM"]["Config"][0]["Subnet"] == SPECIFIED and made.attrs["Attachable"]
    assert [network.name for network in client.networks.list(names=["back"])] == ["back"]
    assert [network.name for network in client.networks.list(filters={"label": "a=b"})] == ["back"]
    refused(409, "already exists", lambda: client.networks.create("back", driver="overlay"))
    return made


def payloads():
    secret = client.secrets.create(name="pw", data=b"hunter2", labels={"k": "v"})
    config = client.configs.create(name="cfg", data=b"a=1")
    assert [one.name for one in client.secrets.list(filters={"names": ["pw"]})] == ["pw"]
    assert "Data" not in client.secrets.get(secret.id).attrs["Spec"]
    assert client.configs.get(config.id).attrs["Spec"]["Data"] == "YT0x"
    refused(409, "already exists", lambda: client.secrets.create(name="pw", data=b"x"))
    return secret, config


def services(network, secret, config):
    service = client.services.create(
        "web:1", name="web", command=["sh", "-c", "true"], env=["A=1", "B=2"], labels={"tier": "front"},
        container_labels={"c": "1"}, constraints=["node.role == manager"], mode=ServiceMode("replicated", replicas=2),
        networks=[NetworkAttachmentConfig("back", aliases=["www"])],
        endpoint_spec=EndpointSpec(mode="vip", ports={8080: (80, "tcp")}),
        resources=Resources(cpu_limit=500_000_000, mem_limit=64 << 20),
        restart_policy=RestartPolicy(condition="on-failure", delay=1, max_attempts=3, window=0),
        update_config=UpdateConfig(parallelism=1, delay=0, order="start-first", failure_action="rollback"),
        rollback_config=RollbackConfig(parallelism=2),
        healthcheck=Healthcheck(test=["CMD", "true"], interval=1_000_000_000),
        secrets=[SecretReference(secret.id, "pw")], configs=[ConfigReference(config.id, "cfg")],
        stop_grace_period=2_000_000_000, workdir="/srv", hostname="h", user="7", tty=False,
    )
    spec = service.attrs["Spec"]
    container = spec["TaskTemplate"]["ContainerSpec"]
    assert container["Env"] == ["A=1", "B=2"] and container["Dir"] == "/srv" and container["User"] == "7", container
    assert container["Secrets"][0]["File"]["Name"] == "pw" and container["Configs"][0]["ConfigName"] == "cfg"
    assert spec["UpdateConfig"]["Order"] == "start-first" and spec["RollbackConfig"]["Parallelism"] == 2
    assert spec["TaskTemplate"]["RestartPolicy"]["Condition"] == "on-failure"

    running = lambda: [task for task in service.tasks({"desired-state": "running"}) if task["Status"]["State"] == "running"]
    tasks = until("two tasks run", lambda: len(running()) == 2 and running())
    assert {task["Slot"] for task in tasks} == {1, 2}
    assert all(task["NetworksAttachments"] for task in tasks)
    service.reload()
    assert service.attrs["Endpoint"]["Ports"][0]["PublishedPort"] == 8080
    assert all("/" in vip["Addr"] for vip in service.attrs["Endpoint"]["VirtualIPs"])

    assert service.scale(3)
    until("three tasks run", lambda: len(running()) == 3)
    service.reload()
    # Settings that an update does not name stay, for docker-py sends only what it is told (fetch_current_spec).
    assert service.update(image="web:2", labels={"tier": "back"}, fetch_current_spec=True) is not None
    service.reload()
    assert service.attrs["Spec"]["Labels"] == {"tier": "back"}
    assert service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].startswith("web:2")
    assert service.attrs["PreviousSpec"]["Labels"] == {"tier": "front"}
    # The service's version moves as long as it is updated: whoever writes reads again, as with the real Swarm.
    until("the service is updated again", lambda: settled(service))
    assert [one.name for one in client.services.list(filters={"name": "we"})] == ["web"]
    assert [one.name for one in client.services.list(filters={"label": "tier=back"})] == ["web"]
    (one,) = client.api.services(filters={"name": "web"}, status=True)
    assert one["ServiceStatus"]["DesiredTasks"] == 3, one["ServiceStatus"]
    stale = service.attrs["Version"]["Index"]
    service.reload()
    mode = ServiceMode("replicated", replicas=2)
    template = service.attrs["Spec"]["TaskTemplate"]
    refused(500, "update out of sequence",
            lambda: client.api.update_service(service.id, stale - 1, task_template=template, name="web", mode=mode))
    refused(409, "already exists", lambda: client.services.create("web:1", name="web"))
    refused(400, "image reference must be provided", lambda: client.services.create("", name="x"))
    refused(404, "service nosuch not found", lambda: client.services.get("nosuch"))
    return service


def settled(service):
    service.reload()
    try:
        return service.force_update()
    except APIError as error:
        assert "update out of sequence" in error.explanation, error.explanation
        return False


def logs(service):
    lines = b"".join(service.logs(stdout=True, stderr=True)).decode()
    assert "line 0" in lines and "start" in lines, lines
    assert "start" not in b"".join(service.logs(stdout=True, stderr=False)).decode()
    followed = service.logs(stdout=True, follow=True, tail=1)
    assert b"line 2" in next(followed)


def events(secret):
    heard = []
    stream = client.events(decode=True, filters={"type": ["secret", "config"]})

    def listen():
        for event in stream:
            heard.append((event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    # The stream is there when its head is: what happens from now on is told.
    client.secrets.create(name="told", data=b"x").remove()
    until("the secret's life is heard", lambda: len(heard) >= 2)
    assert heard == [("secret", "create", "told"), ("secret", "remove", "told")], heard
    stream.close()
    past = client.events(since=int(time.time()) - 60, until=int(time.time()) + 1, decode=True,
                         filters={"type": "service", "event": "create"})
    assert [event["Actor"]["Attributes"]["name"] for event in past] == ["web"]


def removal(service, network, secret, config):
    refused(400, "is in use", lambda: secret.remove())
    assert service.remove()
    refused(404, "not found", lambda: client.services.get(service.id))
    for thing in (secret, config):
        thing.remove()
    until("the network can be removed", lambda: gone(network))
    assert client.networks.list(names=["back"]) == []
    refused(503, "last manager", lambda: client.swarm.leave())
    assert client.swarm.leave(force=True)
    refused(503, "not part of a swarm", lambda: client.swarm.leave())


def gone(network):
    try:
        network.remove()
    except NotFound:
        return True
    except APIError:
        return False
    return True


swarm()
system()
nodes()
network = networks()
secret, config = payloads()
service = services(network, secret, config)
logs(service)
events(secret)
removal(service, network, secret, config)
print("all done")
