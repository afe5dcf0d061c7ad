import { MirageError } from '../errors/mirage-error.js';

/** One thing that is wrong with a configuration. */
export interface Problem {
  /** `file:line`, or the option on the command line. */
  readonly place: string;
  readonly what: string;
  readonly why: string;
  readonly remedy: string;
}

/** Everything that is wrong with a configuration, in the order of the file. Never carries a value that may be a secret. */
export class ConfigurationError extends MirageError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    const first = problems[0];
    super(first === undefined ? 'invalid configuration' : `${first.place}: ${first.what}`, {
      errno: 'EINVAL',
      ...(first && { hint: first.remedy, cause: new Error(first.why) }),
    });
    this.problems = problems;
  }
}

/** The known word that was probably meant, if one is near (edit distance ≤ 2, or a third of its length), or one begins with the other. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let distance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const d = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (d < distance) {
      best = candidate;
      distance = d;
    }
  }
  return best ?? known.find((candidate) => beginsAlike(word.toLowerCase(), candidate.toLowerCase()));
}

const beginsAlike = (a: string, b: string): boolean =>
  Math.min(a.length, b.length) >= 3 && (a.startsWith(b) || b.startsWith(a));

/** Levenshtein's distance, a swap of neighbours counting one. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let d = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        d = Math.min(d, beforeLast[j - 2]! + 1);
      }
      row.push(d);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}
