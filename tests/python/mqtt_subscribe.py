"""Subscribes with paho-mqtt and prints what comes.

    mqtt_subscribe.py PORT --filter F [--filter F]... [--protocol 4|5] [--qos 0|1] [--count N]
                      [--client-id ID] [--will-topic T --will-payload P [--will-retain]]

First {"subscribed": [codes]}, then an object a message: {"topic", "payload", "qos", "retain"}.
Ends after N messages; without --count it runs until it is killed.
"""

import argparse
import json
import queue
import sys

import paho.mqtt.client as mqtt


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--filter", action="append", required=True)
    parser.add_argument("--protocol", type=int, default=4, choices=(4, 5))
    parser.add_argument("--qos", type=int, default=1, choices=(0, 1))
    parser.add_argument("--count", type=int)
    parser.add_argument("--client-id", default="")
    parser.add_argument("--will-topic")
    parser.add_argument("--will-payload", default="")
    parser.add_argument("--will-retain", action="store_true")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=arguments.client_id,
        protocol=arguments.protocol,
    )
    if arguments.will_topic is not None:
        client.will_set(
            arguments.will_topic, arguments.will_payload, qos=1, retain=arguments.will_retain
        )
    lines = queue.SimpleQueue()

    def on_connect(connected, _userdata, _flags, reason_code, _properties):
        if reason_code.is_failure:
            lines.put(None)
        connected.subscribe([(name, arguments.qos) for name in arguments.filter])

    def on_subscribe(_client, _userdata, _mid, reason_codes, _properties):
        lines.put({"subscribed": [code.value for code in reason_codes]})

    def on_message(_client, _userdata, message):
        lines.put(
            {
                "topic": message.topic,
                "payload": message.payload.decode(),
                "qos": message.qos,
                "retain": bool(message.retain),
            }
        )

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    client.connect("127.0.0.1", arguments.port, keepalive=60)
    client.loop_start()
    left = arguments.count
    while left is None or left > 0:
        line = lines.get()
        if line is None:
            sys.exit("the broker refused the connection")
        print(json.dumps(line))
        if left is not None and "topic" in line:
            left -= 1
    client.disconnect()
    client.loop_stop()


main()
