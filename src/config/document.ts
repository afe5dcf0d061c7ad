import { isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml';
import { MirageError } from '../errors/mirage-error.js';
import { isSecretName, type Redaction } from '../log/redaction.js';
import type { Environment } from './directories.js';
import { interpolate, isInterpolated } from './interpolate.js';
import { ConfigurationError, type Problem } from './problem.js';

export type Path = readonly string[];
export type Plain = Readonly<Record<string, unknown>>;
export const isPlain = (value: unknown): value is Plain =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A configuration as plain data, with the place of everything in it. */
export interface ConfigurationDocument {
  readonly value: unknown;
  /** `file:line` of a key, or of the nearest thing above it. */
  place(path: Path): string;
  /** What a person calls it: `mounts.data.bucket`. */
  name(path: Path): string;
  /** Secrets that stand in the text itself, not behind a variable. */
  readonly inlineSecrets: readonly Path[];
}

/** Reads YAML and fills in the variables. */
export function readDocument(
  text: string,
  file: string,
  environment: Environment,
  redaction: Redaction,
): ConfigurationDocument {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const lines = new Map<string, number>();
  const lineAt = (offset: number): number => counter.linePos(offset).line;
  const problems: Problem[] = document.errors.map((error) => ({
    place: `${file}:${lineAt(error.pos[0])}`,
    what: 'the file is not valid YAML',
    why: error.message,
    remedy: 'mend the line; indent with spaces, put text with : or # in quotes',
  }));
  const inlineSecrets: Path[] = [];

  const read = (node: unknown, path: Path): unknown => {
    const source = node as Node | null;
    if (source?.range && !lines.has(path.join('\0'))) lines.set(path.join('\0'), lineAt(source.range[0]));
    if (isMap(node)) {
      const entries = (node.items as Pair[]).map((pair): [string, unknown] => {
        const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
        const below = [...path, key];
        const at = (pair.key as Node | null)?.range;
        if (at) lines.set(below.join('\0'), lineAt(at[0]));
        return [key, read(pair.value, below)];
      });
      return Object.fromEntries(entries);
    }
    if (isSeq(node)) return node.items.map((item, index) => read(item, [...path, String(index)]));
    const value = isScalar(node) ? node.value : source && 'resolve' in source ? source.toJS(document) : null;
    if (typeof value !== 'string') {
      if (value !== null && isSecretName(path.at(-1) ?? '')) {
        inlineSecrets.push(path);
        redaction.add(String(value));
      }
      return value ?? undefined;
    }
    try {
      const filled = interpolate(value, { environment, redaction });
      if (isSecretName(path.at(-1) ?? '')) {
        redaction.add(filled);
        if (!isInterpolated(value) && value !== '') inlineSecrets.push(path);
      }
      return filled;
    } catch (error) {
      if (!(error instanceof MirageError)) throw error;
      problems.push({
        place: `${file}:${lines.get(path.join('\0')) ?? 1}`,
        what: error.message,
        why: `${path.join('.')} needs it`,
        remedy: error.hint ?? '',
      });
      return undefined;
    }
  };

  const value = read(document.contents, []);
  if (problems.length > 0) throw new ConfigurationError(problems);
  return {
    value,
    inlineSecrets,
    name: (path) => path.join('.'),
    place(path) {
      for (let length = path.length; length >= 0; length--) {
        const line = lines.get(path.slice(0, length).join('\0'));
        if (line !== undefined) return `${file}:${line}`;
      }
      return `${file}:1`;
    },
  };
}
