"""Produces numbered records with confluent-kafka and prints where each of them went.

    kafka_produce.py BOOTSTRAP TOPIC --count N

Record n has the key "key-n", the value "value-n" and a header n.
"""

import argparse
import json
import sys

from confluent_kafka import Producer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--count", type=int, default=1)
    arguments = parser.parse_args()
    producer = Producer({"bootstrap.servers": arguments.bootstrap, "acks": "all"})
    failures = []

    def delivered(error, message):
        if error is not None:
            failures.append(str(error))
            return
        print(json.dumps({"partition": message.partition(), "offset": message.offset()}))

    for number in range(arguments.count):
        producer.produce(
            arguments.topic,
            key=f"key-{number}",
            value=f"value-{number}",
            headers=[("number", str(number).encode())],
            on_delivery=delivered,
        )
        producer.poll(0)
    if producer.flush(60):
        sys.exit("not everything was delivered within 60 s")
    if failures:
        sys.exit("; ".join(failures))


main()
