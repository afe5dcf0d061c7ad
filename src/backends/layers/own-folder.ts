import { MirageError } from '../../errors/mirage-error.js';
import type { Backend } from '../contract.js';
import { CHANGES, intercept } from './intercept.js';

/** What Mirage keeps in a store for itself lies in this folder at its root. */
const OWN_FOLDER = '.mirage';

const isOwn = (key: string): boolean => key === OWN_FOLDER || key.startsWith(`${OWN_FOLDER}/`);

/** Hides our own folder from programs: it is not found, not listed, and cannot be made. */
export function hideOwnFolder(inner: Backend): Backend {
  return {
    ...intercept(inner, async (operation, key, context, proceed) => {
      if (isOwn(key) && CHANGES.has(operation)) {
        throw new MirageError(`${key}: the name is taken by Mirage itself`, {
          errno: 'EPERM',
          hint: 'choose another name',
        });
      }
      return proceed(context);
    }),
    stat: async (key, context) => (isOwn(key) ? undefined : inner.stat(key, context)),
    async list(prefix, cursor, context) {
      if (isOwn(prefix)) return { entries: [], cursor: undefined };
      const page = await inner.list(prefix, cursor, context);
      if (prefix !== '') return page;
      return { ...page, entries: page.entries.filter(({ key }) => !isOwn(key)) };
    },
  };
}
