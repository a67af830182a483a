/**
 * Brings a model's bytes and proves that they are the ones asked for.
 * It owns fetch and digest and never looks into the model.
 */

import type { Bytes } from '../protocol/frame.ts';
import type { Load } from '../protocol/messages.ts';
import { Failure } from './failure.ts';

export async function fetchModel(model: Load['model']): Promise<Bytes> {
  const response = await fetch(model.url);
  if (!response.ok) {
    throw new Failure('internal', 'elsewhere', `fetching the model answered ${response.status} ${response.statusText}`);
  }
  const bytes = await response.arrayBuffer();
  if (bytes.byteLength !== model.bytes) {
    throw new Failure('internal', 'elsewhere', `the model has ${bytes.byteLength} bytes instead of ${model.bytes}`);
  }
  const digest = hexOf(await crypto.subtle.digest('SHA-256', bytes));
  if (digest !== model.digest) {
    throw new Failure('internal', 'elsewhere', `the model's SHA-256 is ${digest} instead of ${model.digest}`);
  }
  return new Uint8Array(bytes);
}

function hexOf(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
