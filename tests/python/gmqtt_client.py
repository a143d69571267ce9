"""gmqtt, driven line by line; client_lines.py has the lines."""

import asyncio
import threading

from gmqtt import Client, Message, Subscription
from gmqtt.mqtt.constants import MQTTv50
from gmqtt.storage import PersistentStorage

from client_lines import commands, tell

# gmqtt takes a packet id for each message at once and fails when there is none left below the
# broker's Receive Maximum. This many are on their way at a time.
WINDOW = 20

# With 0 gmqtt 0.8 connects again all the same, as it counts failures from 0, and -1 means for ever.
NO_RECONNECT = -2

# Names of gmqtt's properties and of the lines.
NAMES = {
    "content_type": "content_type",
    "response_topic": "response_topic",
    "payload_format_id": "payload_format",
    "message_expiry_interval": "message_expiry",
}


def properties_of(given):
    properties = {name: given[key] for name, key in NAMES.items() if given.get(key) is not None}
    if given.get("correlation_data") is not None:
        properties["correlation_data"] = bytes.fromhex(given["correlation_data"])
    if given.get("user"):
        properties["user_property"] = [tuple(pair) for pair in given["user"]]
    return properties


def told_properties(properties):
    # Each is a list, for a property that comes more than once.
    told = {key: properties[name][0] for name, key in NAMES.items() if name in properties}
    if "correlation_data" in properties:
        told["correlation_data"] = properties["correlation_data"][0].hex()
    told["user"] = [list(pair) for pair in properties.get("user_property", [])]
    return told


def message_of(given, **more):
    return Message(
        given["topic"],
        bytes.fromhex(given["payload"]),
        qos=given["qos"],
        retain=given["retain"],
        **properties_of(given["properties"]),
        **more,
    )


class Storage(PersistentStorage):
    """gmqtt tells nobody of an acknowledgement, but it forgets the message then."""

    def __init__(self, acknowledged):
        super().__init__()
        self.acknowledged = acknowledged

    def remove_message_by_mid(self, mid):
        is_known = mid in self._messages
        super().remove_message_by_mid(mid)
        if is_known:
            self.acknowledged()


class Connection:
    """Its commands are done in their order, by a task of its own."""

    def __init__(self, number):
        self.number = number
        self.queue = asyncio.Queue()
        self.room = asyncio.Semaphore(WINDOW)
        self.is_closed = False
        self.client = None
        self.task = asyncio.ensure_future(self.work())

    async def work(self):
        while True:
            command = await self.queue.get()
            try:
                await getattr(self, command["do"])(command)
            except Exception as error:
                tell(self.number, "failed", error=f"{command['do']}: {error!r}")

    async def connect(self, command):
        properties = {
            "session_expiry_interval": command.get("session_expiry"),
            "maximum_packet_size": command.get("maximum_packet_size"),
        }
        will = command.get("will")
        if will is not None:
            delay = {} if will.get("delay") is None else {"will_delay_interval": will["delay"]}
            will = message_of(will, **delay)
        self.client = Client(
            command["client_id"],
            clean_session=command["clean"],
            will_message=will,
            persistent_storage=Storage(self.on_acknowledged),
            **{name: value for name, value in properties.items() if value is not None},
        )
        self.client.set_config({"reconnect_retries": NO_RECONNECT})
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = self.on_subscribe
        self.client.on_message = self.on_message
        self.client.on_disconnect = self.on_disconnect
        await self.client.connect("127.0.0.1", command["port"], version=command["level"])

    async def subscribe(self, command):
        self.client.subscribe(
            Subscription(
                command["filter"],
                qos=command["qos"],
                retain_as_published=command["retain_as_published"],
                retain_handling_options=command["retain_handling"],
            )
        )

    async def publish(self, command):
        if command["qos"] > 0:
            await self.room.acquire()
        self.client.publish(message_of(command))
        if command["qos"] == 0:
            tell(self.number, "published", code=0)

    async def disconnect(self, _command):
        await self.client.disconnect()

    async def cut(self, _command):
        # There is no public way to be rude.
        self.client._connection._transport.abort()

    def on_acknowledged(self):
        self.room.release()
        # gmqtt does not look at the reason code.
        tell(self.number, "published", code=0)

    def on_connect(self, client, flags, _code, _properties):
        # Those of CONNACK alone: what is given to this function holds those of CONNECT, too.
        told = client._package_handler._connack_properties
        maximum_packet_size = told.get("maximum_packet_size", [None])[0]
        tell(
            self.number,
            "connected",
            session_present=bool(flags),
            maximum_packet_size=maximum_packet_size,
        )

    def on_subscribe(self, _client, _mid, codes, _properties):
        tell(self.number, "subscribed", codes=list(codes))

    def on_message(self, _client, topic, payload, qos, properties):
        tell(
            self.number,
            "message",
            topic=topic,
            payload=payload.hex(),
            qos=qos,
            retain=bool(properties["retain"]),
            properties=told_properties(properties),
        )

    def on_disconnect(self, client, packet, _error=None):
        # Called for DISCONNECT, and again when the connection is closed.
        if self.is_closed:
            return
        self.is_closed = True
        is_5 = client._connection_state.protocol_version == MQTTv50
        tell(self.number, "closed", code=packet[0] if packet and is_5 else None)


def dispatch(connections, command):
    number = command["on"]
    if number not in connections:
        connections[number] = Connection(number)
    connections[number].queue.put_nowait(command)


async def main():
    loop = asyncio.get_running_loop()
    connections = {}

    def read():
        for command in commands():
            loop.call_soon_threadsafe(dispatch, connections, command)

    threading.Thread(target=read, daemon=True).start()
    await asyncio.Event().wait()


asyncio.run(main())
