/**
 * A set of inputs in the frame layout of `docs/protocol.md`, as the Workers that go round them are given it.
 * It stands ahead of their own script, so that no start has one more file to fetch.
 */

const VIEWS = { FP32: ['float32', Float32Array], INT64: ['int64', BigInt64Array], INT32: ['int32', Int32Array] };

function readInputs(frame) {
  const headerBytes = new DataView(frame).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(frame, 4, headerBytes)));
  let at = 4 + headerBytes;
  return header.inputs.map(({ name, datatype, shape, parameters }) => {
    const [type, View] = VIEWS[datatype];
    const bytes = parameters.binary_data_size;
    const values = new View(frame.slice(at, at + bytes));
    at += bytes;
    return { name, type, shape, values };
  });
}
