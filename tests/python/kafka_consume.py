"""Reads a topic from its start to its present end with confluent-kafka, one JSON object a record.

    kafka_consume.py BOOTSTRAP TOPIC [--isolation read_committed|read_uncommitted]

{"partition", "offset", "timestamp_ms", "timestamp_type", "key", "value", "headers"}; key, value and
header values are base64, null stays null. Records come in order of offset within a partition.
"""

import argparse
import base64
import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

SILENCE_MAX_SECONDS = 60


def text(data):
    return None if data is None else base64.b64encode(data).decode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--isolation", default="read_committed")
    arguments = parser.parse_args()
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": "kafka-consume",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": arguments.isolation,
            "check.crcs": True,
        }
    )
    topics = consumer.list_topics(arguments.topic, timeout=60).topics
    assigned, waiting = [], set()
    for partition in topics[arguments.topic].partitions:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(arguments.topic, partition), timeout=60
        )
        if low < high:
            assigned.append(TopicPartition(arguments.topic, partition, low))
            waiting.add(partition)
    consumer.assign(assigned)
    last_arrival = time.monotonic()
    while waiting:
        # It waits for the full number or the full time.
        messages = consumer.consume(1000, timeout=0.2)
        if messages:
            last_arrival = time.monotonic()
        elif time.monotonic() - last_arrival > SILENCE_MAX_SECONDS:
            sys.exit(f"nothing any more from partitions {sorted(waiting)}")
        lines = []
        for message in messages:
            error = message.error()
            if error is None:
                kind, timestamp = message.timestamp()
                record = {
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "timestamp_ms": timestamp,
                    "timestamp_type": {1: "create", 2: "append"}.get(kind),
                    "key": text(message.key()),
                    "value": text(message.value()),
                    "headers": [[k, text(v)] for k, v in message.headers() or []],
                }
                lines.append(json.dumps(record) + "\n")
            elif error.code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.partition())
            else:
                sys.exit(str(error))
        sys.stdout.write("".join(lines))
    consumer.close()


main()
