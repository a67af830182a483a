import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['protocol/**/*.test.ts', 'harness/**/*.test.ts', 'report/**/*.test.ts', 'dashboard/**/*.test.ts'], environment: 'node' },
});
