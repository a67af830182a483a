/**
 * Colours that people tell apart whatever they see of colours: cividis for amounts, PuOr of ColorBrewer for ratios,
 * Okabe and Ito's for backends. Nothing is told by colour alone.
 */

export interface Theme {
  readonly ink: string;
  readonly faint: string;
  readonly line: string;
  readonly paper: string;
  /** Of a place where nothing was measured. */
  readonly empty: string;
}

export const LIGHT: Theme = {
  ink: '#1c2126',
  faint: '#5b6570',
  line: '#d5dae0',
  paper: '#ffffff',
  empty: '#eceff2',
};

export const DARK: Theme = {
  ink: '#e6e9ec',
  faint: '#a3adb8',
  line: '#3a434d',
  paper: '#14181c',
  empty: '#252c33',
};

const BACKENDS: Readonly<Partial<Record<string, string>>> = {
  wasm: '#e69f00',
  webgpu: '#009e73',
  webnn: '#cc79a7',
  // Ours, as the engine's that compute in the same place.
  'weft-wasm': '#e69f00',
  'weft-wgsl': '#009e73',
};

/** Sky blue stands out from light and dark grounds less than a deeper one does. */
const NATIVE: Readonly<Record<'light' | 'dark', string>> = { light: '#0072b2', dark: '#56b4e9' };

export function backendColour(backend: string, theme: Theme): string {
  return BACKENDS[backend] ?? NATIVE[theme === DARK ? 'dark' : 'light'];
}

/** Black or white, whichever is read better on this `rgb(…)` or `#rrggbb`. */
export function inkOn(colour: string): string {
  const parts = colour.startsWith('#')
    ? [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))
    : (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
  const linear = parts.map((part) => {
    const share = part / 255;
    return share <= 0.040_45 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const [red = 0, green = 0, blue = 0] = linear;
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.179 ? '#000000' : '#ffffff';
}
