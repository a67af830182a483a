import { describe, expect, it } from 'vitest';
import { installTap } from './consoletap.ts';

function silentConsole(): { target: Console; written: unknown[][] } {
  const written: unknown[][] = [];
  const write = (...words: unknown[]): void => void written.push(words);
  return { target: { log: write, error: write, warn: write, info: write, debug: write } as Console, written };
}

describe('installTap', () => {
  it('records lines through methods that were bound before, and only while asked', async () => {
    const { target, written } = silentConsole();
    const tap = installTap(target);
    const bound = target.error.bind(target);
    bound('before', 1);
    const { outcome, lines } = await tap.record(async () => {
      bound('first', 2);
      await Promise.resolve();
      target.log('second');
      return 'done';
    });
    bound('after');
    expect(outcome).toBe('done');
    expect(lines).toEqual(['first 2', 'second']);
    expect(written).toEqual([['before', 1], ['after']]);
  });

  it('stops recording when the work fails', async () => {
    const { target, written } = silentConsole();
    const tap = installTap(target);
    await expect(tap.record(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    target.warn('after');
    expect(written).toEqual([['after']]);
  });
});
