import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { fetchModel } from './model.ts';

const MODEL = Uint8Array.of(1, 2, 3);
const DIGEST = createHash('sha256').update(MODEL).digest('hex');

function answerWith(response: Response): void {
  vi.stubGlobal('fetch', () => Promise.resolve(response));
}

afterEach(() => {
  vi.unstubAllGlobals();
});

describe('fetchModel', () => {
  it('answers the bytes whose digest was asked for', async () => {
    answerWith(new Response(MODEL));
    expect(await fetchModel({ url: '/m', digest: DIGEST, bytes: 3 })).toEqual(MODEL);
  });

  it.each([
    ['another digest', new Response(MODEL), { digest: DIGEST.replace(/^./, 'x'), bytes: 3 }, /SHA-256 is [0-9a-f]{64} instead of x/],
    ['another length', new Response(MODEL), { digest: DIGEST, bytes: 4 }, /has 3 bytes instead of 4/],
    ['no model', new Response('', { status: 404, statusText: 'Not Found' }), { digest: DIGEST, bytes: 3 }, /answered 404 Not Found/],
  ])('refuses %s', async (_name, response, asked, message) => {
    answerWith(response);
    await expect(fetchModel({ url: '/m', ...asked })).rejects.toThrow(message);
  });
});
