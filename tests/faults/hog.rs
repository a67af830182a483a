//! A model that takes as much memory as its input says: `y = sum(ones(n))`.

use weft::domain::Digest;

pub(crate) const HOG: &str = "hog";

const FLOAT: u64 = 1;
const INT64: u64 = 7;
/// What `AttributeProto` calls a tensor.
const TENSOR: u64 = 4;

/// The file.
pub(crate) fn model() -> Vec<u8> {
    let one = [number(1, 1), number(2, FLOAT), field(9, &1.0f32.to_le_bytes())].concat();
    let value = [text(1, "value"), field(5, &one), number(20, TENSOR)].concat();
    let fill = [text(1, "n"), text(2, "ones"), text(4, "ConstantOfShape"), field(5, &value)].concat();
    let sum = [text(1, "ones"), text(2, "y"), text(4, "ReduceSum")].concat();
    let graph = [
        field(1, &fill),
        field(1, &sum),
        text(2, "hog"),
        field(11, &port("n", INT64)),
        field(12, &port("y", FLOAT)),
    ];
    let opset = [text(1, ""), number(2, 17)].concat();
    [number(1, 8), field(7, &graph.concat()), field(8, &opset)].concat()
}

/// The request that adds it, with three inputs that prove it.
pub(crate) fn addition(digest: &Digest) -> serde_json::Value {
    let inputs =
        [3, 50, 700].map(|n| serde_json::json!({"n": {"datatype": "INT64", "shape": [1], "data": [n]}}));
    serde_json::json!({"name": HOG, "digest": digest, "source": "tests/faults/hog.rs", "gate": {"inputs": inputs}})
}

/// One dimension of one element.
fn port(name: &str, element: u64) -> Vec<u8> {
    let shape = field(1, &number(1, 1));
    let tensor = [number(1, element), field(2, &shape)].concat();
    [text(1, name), field(2, &field(1, &tensor))].concat()
}

fn text(tag: u64, text: &str) -> Vec<u8> {
    field(tag, text.as_bytes())
}

fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
