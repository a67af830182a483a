/**
 * Gets the WebGPU device of a lane and says what it is.
 * It owns adapter and device requests and never computes.
 */

import type { Adapter } from '../protocol/messages.ts';

/** The GPU process of a fresh browser may still be starting when the first adapter is asked for. */
const ADAPTER_ATTEMPTS = 5;

/** Between attempts; no event tells that the GPU process is there. */
const ADAPTER_PAUSE_MS = 300;

/** What kernels can use beyond the core of WebGPU. */
const FEATURES = ['shader-f16', 'subgroups'] as const;

/** The limits that decide which kernels and tensors fit; a device has the defaults unless it asks for more. */
const LIMITS = [
  'maxBindGroups',
  'maxBufferSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxUniformBufferBindingSize',
] as const;

/** The names under which software rasterizers report themselves. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|\bwarp\b/i;

export interface Gpu {
  readonly device: GPUDevice;
  readonly adapter: Adapter;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
}

/** The browser offers no adapter; launched with other flags, it may. */
export class NoAdapter extends Error {
  override readonly name = 'NoAdapter';
}

export async function openGpu(): Promise<Gpu> {
  const adapter = await requestAdapter();
  const features = FEATURES.filter((feature) => adapter.features.has(feature));
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
  const device = await adapter.requestDevice({ requiredFeatures: features, requiredLimits });
  const limits: Record<string, number> = {};
  for (const name of LIMITS) limits[name] = device.limits[name];
  return { device, adapter: describeAdapter(adapter.info), features: [...device.features].sort(), limits };
}

/** Tells of the device's end, and of errors that nobody listened for. */
export function watchGpu(device: GPUDevice, died: (reason: string) => void, erred: (error: GPUError) => void): void {
  void device.lost.then(({ reason, message }) => {
    died(`the WebGPU device was lost (${reason}): ${message}`);
  });
  device.addEventListener('uncapturederror', (event) => {
    erred(event.error);
  });
}

export function describeAdapter(
  info: Pick<GPUAdapterInfo, 'vendor' | 'architecture' | 'device' | 'description'> & { isFallbackAdapter?: boolean },
): Adapter {
  const { vendor, architecture, device, description } = info;
  const software = info.isFallbackAdapter === true || SOFTWARE.test(`${vendor} ${architecture} ${device} ${description}`);
  return { vendor, architecture, device, description, software };
}

async function requestAdapter(): Promise<GPUAdapter> {
  // Absent in browsers without WebGPU, whatever the type says.
  const gpu = navigator.gpu as GPU | undefined;
  if (gpu === undefined) throw new NoAdapter('navigator.gpu is undefined');
  for (let attempt = 1; ; attempt += 1) {
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (adapter !== null) return adapter;
    if (attempt === ADAPTER_ATTEMPTS) {
      throw new NoAdapter(`navigator.gpu.requestAdapter() returned null ${ADAPTER_ATTEMPTS} times`);
    }
    await new Promise((resolve) => setTimeout(resolve, ADAPTER_PAUSE_MS));
  }
}
