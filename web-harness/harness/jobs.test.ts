import { describe, expect, it } from 'vitest';
import { JobQueue, WAITING_JOBS } from './jobs.ts';

function job(id: number, type = 'step'): { message: { type: string; id: number } } {
  return { message: { type, id } };
}

describe('JobQueue', () => {
  it('starts jobs in the order in which they came', () => {
    const jobs = new JobQueue();
    expect(jobs.idle).toBe(true);
    for (const id of [3, 1, 2]) expect(jobs.accept(job(id))).toBe(true);
    expect(jobs.start()?.message.id).toBe(3);
    expect(jobs.idle).toBe(false);
    expect(jobs.start()?.message.id).toBe(1);
    expect(jobs.start()?.message.id).toBe(2);
    expect(jobs.start()).toBeNull();
    expect(jobs.idle).toBe(true);
  });

  it('refuses a job beyond its bound and takes one again after a start', () => {
    const jobs = new JobQueue();
    for (let id = 0; id < WAITING_JOBS; id += 1) expect(jobs.accept(job(id))).toBe(true);
    expect(jobs.accept(job(99))).toBe(false);
    jobs.start();
    expect(jobs.accept(job(99))).toBe(true);
  });

  it('drops a waiting step, marks a running one and knows no other', () => {
    const jobs = new JobQueue();
    for (const id of [1, 2, 3]) jobs.accept(job(id));
    jobs.start();
    expect(jobs.cancel(2)).toBe('dropped');
    expect(jobs.discarded).toBe(false);
    expect(jobs.cancel(1)).toBe('running');
    expect(jobs.discarded).toBe(true);
    expect(jobs.cancel(7)).toBe('unknown');
    expect(jobs.start()?.message.id).toBe(3);
    expect(jobs.discarded).toBe(false);
    expect(jobs.cancel(1)).toBe('unknown');
  });

  it('does not cancel a load', () => {
    const jobs = new JobQueue();
    jobs.accept(job(1, 'load'));
    jobs.accept(job(2, 'load'));
    jobs.start();
    expect(jobs.cancel(1)).toBe('unknown');
    expect(jobs.cancel(2)).toBe('unknown');
    expect(jobs.start()?.message.id).toBe(2);
  });
});
