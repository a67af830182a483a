/**
 * Finds out for which device types this browser makes a WebNN context.
 * It owns the trying; the contexts of models are the engine's.
 */

import { WEBNN_DEVICES, type WebnnDevice } from '../protocol/messages.ts';

interface MlContext {
  destroy?: () => void;
}

interface Ml {
  createContext(options: { deviceType: WebnnDevice }): Promise<MlContext>;
}

export type WebnnOutcome = Readonly<Record<WebnnDevice, string>>;

/** For each device type `ok`, or why the browser refused. */
export async function probeWebnn(): Promise<WebnnOutcome> {
  const { ml } = navigator as Navigator & { ml?: Ml };
  if (ml === undefined) throw new Error('navigator.ml is undefined');
  const outcome = { cpu: '', gpu: '', npu: '' };
  for (const device of WEBNN_DEVICES) {
    try {
      const context = await ml.createContext({ deviceType: device });
      context.destroy?.();
      outcome[device] = 'ok';
    } catch (error) {
      outcome[device] = error instanceof Error ? error.message : String(error);
    }
  }
  return outcome;
}
