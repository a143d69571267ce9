"""Publishes with paho-mqtt and prints one JSON object per acknowledged message.

    mqtt_publish.py PORT --protocol 3|4|5 --topic T --qos 0|1|2 --count N
                    [--payload-bytes N] [--retain] [--window N]

The payload starts with the message's number, so that a reader can check order. An object is
{"number": n} after PUBACK or PUBCOMP (for QoS 0: after the write).
"""

import argparse
import json
import queue
import sys
import threading

import paho.mqtt.client as mqtt


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--protocol", type=int, default=4, choices=(3, 4, 5))
    parser.add_argument("--topic", required=True)
    parser.add_argument("--qos", type=int, default=1, choices=(0, 1, 2))
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--payload-bytes", type=int, default=0)
    parser.add_argument("--retain", action="store_true")
    parser.add_argument("--window", type=int, default=20)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=arguments.protocol)
    client.max_inflight_messages_set(arguments.window)
    connected = threading.Event()
    refusal = []
    acknowledged = queue.SimpleQueue()

    def on_connect(_client, _userdata, _flags, reason_code, _properties):
        if reason_code.is_failure:
            refusal.append(str(reason_code))
        connected.set()

    # Called with paho's locks held: it may wait for nothing that publish() holds.
    def on_publish(_client, _userdata, mid, reason_code, _properties):
        if reason_code.is_failure:
            refusal.append(f"message {mid}: {reason_code}")
        acknowledged.put(mid)

    client.on_connect = on_connect
    client.on_publish = on_publish
    client.connect("127.0.0.1", arguments.port, keepalive=60)
    client.loop_start()
    if not connected.wait(60) or refusal:
        sys.exit(f"no connection: {refusal or 'no answer'}")
    sent, numbers = 0, {}
    while sent < arguments.count or numbers:
        if sent < arguments.count and len(numbers) < arguments.window:
            payload = f"{sent} ".ljust(arguments.payload_bytes, "x")
            info = client.publish(
                arguments.topic,
                payload,
                qos=arguments.qos,
                retain=arguments.retain,
            )
            numbers[info.mid] = sent
            sent += 1
            continue
        try:
            mid = acknowledged.get(timeout=60)
        except queue.Empty:
            sys.exit(f"no acknowledgement for 60 s of {sorted(numbers.values())}")
        print(json.dumps({"number": numbers.pop(mid)}))
    client.disconnect()
    client.loop_stop()
    if refusal:
        sys.exit("; ".join(refusal))


main()
