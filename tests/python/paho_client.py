"""paho-mqtt, driven line by line; client_lines.py has the lines."""

import socket

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from client_lines import commands, tell

# Names of paho's properties and of the lines.
TEXTS = {"ContentType": "content_type", "ResponseTopic": "response_topic"}
NUMBERS = {
    "PayloadFormatIndicator": "payload_format",
    "MessageExpiryInterval": "message_expiry",
}


def properties_of(packet_type, given):
    properties = Properties(packet_type)
    for name, key in {**TEXTS, **NUMBERS}.items():
        if given.get(key) is not None:
            setattr(properties, name, given[key])
    if given.get("correlation_data") is not None:
        properties.CorrelationData = bytes.fromhex(given["correlation_data"])
    if given.get("user"):
        properties.UserProperty = [tuple(pair) for pair in given["user"]]
    return properties


def told_properties(properties):
    told = {}
    if properties is None:
        return told
    for name, key in {**TEXTS, **NUMBERS}.items():
        if hasattr(properties, name):
            told[key] = getattr(properties, name)
    if hasattr(properties, "CorrelationData"):
        told["correlation_data"] = properties.CorrelationData.hex()
    told["user"] = [list(pair) for pair in getattr(properties, "UserProperty", [])]
    return told


class Connection:
    def __init__(self, command):
        self.number = command["on"]
        self.is_5 = command["level"] == 5
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=command["client_id"],
            clean_session=None if self.is_5 else command["clean"],
            protocol=command["level"],
            reconnect_on_failure=False,
        )
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = self.on_subscribe
        self.client.on_publish = self.on_publish
        self.client.on_message = self.on_message
        self.client.on_disconnect = self.on_disconnect
        if command.get("will"):
            self.set_will(command["will"])
        more = {}
        if self.is_5:
            properties = Properties(PacketTypes.CONNECT)
            if command.get("session_expiry") is not None:
                properties.SessionExpiryInterval = command["session_expiry"]
            if command.get("maximum_packet_size") is not None:
                properties.MaximumPacketSize = command["maximum_packet_size"]
            more = {"clean_start": command["clean"], "properties": properties}
        self.client.connect("127.0.0.1", command["port"], **more)
        self.client.loop_start()

    def set_will(self, will):
        properties = None
        if self.is_5:
            properties = properties_of(PacketTypes.WILLMESSAGE, will["properties"])
            if will.get("delay") is not None:
                properties.WillDelayInterval = will["delay"]
        payload = bytes.fromhex(will["payload"])
        self.client.will_set(will["topic"], payload, will["qos"], will["retain"], properties)

    def subscribe(self, command):
        if self.is_5:
            options = mqtt.SubscribeOptions(
                qos=command["qos"],
                retainHandling=command["retain_handling"],
                retainAsPublished=command["retain_as_published"],
            )
            self.client.subscribe(command["filter"], options=options)
        else:
            self.client.subscribe(command["filter"], command["qos"])

    def publish(self, command):
        properties = None
        if self.is_5:
            properties = properties_of(PacketTypes.PUBLISH, command["properties"])
        payload = bytes.fromhex(command["payload"])
        self.client.publish(
            command["topic"], payload, command["qos"], command["retain"], properties
        )

    def disconnect(self, _command):
        self.client.disconnect()

    def cut(self, _command):
        self.client.socket().shutdown(socket.SHUT_RDWR)

    def on_connect(self, _client, _userdata, flags, reason_code, properties):
        if reason_code.is_failure:
            tell(self.number, "failed", error=f"CONNACK: {reason_code}")
            return
        tell(
            self.number,
            "connected",
            session_present=flags.session_present,
            maximum_packet_size=getattr(properties, "MaximumPacketSize", None),
        )

    def on_subscribe(self, _client, _userdata, _mid, reason_codes, _properties):
        tell(self.number, "subscribed", codes=[code.value for code in reason_codes])

    def on_publish(self, _client, _userdata, _mid, reason_code, _properties):
        tell(self.number, "published", code=reason_code.value)

    def on_message(self, _client, _userdata, message):
        tell(
            self.number,
            "message",
            topic=message.topic,
            payload=message.payload.hex(),
            qos=message.qos,
            retain=bool(message.retain),
            properties=told_properties(message.properties),
        )

    def on_disconnect(self, _client, _userdata, flags, reason_code, _properties):
        is_from_server = flags.is_disconnect_packet_from_server
        tell(self.number, "closed", code=reason_code.value if is_from_server else None)


def main():
    connections = {}
    for command in commands():
        number, what = command["on"], command["do"]
        try:
            if what == "connect":
                connections[number] = Connection(command)
            else:
                getattr(connections[number], what)(command)
        except Exception as error:
            tell(number, "failed", error=f"{what}: {error!r}")


main()
