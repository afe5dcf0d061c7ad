import { constants } from 'node:os';

/**
 * Error numbers of the host, as `errno(3)` names them. `ENOATTR` is what macOS says for `ENODATA`.
 * A number is used on the paths of the file system (nothing is allocated to say "no such file"),
 * the name everywhere a person reads it.
 */
export const errno = {
  ...constants.errno,
  /** Host is down: the store behind a subtree cannot be reached. Node does not list these four. */
  EHOSTDOWN: 112,
  ESTALE: constants.errno.ESTALE ?? 116,
  EDQUOT: constants.errno.EDQUOT ?? 122,
  ENOTBLK: 15,
} as const;

export type ErrnoName = keyof typeof errno;

const nameOf = new Map<number, ErrnoName>();
for (const [name, value] of Object.entries(errno)) {
  if (!nameOf.has(value)) nameOf.set(value, name as ErrnoName);
}

/** The name of an error number, or `E<number>` where the host has none. */
export function errnoName(value: number): string {
  return nameOf.get(value) ?? `E${value}`;
}
