"""Arrow data as Flight messages, the way a foreign writer would cut them."""

import pyarrow as pa

from caraway.model import FlightMessage


def messages_of(data: pa.Table | pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> list[FlightMessage]:
    """The schema, then dictionaries and batches, as an IPC stream writer emits them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema, options=options) as writer:
        writer.write(data)
    return [
        FlightMessage(message.metadata.to_pybytes(), message.body.to_pybytes() if message.body else b"")
        for message in pa.ipc.MessageReader.open_stream(sink.getvalue())
    ]


def sample_table(rows: int = 1000) -> pa.Table:
    """Every family of types that a stream has to carry: dictionaries, views, nested, decimals, times, nulls."""
    numbers = list(range(rows))
    names = [f"name-{i % 17}" for i in numbers]
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "small": pa.array([i % 100 for i in numbers], pa.int8()),
            "ratio": pa.array([i / 7 for i in numbers], pa.float64()),
            "name": pa.array([None if i % 5 == 0 else names[i] for i in numbers], pa.string()),
            "view": pa.array([n * 3 for n in names], pa.string_view()),
            "kind": pa.array(names).dictionary_encode(),
            "at": pa.array(numbers, pa.timestamp("us", tz="UTC")),
            "day": pa.array(numbers, pa.date32()),
            "price": pa.array(numbers, pa.int32()).cast(pa.decimal128(12, 2)),
            "tags": pa.array([[n, "x"] if i % 3 else None for i, n in enumerate(names)], pa.list_(pa.string())),
            "point": pa.array([{"x": i, "y": [i]} for i in numbers]),
            "pairs": pa.array([[("k", i)] for i in numbers], pa.map_(pa.string(), pa.int64())),
            "flag": pa.array([i % 2 == 0 for i in numbers]),
            "raw": pa.array([b"\x00\xff" * (i % 4) for i in numbers], pa.binary()),
            "nothing": pa.nulls(rows),
        }
    )
