/**
 * Reads fields of a JSON message and says which one is wrong.
 * It owns the checks and never decides what a wrong field means for the link.
 */

import { isJsonObject, type JsonObject } from './frame.ts';

/** A message that could be read as JSON but does not say what its type must say. */
export class MessageError extends Error {
  constructor(
    readonly id: number | null,
    message: string,
  ) {
    super(message);
    this.name = 'MessageError';
  }
}

export class Reader {
  constructor(
    private readonly fields: JsonObject,
    private readonly id: number | null,
    private readonly path = '',
  ) {}

  has(name: string): boolean {
    return this.fields[name] !== undefined;
  }

  text(name: string): string {
    const value = this.fields[name];
    return typeof value === 'string' ? value : this.refuse(name, 'a string');
  }

  count(name: string): number {
    const value = this.fields[name];
    return isCount(value) ? value : this.refuse(name, 'a whole number of at least 0');
  }

  choice<T extends string>(name: string, choices: readonly T[]): T {
    const value = this.fields[name];
    const found = choices.find((choice) => choice === value);
    return found ?? this.refuse(name, `one of ${choices.join(', ')}`);
  }

  choiceOrNull<T extends string>(name: string, choices: readonly T[]): T | null {
    return this.fields[name] === null ? null : this.choice(name, choices);
  }

  object(name: string): Reader {
    const value = this.fields[name];
    if (!isJsonObject(value)) return this.refuse(name, 'an object');
    return new Reader(value, this.id, `${this.path}${name}.`);
  }

  objects(name: string): Reader[] {
    const value = this.fields[name];
    if (!Array.isArray(value)) return this.refuse(name, 'an array');
    return value.map((item: unknown, index) => {
      if (!isJsonObject(item)) return this.refuse(`${name}[${index}]`, 'an object');
      return new Reader(item, this.id, `${this.path}${name}[${index}].`);
    });
  }

  texts(name: string): string[] {
    const value = this.fields[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      return this.refuse(name, 'an array of strings');
    }
    return value;
  }

  counts(name: string): number[] {
    const value = this.fields[name];
    if (!Array.isArray(value) || !value.every(isCount)) {
      return this.refuse(name, 'an array of whole numbers of at least 0');
    }
    return value;
  }

  /** All fields of this object, each a whole number. */
  everyCount(): Record<string, number> {
    for (const name of Object.keys(this.fields)) this.count(name);
    return this.fields as Record<string, number>;
  }

  private refuse(name: string, wanted: string): never {
    throw new MessageError(this.id, `${this.path}${name} is not ${wanted}`);
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
