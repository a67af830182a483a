/**
 * A program for a GPU as the daemon sends it, and what a session holds that it is run with.
 * It owns the shapes of both and never touches a device.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import { Failure } from '../../failure.ts';
import { widthOf } from './elements.ts';
import type { Kept } from './kept.ts';

/** As `src/kernels/gpu/program.rs` writes it. */
export interface GpuProgram extends Ports {
  /** Bytes of each buffer. */
  readonly buffers: readonly number[];
  readonly fills: readonly Fill[];
  /** None of a program that computes each step by itself. */
  readonly kept: Kept | null;
  /** WGSL. */
  readonly modules: readonly string[];
  readonly pipelines: readonly Pipeline[];
  /** Bytes of the block that are the dispatches' parameters; the block begins with them. */
  readonly uniforms: number;
  readonly once: readonly Dispatch[];
  readonly calls: readonly Dispatch[];
  /** The buffer of the word that a kernel sets when it meets what it cannot compute. */
  readonly fault: number;
}

export interface Ports {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
}

export interface Port {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  /** None without elements, and for an input whose value the program was made for. */
  readonly buffer: number | null;
}

export interface Fill {
  readonly buffer: number;
  readonly datatype: string;
  readonly elements: number;
  readonly source: Source;
}

export type Source = { readonly block: { readonly offset: number } } | { readonly file: FileSource };

export interface FileSource {
  readonly name: string;
  readonly offset: number;
}

export interface Pipeline {
  readonly module: number;
  readonly entry: string;
  readonly constants: Readonly<Record<string, number>>;
}

export interface Dispatch {
  readonly pipeline: number;
  readonly uniform: number;
  readonly uniform_bytes: number;
  readonly buffers: readonly number[];
  readonly groups: readonly [number, number, number];
}

/** Why a kernel could not go on, by the fault that it tells. */
export const FAULTS: Readonly<Record<number, string>> = { 1: 'an index is out of range' };

/** A session's files by their digests, which programs call them by. */
export type Files = ReadonlyMap<string, Bytes>;

/** A program's parts in the body of its message: first the block, then its JSON. */
export function partsOf(body: Bytes, blockBytes: number): { json: string; block: Bytes } {
  if (blockBytes > body.length) {
    throw new Failure('invalid_request', 'never', `the program's block of ${blockBytes} bytes came with ${body.length}`);
  }
  return { block: body.subarray(0, blockBytes), json: new TextDecoder().decode(body.subarray(blockBytes)) };
}

/** What a program calls by its place in a list. */
export function at<T>(list: readonly T[], index: number, what: string): T {
  const found = list[index];
  if (found === undefined) throw new Failure('internal', 'elsewhere', `the program has no ${what} ${index}`);
  return found;
}

/** The bytes that a buffer is filled with, as they lie in their source. */
export function fillBytes({ datatype, elements, source }: Pick<Fill, 'datatype' | 'elements' | 'source'>, block: Bytes, files: Files): Bytes {
  const length = elements * widthOf(datatype);
  const [bytes, offset, name] = sourceOf(source, block, files);
  if (offset + length > bytes.length) {
    throw new Failure('internal', 'elsewhere', `${name} has no ${length} bytes at ${offset}`);
  }
  return bytes.subarray(offset, offset + length);
}

function sourceOf(source: Source, block: Bytes, files: Files): [bytes: Bytes, offset: number, name: string] {
  if ('block' in source) return [block, source.block.offset, "the program's block"];
  const { name, offset } = source.file;
  const bytes = files.get(name);
  if (bytes === undefined) throw new Failure('internal', 'elsewhere', `the model has no file ${name}`);
  return [bytes, offset, `the file ${name}`];
}

/** Whether a buffer takes the bytes as they lie, which are weights of few bits; else an element takes four. */
export function isRaw({ buffer, elements }: Fill, buffers: readonly number[]): boolean {
  return at(buffers, buffer, 'buffer') < elements * 4;
}
