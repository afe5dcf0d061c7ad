import { ConfigurationError } from '../config/problem.js';
import { explain } from '../daemon/explanation.js';
import type { ErrnoName } from '../errors/errno.js';

/** Documented and stable: scripts rely on them. */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  temporary: 5,
  conflict: 6,
  refused: 7,
  partial: 8,
  nothingToDo: 9,
} as const;

const byErrno: Partial<Record<ErrnoName, number>> = {
  ENOENT: exitCodes.notFound,
  ENODEV: exitCodes.notFound,
  EACCES: exitCodes.denied,
  EPERM: exitCodes.denied,
  EHOSTDOWN: exitCodes.temporary,
  EHOSTUNREACH: exitCodes.temporary,
  ENETUNREACH: exitCodes.temporary,
  ECONNREFUSED: exitCodes.temporary,
  ETIMEDOUT: exitCodes.temporary,
  EAGAIN: exitCodes.temporary,
  ESTALE: exitCodes.conflict,
  EDQUOT: exitCodes.refused,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigurationError) return exitCodes.usage;
  return byErrno[explain(error).errno] ?? exitCodes.failure;
}
