/** Tables as RFC 4180 has them. */

export type Value = string | number | boolean | null;

export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Value[])[];
}

/** What spreadsheets would compute. */
const FORMULA = /^[=+\-@\t\r]/;

function field(value: Value): string {
  if (typeof value !== 'string') {
    return value === null ? '' : String(value);
  }
  const inert = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

export function csv({ columns, rows }: Table): string {
  return [columns, ...rows].map((line) => `${line.map(field).join(',')}\r\n`).join('');
}
