/**
 * The bound of the latency and transfer measurements: sends every message back as it came.
 */

const socket = new WebSocket(`ws://${location.host}/link/echo`);
socket.binaryType = 'arraybuffer';
socket.onmessage = (event) => socket.send(event.data);
