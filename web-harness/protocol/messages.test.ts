import { describe, expect, it } from 'vitest';
import { readBootBlock, readToLane, readToPage } from './messages.ts';
import { MessageError } from './reader.ts';

const STEP = {
  type: 'step',
  id: 3,
  session: 's',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [2], parameters: { binary_data_size: 8 } }],
  outputs: [],
};

function faultOf(read: () => unknown): MessageError {
  try {
    read();
  } catch (error) {
    if (error instanceof MessageError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('readToLane', () => {
  it('reads every message', () => {
    expect(readToLane(STEP)).toEqual({
      type: 'step',
      id: 3,
      session: 's',
      program: null,
      inputs: [{ name: 'x', datatype: 'FP32', shape: [2], byteLength: 8 }],
      outputs: [],
    });
    expect(readToLane({ ...STEP, program: 7 })).toMatchObject({ type: 'step', program: 7 });
    expect(readToLane({ type: 'program', id: 4, session: 's', program: 7, drops: [5], block_bytes: 256 })).toEqual({
      type: 'program',
      id: 4,
      session: 's',
      program: 7,
      drops: [5],
      blockBytes: 256,
    });
    const files = [{ url: '/m', digest: 'ab', bytes: 4 }];
    const model = { digest: 'ab', graph_bytes: 2, files };
    expect(readToLane({ type: 'load', id: 1, session: 's', model, free_dimensions: { n: 1 } })).toEqual({
      type: 'load',
      id: 1,
      session: 's',
      model: { digest: 'ab', graphBytes: 2, files },
      freeDimensions: { n: 1 },
    });
    expect(readToLane({ type: 'unload', id: 2, session: 's' })).toEqual({ type: 'unload', id: 2, session: 's' });
    expect(readToLane({ type: 'cancel', id: 3 })).toEqual({ type: 'cancel', id: 3 });
  });

  it.each([
    ['a shape with a negative size', { ...STEP, inputs: [{ ...STEP.inputs[0], shape: [-1] }] }, 'inputs[0].shape'],
    ['a shape with a fraction', { ...STEP, inputs: [{ ...STEP.inputs[0], shape: [1.5] }] }, 'inputs[0].shape'],
    ['no byte count', { ...STEP, inputs: [{ ...STEP.inputs[0], parameters: {} }] }, 'inputs[0].parameters.binary_data_size'],
    ['inputs that are no array', { ...STEP, inputs: {} }, 'inputs'],
    ['outputs that are no strings', { ...STEP, outputs: [1] }, 'outputs'],
    ['a session that is no string', { ...STEP, session: 7 }, 'session'],
    ['a program that is no number', { ...STEP, program: null }, 'program'],
    ['programs to drop that are no numbers', { type: 'program', id: 3, session: 's', program: 1, drops: ['2'] }, 'drops'],
  ])('names the field for %s and keeps the id', (_name, message, field) => {
    const fault = faultOf(() => readToLane(message));
    expect(fault.id).toBe(3);
    expect(fault.message.startsWith(`${field} is not`)).toBe(true);
  });

  it.each([
    ['an unknown type', { type: 'dance', id: 1 }],
    ['no type', { id: 1 }],
    ['no id', { type: 'unload', session: 's' }],
    ['an id that is no number', { type: 'cancel', id: '1' }],
  ])('has no id to answer for %s', (_name, message) => {
    expect(faultOf(() => readToLane(message)).id).toBeNull();
  });
});

describe('readToPage', () => {
  const START = { type: 'start_lane', lane: 4, ticket: 't', backend: 'webnn', threads: 2, webnn_device: 'npu', memory_max: 9 };

  it('reads every message', () => {
    expect(readToPage(START)).toEqual({
      type: 'start_lane',
      lane: 4,
      ticket: 't',
      backend: 'webnn',
      threads: 2,
      webnnDevice: 'npu',
      memoryMax: 9,
    });
    expect(readToPage({ ...START, webnn_device: null })).toMatchObject({ webnnDevice: null });
    expect(readToPage({ type: 'stop_lane', lane: 'a' })).toEqual({ type: 'stop_lane', lane: 'a' });
  });

  it.each([
    ['backend', { ...START, backend: 'cuda' }],
    ['webnn_device', { ...START, webnn_device: 'tpu' }],
    ['threads', { ...START, threads: -1 }],
    ['memory_max', { ...START, memory_max: null }],
    ['lane', { ...START, lane: null }],
  ])('refuses a wrong %s', (field, message) => {
    expect(faultOf(() => readToPage(message)).message.startsWith(`${field} is not`)).toBe(true);
  });
});

describe('readBootBlock', () => {
  it('reads the block that the daemon writes', () => {
    expect(readBootBlock({ protocol: 1, ticket: 't', epoch: 3, heartbeat_ms: 1000 })).toEqual({
      protocol: 1,
      ticket: 't',
      epoch: 3,
      heartbeatMs: 1000,
    });
  });

  it('refuses the template that nobody filled', () => {
    expect(() => readBootBlock({})).toThrow('protocol is not');
  });
});
