"""What the MQTT clients of this folder have in common that are driven line by line.

A command is one JSON object a line on standard input, an event one on standard output. "on" is the
number of the connection, by choice of whoever drives. Bytes are written as hexadecimal digits; what
is not there is left out or null.

    {"on", "do": "connect", "port", "client_id", "level": 3|4|5, "clean", "session_expiry",
                 "maximum_packet_size", "will": {MESSAGE, "delay"}}
    {"on", "do": "subscribe", "filter", "qos", "retain_handling", "retain_as_published"}
    {"on", "do": "publish", MESSAGE}
    {"on", "do": "disconnect"}            says good-bye
    {"on", "do": "cut"}                   ends the connection without DISCONNECT

    {"on", "is": "connected", "session_present", "maximum_packet_size"}
    {"on", "is": "subscribed", "codes"}
    {"on", "is": "published", "code"}     acknowledged; QoS 0: written
    {"on", "is": "message", MESSAGE}
    {"on", "is": "closed", "code"}        the reason code of the broker's DISCONNECT, if there was one
    {"on", "is": "failed", "error"}       the client would not or could not

MESSAGE is "topic", "payload", "qos", "retain" and "properties": {"content_type", "response_topic",
"correlation_data", "payload_format", "message_expiry", "user": [[name, value]]}. The program ends
with its standard input.
"""

import json
import os
import sys
import threading

_writing = threading.Lock()


def tell(number, event, **fields):
    line = json.dumps({"on": number, "is": event, **fields})
    with _writing:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def commands():
    """Each command as it comes; after the last the process ends, whatever its threads do."""
    for line in sys.stdin:
        yield json.loads(line)
    os._exit(0)
