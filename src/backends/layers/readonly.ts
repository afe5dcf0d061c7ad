import { MirageError } from '../../errors/mirage-error.js';
import type { Backend } from '../contract.js';
import { CHANGES, intercept } from './intercept.js';

/** Refuses every change with EROFS, so that a mount of mode `read` cannot write whatever asks it to. */
export function readonly(inner: Backend): Backend {
  return intercept(inner, async (operation, _key, context, proceed) => {
    if (CHANGES.has(operation) || operation === 'beginUpload') {
      throw new MirageError(`${operation}: the mount is read-only`, {
        errno: 'EROFS',
        hint: 'set `mode: write` for this mount',
      });
    }
    return proceed(context);
  });
}
