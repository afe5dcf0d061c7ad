/** Sizes and durations as people write them: `10g`, `60s`; a bare number is bytes or seconds. */
import { z } from 'zod';

const sizeUnits = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 } as const;
const durationUnits = { ms: 1, '': 1000, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Bytes: a number, or a number with k, m, g or t (powers of 1024; `10g`, `10GiB` and `10 GB` are the same). */
export const byteSize = () =>
  z
    .union([z.number().nonnegative(), z.string().regex(/^\d+(\.\d+)?\s*([kmgt](i?b)?|b)?$/i, 'not a size')])
    .transform((value) => Math.round(quantity(value, sizeUnits, (unit) => unit[0]?.replace('b', '') ?? '')))
    .describe('bytes, or a number with k, m, g, t: 10g');

/** Milliseconds: a number of seconds, or a number with ms, s, m, h or d. */
export const duration = () =>
  z
    .union([z.number().nonnegative(), z.string().regex(/^\d+(\.\d+)?\s*(ms|s|m|h|d)?$/i, 'not a duration')])
    .transform((value) => Math.round(quantity(value, durationUnits, (unit) => unit)))
    .describe('seconds, or a number with ms, s, m, h, d: 60s');

function quantity(
  value: number | string,
  units: Readonly<Record<string, number>>,
  normalise: (unit: string) => string,
): number {
  const [, amount, unit] = /^([\d.]+)\s*([a-z]*)$/i.exec(String(value)) ?? [];
  return Number(amount) * (units[normalise((unit ?? '').toLowerCase())] ?? 1);
}
