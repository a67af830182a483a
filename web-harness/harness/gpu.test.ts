import { describe, expect, it } from 'vitest';
import { describeAdapter } from './gpu.ts';

const NVIDIA = { vendor: 'nvidia', architecture: 'ampere', device: '', description: '' };

describe('describeAdapter', () => {
  it.each([
    ['hardware', NVIDIA, false],
    ['hardware that says so', { ...NVIDIA, isFallbackAdapter: false }, false],
    ['the fallback adapter', { ...NVIDIA, isFallbackAdapter: true }, true],
    ['lavapipe in Firefox, which names nothing', { vendor: '', architecture: '', device: '', description: '', isFallbackAdapter: true }, true],
    ['SwiftShader', { vendor: 'google', architecture: 'swiftshader', device: '', description: '' }, true],
    ['lavapipe by its driver', { vendor: '', architecture: '', device: '', description: 'llvmpipe (LLVM 15.0.6, 256 bits)' }, true],
    ['Windows without a GPU', { vendor: '', architecture: '', device: '', description: 'Microsoft Basic Render Driver' }, true],
    ['a name with warp inside', { ...NVIDIA, description: 'Warped Graphics 9' }, false],
  ])('judges %s', (_name, info, software) => {
    expect(describeAdapter(info).software).toBe(software);
  });
});
