import { describe, expect, it } from 'vitest';
import { MessageError } from '../protocol/reader.ts';
import { classify, Failure } from './failure.ts';
import { TensorError } from './tensors.ts';

describe('classify', () => {
  it.each<[string, unknown, string, string, boolean]>([
    ['a failure', new Failure('model_not_ready', 'same', 'm'), 'model_not_ready', 'same', false],
    ['a tensor that does not fit its head', new TensorError('x', 'short'), 'invalid_request', 'never', false],
    ['a message that cannot be read', new MessageError(1, 'id'), 'invalid_request', 'never', false],
    [
      'a shape that the model does not take',
      new Error('failed to call OrtRun(). ERROR_CODE: 2, ERROR_MESSAGE: Got invalid dimensions for input: x'),
      'invalid_request',
      'never',
      false,
    ],
    [
      'bytes that are no model',
      new Error("Can't create a session. ERROR_CODE: 7, ERROR_MESSAGE: Failed to load model because protobuf parsing failed."),
      'invalid_request',
      'never',
      false,
    ],
    [
      'a kernel that fails',
      new Error('failed to call OrtRun(). ERROR_CODE: 1, ERROR_MESSAGE: Non-zero status code returned while running Conv'),
      'internal',
      'elsewhere',
      false,
    ],
    ['a C++ allocation', new Error('ERROR_CODE: 6, ERROR_MESSAGE: std::bad_alloc'), 'out_of_memory', 'elsewhere', false],
    [
      'a size beyond all addresses',
      new Error(
        'failed to call OrtRun(). ERROR_CODE: 1, ERROR_MESSAGE: safeint.h:17 SafeIntExceptionHandler::SafeIntOnOverflow() Integer overflow',
      ),
      'out_of_memory',
      'elsewhere',
      false,
    ],
    ['a JS allocation', new RangeError('Array buffer allocation failed'), 'out_of_memory', 'elsewhere', false],
    ['a model beyond the heap', new Error("Can't create a session. failed to allocate a buffer of size 5."), 'out_of_memory', 'elsewhere', false],
    ['an abort for memory', new WebAssembly.RuntimeError('Aborted(OOM)'), 'out_of_memory', 'elsewhere', true],
    ['a trap', new WebAssembly.RuntimeError('unreachable'), 'internal', 'elsewhere', true],
    ['something that is no error', 4096, 'internal', 'elsewhere', false],
  ])('of %s', (_name, error, code, retry, fatal) => {
    const failure = classify(error);
    expect([failure.code, failure.retry, failure.fatal]).toEqual([code, retry, fatal]);
  });

  it('keeps the text of the error', () => {
    expect(classify(new Error('boom: the room shook')).message).toBe('boom: the room shook');
    expect(classify(new Error('boom: the room shook')).code).toBe('internal');
  });
});
